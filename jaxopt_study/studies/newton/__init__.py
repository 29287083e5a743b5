"""When does Newton's method pay? It and its relatives race first-order methods to one penalized optimum."""

from jaxopt_study.studies.newton.arms import groups
from jaxopt_study.studies.newton.judgement import findings, rows
from jaxopt_study.studies.newton.pages import figures, tables, verdict
from jaxopt_study.studies.newton.race import summarize, task

QUESTION = "Newton: when do second-order methods pay?"

__all__ = ["QUESTION", "summarize", "figures", "findings", "groups", "rows", "tables", "task", "verdict"]
