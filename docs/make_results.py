"""Write docs/results.md from the kept records.

    python docs/make_results.py

Each folder of docs/results is a run's: its records and its environment. No figure of the page is typed by hand.
"""

from __future__ import annotations

from pathlib import Path

from jaxopt_study import verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "results", HERE / "results.md"
RUNS = ("main_job", "loops", "hessian", "newton", "ranking")
"""The folders of `KEPT`, in the order of the page."""
HEAD = """# Results by machine

`python docs/make_results.py` writes this page from the records in
`docs/results`, each folder of which is one run. A time is shown only if its
value agrees; a ratio has its exact 95 % interval. "Unstable" means that an equal
run may give a ratio that is more than 10 % away. Tables of other machines and
days, whose records were not kept, are in [earlier.md](earlier.md).
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *(of_run(KEPT / name) for name in RUNS)])


def of_run(folder: Path) -> str:
    """Return what a run came to: its command, its machine, what it concluded, its tables."""
    where = environment.read(folder)
    plan = environment.plan_of(where)
    results = verdict.evaluate(record.read(folder), plan)
    drawn = verdict.sections(results, plan)
    studies = "" if plan.overview else f" --studies {' '.join(plan.studies)}"
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("jax", "torch", "optax", "flax", "python"))
    facts = [sentence.words for sentence in verdict.opening(results, drawn, plan)]
    facts += [words for section in drawn for words in verdict.conclusions(section)]
    tables: list[Table] = [
        table for section in drawn for table in (section.brief if plan.overview else section.tables) if table.rows
    ]
    return "\n".join(
        [
            f"# `python -m jaxopt_study.compare{studies}`\n",
            f"{where['cpu']}, {plan.threads} of {where['cores']['at hand']} cores, {plan.dtype}, {versions}, "
            f"{where['started'][:10]}, commit {where['commit']}.\n",
            *(f"- {text.in_markdown(words)}" for words in facts),
            "",
            *(text.markdown(table) for table in tables),
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
