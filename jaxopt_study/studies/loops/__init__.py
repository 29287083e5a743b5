"""Where does the time of a training step go: which loop, which clock, and how much of it is work?"""

from jaxopt_study.studies.loops.experiments import summarize, groups, task
from jaxopt_study.studies.loops.judgement import findings, rows
from jaxopt_study.studies.loops.pages import figures, tables, verdict

QUESTION = "Loops: where does the time of a step go, and how does the ratio fall to one?"

__all__ = ["QUESTION", "summarize", "figures", "findings", "groups", "rows", "tables", "task", "verdict"]
