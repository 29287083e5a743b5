"""The page of results and the figures of docs hold what the kept records say, and nothing else."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_page_is_what_the_kept_records_say(module):
    assert module.page() == module.PAGE.read_text()


def test_the_figures_are_what_the_kept_records_say(module):
    drawn = module.figures()
    assert {"loss_per_epoch.svg", "ranking_sensitivity.svg", "ranking_budgets.svg"} <= set(drawn)
    for file, svg in drawn.items():
        assert (DOCS / file).read_text() == svg, f"{file}: run python docs/make_results.py"


def test_no_figure_needs_a_long_legend(module):
    for run in ("main_job", "ranking"):
        _, _, sections = module.read(module.KEPT / run)
        for figure in [figure for section in sections for figure in section.figures]:
            groups = {row.get("group") for rows in figure.make.args[:1] for row in rows}
            assert 1 <= len(groups) <= 4, figure.name
            assert figure.title
            assert all(axis.title for axis in figure.make.args[1:] if hasattr(axis, "title"))
