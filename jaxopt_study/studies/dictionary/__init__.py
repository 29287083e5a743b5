"""Is every torch.optim optimizer what the dictionary says it is in optax, on the versions installed?"""

from jaxopt_study.studies.dictionary.experiments import summarize, groups, task
from jaxopt_study.studies.dictionary.judgement import findings, rows
from jaxopt_study.studies.dictionary.pages import figures, tables, verdict

QUESTION = "Dictionary: is every torch.optim optimizer what we say it is in optax?"

__all__ = ["QUESTION", "summarize", "figures", "findings", "groups", "rows", "tables", "task", "verdict"]
