"""The page of results and the figures of docs hold what the kept records say, and nothing else."""

import importlib.util
import itertools
import re
from pathlib import Path

import pytest
from rich.console import Console

from jaxopt_study.report import figures as drawing
from jaxopt_study.report import screen, table

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def made():
    """The module that makes the page, the page, and the tables in it."""
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables = []
    with pytest.MonkeyPatch.context() as patch:
        markdown = table.markdown
        patch.setattr(table, "markdown", lambda found: tables.append(found) or markdown(found))
        return module, module.page(), tables


def test_the_page_is_what_the_kept_records_say(made):
    module, page, _ = made
    assert {path.name for path in module.KEPT.iterdir()} == {*module.RUNS, *module.MACHINES}
    assert page == module.PAGE.read_text()


def test_the_readme_has_the_table_by_machine(made):
    module, _, _ = made
    readme = (DOCS.parent / "README.md").read_text()
    for cells in module.by_machine().rows:
        assert f"| {' | '.join(cells)} |" in readme


def test_the_readmes_answers_are_on_the_page(made):
    """Its counts are small words; numbers with decimals or three places are those of the kept runs."""
    _, page, _ = made
    answers = [line.split("|")[2] for line in (DOCS.parent / "README.md").read_text().splitlines()[6:11]]
    numbers = [number for answer in answers for number in re.findall(r"\d[\d,]*\.\d+(?:e-\d+)?|\d[\d,]{2,}", answer)]
    assert len(numbers) > 6
    assert [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", page)] == []


def test_a_table_too_wide_for_a_terminal_says_what_is_shown_first(made):
    _, _, tables = made
    console = Console(width=80)
    wide = [found for found in tables if screen.fit(found, console).columns != found.columns]
    assert len(wide) > 10
    for found in wide:
        assert found.main, found.title
        assert found.main[0] in screen.fit(found, console).columns, found.title


def test_the_figures_are_what_the_kept_records_say(made):
    module, _, _ = made
    drawn = module.figures()
    assert set(drawn) == set(module.FIGURES)
    for file, svg in drawn.items():
        assert (DOCS / file).read_text() == svg, f"{file}: run python docs/make_results.py"


def test_no_figure_needs_a_long_legend(made):
    module, _, _ = made
    for run in ("main_job", "ranking"):
        _, _, sections = module.read(module.KEPT / run)
        for figure in [figure for section in sections for figure in section.figures]:
            groups = {row.get("group") for rows in figure.make.args[:1] for row in rows}
            assert 1 <= len(groups) <= 4, figure.name
            assert figure.title
            assert all(axis.title for axis in figure.make.args[1:] if hasattr(axis, "title"))


LABEL = re.compile(
    r'<text text-anchor="middle" transform="translate\(([-\d.]+),[\d.]+\)"[^>]*opacity="1">([^<]+)</text>'
)


def labels_below(svg):
    """Return for each horizontal axis where its labels begin and end, and their words."""
    for group in re.findall(r'role-axis-label"[^>]*>(.*?)</g>', svg):
        if found := [(float(x), words) for x, words in LABEL.findall(group)]:
            halves = [sum(1.25 if c in ".,- " else 2.5 for c in words) for _, words in found]  # at 9 points
            yield sorted((x - half, x + half, words) for (x, words), half in zip(found, halves, strict=True))


def test_labels_of_ticks_are_apart_and_legends_show_whole_points(made):
    """Of each figure of each kept run, at both widths."""
    module, _, _ = made
    pairs = symbols = 0
    for run, width in itertools.product(module.RUNS, (drawing.WIDE, drawing.COLUMN)):
        _, _, sections = module.read(module.KEPT / run)
        for figure in [figure for section in sections for figure in section.figures]:
            svg = drawing.svg(figure, width)
            for (_, end, one), (start, _, other) in (p for axis in labels_below(svg) for p in itertools.pairwise(axis)):
                assert start - end > 3, f"{figure.name}, {width}: {one!r} and {other!r} are not apart"
                pairs += 1
            for symbol in re.findall(r'role-legend-symbol"[^>]*>(.*?)</g>', svg):
                assert "dasharray" not in symbol or "Z" not in symbol, f"{figure.name}: a broken outline"
                symbols += 1
    assert pairs > 100
    assert symbols > 20
