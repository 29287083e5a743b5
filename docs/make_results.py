"""Write docs/results.md, and the figures of the README and of docs, from the kept records.

    python docs/make_results.py

Each folder of docs/results is a run's: its records and its environment. No number of the page is typed by hand.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jaxopt_study import verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.results import Results
from jaxopt_study.report import figures as drawing
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table
from jaxopt_study.studies.loops.headline import FASTEST, LARGE, USUAL_LOOPS, Headline

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "results", HERE / "results.md"
RUNS = ("main_job", "loops", "hessian", "newton", "minimizers", "ranking")
"""The folders of `KEPT` whose tables are on the page, in its order."""
MACHINES = {"loops": "", "main_job": "", "main_job_two_cores": "", "main_job_float64": "", "main_job_avx2": ", AVX2"}
"""The folders of `KEPT` in the table by machine, which the README has too; and the vectors that one did not record."""
FIGURES = {
    "loops_ratio.svg": ("loops", "loops_ratio"),
    "minimizers_profile.svg": ("minimizers", "minimizers_profile"),
    "ranking_sensitivity.svg": ("ranking", "ranking_sensitivity_digits-mlp"),
    "ranking_budgets.svg": ("ranking", "ranking_budgets"),
}
"""A file of docs -> the kept run, and the name of its figure."""
HEAD = """# Results

`python docs/make_results.py` writes this page from the records in
`docs/results`, each folder of which is one run. A time is shown only if its
value agrees; a ratio has its exact 95 % interval. "Unstable" means that an equal
run may give a ratio that is more than 10 % away. Tables of other machines and
days, whose records were not kept, are in [earlier.md](earlier.md).
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, text.markdown(by_machine()), *(of_run(KEPT / name) for name in RUNS)])


def by_machine() -> Table:
    """Return the three ratios of each of `MACHINES`."""
    rows = []
    for name, vectors in MACHINES.items():
        where = environment.read(KEPT / name)
        plan, results, _ = read(KEPT / name)
        ratios = {row["pair"]: row["ratio"] for row in Headline().rows(results, plan)}
        cores = "1 core" if plan.threads == 1 else f"{plan.threads} cores"
        machine = f"{where['cpu']}{vectors}; {cores}, {plan.dtype}"
        run = "main job" if plan.overview else " ".join(plan.studies)
        rows.append((machine, run, *(text.ratio(ratios.get(pair)) for pair in (USUAL_LOOPS, FASTEST, LARGE))))
    columns = ("PyTorch / JAX [95 %]", "run", "usual loops", "fastest loops", "large step")
    return Table("By machine", columns, rows, left=("run",), main=columns[2:])


def figures() -> dict[str, str]:
    """Return the text of each file of `FIGURES`."""
    found = {}
    for file, (run, name) in FIGURES.items():
        _, _, sections = read(KEPT / run)
        (figure,) = [figure for section in sections for figure in section.figures if figure.name == name]
        found[file] = drawing.svg(figure)
    return found


@cache
def read(folder: Path) -> tuple[Plan, Results, list[verdict.Section]]:
    """Return what a kept run was asked for, what its records come to, and its sections."""
    plan = environment.plan_of(environment.read(folder))
    results = verdict.evaluate(record.read(folder), plan)
    return plan, results, verdict.sections(results, plan)


def of_run(folder: Path) -> str:
    """Return what a run came to: its command, its machine, what it concluded, its tables."""
    where = environment.read(folder)
    plan, results, drawn = read(folder)
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
    for file, svg in figures().items():
        (HERE / file).write_text(svg, encoding="utf-8")
