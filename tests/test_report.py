"""Records as tables, charts, a page and other tools' files."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jaxopt_study.bench.ratio import NO_DIFFERENCE, UNSTABLE, Ratio
from jaxopt_study.config import ConfigError
from jaxopt_study.report import against, bundle, charts, export, figure, figures, table
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.differences import Run
from tests.cases import a_record
from tests.conftest import make_plan


def runs(*groups):
    """Return runs of these records, in one environment."""
    where = {
        "started": "2026-01-01T00:00:00", "cpu": "a processor", "cores": {}, "memory_bytes": 2**30, "system": "Linux",
        "affinity": "set", "commit": None, "versions": {"jax": "1"}, "variables": {}, "workers": {},
    }  # fmt: skip
    return [Run(f"runs/{number}", where, make_plan(), group) for number, group in enumerate(groups)]


KEPT = Path(__file__).parent / "kept" / "main_job"


def test_two_runs_are_compared_case_by_case():
    noise = np.random.default_rng(5)

    def samples(scale):
        return tuple(scale * np.exp(0.01 * noise.standard_normal(13)))

    before = [
        a_record(samples=samples(1.0), digest="a"),
        a_record(subject="sgd", samples=samples(1.0)),
        a_record(subject="gone"),
    ]
    after = [a_record(samples=samples(1.0), digest="b"), a_record(subject="sgd", samples=samples(0.5))]
    both = runs(before, after)
    rows = against.rows(both)
    assert [(r["case"].split("/")[1], r["verdict"], r["same_value"]) for r in rows] == [
        ("sgd", "faster", True),
        ("adam", "no difference", False),
    ]
    assert against.sentences(rows, both) == [
        "Run 2 beside run 1: of 2 cases 1 faster, 1 no difference.",
        "Cases that only one run has a time of: 1.",
    ]


@pytest.mark.parametrize(
    ("speeds", "flags"),
    [
        ((1.0, 1.05), ()),
        ((1.0, 1.2), ("machine speed differs",)),
        ((1.0, 0.8), ("machine speed differs",)),
        ((0.0, 1.0), ()),  # it was not measured in the older run
    ],
)
def test_two_runs_on_a_machine_whose_own_speed_changed_are_marked(speeds, flags):
    both = runs(*([a_record(samples=(scale,) * 5, machine_seconds=(speed,) if speed else ())]
                  for scale, speed in zip((1.0, 1.3), speeds, strict=True)))  # fmt: skip
    (row,) = rows = against.rows(both)
    assert (row["verdict"], row["ratio"].flags) == ("slower", flags)
    _, times = against.tables(rows, both)
    assert times.rows[0][4:6] == ("slower", "differs" if flags else "")
    assert any(note.startswith("Machine speed differs: a fixed piece of Python") for note in times.notes) == bool(flags)
    assert any("machine's own speed" in words for words in against.sentences(rows, both)) == bool(flags)


@pytest.mark.parametrize(("factor", "verdict", "said"), [(2, "slower (unstable)", True), (1, "unstable", False)])
def test_an_unstable_ratio_is_not_called_slower_beyond_noise(factor, verdict, said):
    noisy = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    both = runs([a_record(samples=noisy)], [a_record(samples=tuple(factor * x for x in noisy))])
    rows = against.rows(both)
    assert against.tables(rows, both)[1].rows[0][4] == verdict
    words = against.sentences(rows, both)
    assert ("None is slower beyond noise. Slower, but unstable: 1." in words) == said


@pytest.mark.parametrize(("profile", "verdict"), [("smoke", "no difference"), ("full", "not comparable")])
def test_the_spread_of_another_number_of_networks_is_other_work(profile, verdict):
    both = runs(*[[a_record(study="spread", samples=(1.0,) * 7)]] * 2)
    both[1] = replace(both[1], plan=make_plan(profile=profile))
    assert [row["verdict"] for row in against.rows(both)] == [verdict]


def test_times_are_exported_for_pyperf(tmp_path):
    import pyperf

    path = export.pyperf([a_record(samples=(2.0, 4.0, 6.0), sample_laps=2, steps=10)], tmp_path)
    (benchmark,) = pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()
    assert benchmark.get_name() == "optimizers/adam/jax/scan"
    assert benchmark.get_values() == (0.1, 0.2, 0.3)


def test_a_table_is_markdown_that_a_reader_can_read():
    page = table.markdown(table.Table("Title", ("name", "x"), [("a", "1"), ("b", "2")], ("A note.",)))
    assert page.startswith("## Title\n\n| name")
    assert "| a" in page
    assert page.rstrip().endswith("A note.")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0123, "12.3 ms"), (2.5, "2.50 s"), (1.4e-6, "1.40 µs"), (7.94e-7, "794 ns"), (123.4, "123 s"), (math.nan, "-")],
)
def test_times_are_written_with_three_digits(value, words):
    assert table.seconds(value) == words


GROUPS = ("JAX", "PyTorch", "NumPy", "C", "a limit")
POINTS = [{"name": n, "group": g, "value": 1e-6 * (p + 1)} for n in "ab" for p, g in enumerate(GROUPS)]
LINES = [{"x": x, "y": y, "group": g, "panel": "p"} for g in GROUPS[:2] for x, y in ((1.0, 1e-9), (2.0, 3e-6))]
MADE = {
    "points": partial(charts.points, POINTS, Axis("time per step", "s", log=True)),
    "lines": partial(charts.lines, LINES, Axis("epoch"), Axis("loss", log=True), context=True),
    "plane": partial(
        charts.plane,
        [{"x": 0.5, "y": 0.5, "step": 0, "group": "JAX", "panel": "adam", "end": "start"}],
        [{"x": 0.1, "y": 0.2, "step": 0, "curve": "0"}],
        *(Axis(name, ends=(0, 1)) for name in "xy"),
        (0.0, 0.0),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_figures_are_written_as_svg_png_and_pdf_the_same_each_time(name, tmp_path):
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        figures.save(figures.Figure("chart", "A title", "A caption.", MADE[name]), folder)
        contents.append((folder / "chart.svg").read_bytes())
        assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert contents[0] == contents[1]
    assert b">A title</text>" in contents[0]
    pdf = (folder / "chart.pdf").read_bytes()
    assert b"FontFile" in pdf
    width = float(re.search(rb"MediaBox \[0 0 ([\d.]+)", pdf)[1])
    assert 0.8 * figures.COLUMN < width <= 1.03 * figures.COLUMN  # in points; 3.3 in is a column


def test_a_framework_has_one_colour_and_one_shape_in_every_chart():
    for name, kind in (("points", "value"), ("lines", "y")):
        spec = figures.Figure("chart", "A title", "A caption.", MADE[name]).spec
        layers = spec.get("spec", spec)["layer"]
        (marks,) = [layer["encoding"] for layer in layers if "shape" in layer["encoding"]]
        assert kind in str(marks)
        for channel in ("color", "shape"):
            scale = marks[channel]["scale"]
            seen = dict(zip(scale["domain"], scale["range"], strict=True))
            assert len({*seen.values()}) == len(seen)
            assert seen["JAX"] == {"color": "#0072B2", "shape": "circle"}[channel]
            assert seen["PyTorch"] == {"color": "#D55E00", "shape": "square"}[channel]


def test_points_of_one_row_have_heights_of_their_own():
    drawn = figures.Figure("chart", "A title", "A caption.", MADE["points"]).spec
    rows = [row for rows in drawn["datasets"].values() for row in rows]
    assert len({row["height"] for row in rows if row["name"] == "a"}) == len(GROUPS)


@pytest.mark.parametrize(
    ("axis", "ends", "ticks"),
    [
        (Axis("time", "s", log=True), (2e-7, 3e-3), [1e-6, 1e-5, 1e-4, 1e-3]),
        (Axis("ratio", log=True), (0.9, 30), [1, 2, 5, 10, 20]),
        (Axis("gap", log=True), (1e-16, 1), [1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1]),
        (Axis("memory", "B", log=True), (2e8, 6e8), [2.0**28, 2.0**29]),
        (Axis("epoch"), (0, 15), None),
        (Axis("trials", names=("default", "1")), (0, 1), [0, 1]),
    ],
)
def test_ticks_are_round_in_their_unit(axis, ends, ticks):
    found = axis.ticks(axis.domain(ends))
    assert found == ticks if ticks is None else found == pytest.approx(ticks)


def test_what_an_axis_cannot_show_is_left_out():
    axis = Axis("time", "s", log=True, ends=(None, 10))
    assert [axis.shows(value) for value in (1, 0, -1, math.nan, math.inf, None, 11)] == [True] + 6 * [False]
    rows = [{"name": "a", "group": "JAX", "value": value} for value in (0.0, None, 1.0)]
    made = figures.Figure("chart", "A title", "A caption.", partial(charts.points, rows, axis)).spec
    assert [row["value"] for rows in made["datasets"].values() for row in rows] == [1.0]


def test_a_figure_of_a_folder_is_an_altair_chart(tmp_path):
    import altair as alt

    found = figure(KEPT, "time_per_step", column=True)
    assert isinstance(found, alt.LayerChart)
    assert found.width == figures.COLUMN
    with pytest.raises(ValueError, match="no figure 'growth': choose from loss_per_epoch, time_per_step"):
        figure(str(KEPT), "growth")
    with pytest.raises(ConfigError, match="holds no run"):
        figure(tmp_path, "growth")


@pytest.mark.parametrize(
    ("value", "words"), [(1350.4, "1,350"), (99.97, "100"), (0.98765, "0.988"), (12.34, "12.3"), (0, "0")]
)
def test_numbers_are_written_with_three_digits_and_no_exponent(value, words):
    assert table.plain(value) == words


def test_a_note_explains_the_flags_that_are_shown():
    steady = Ratio(1.0, 0.99, 1.01, (NO_DIFFERENCE,))
    doubtful = Ratio(1.0, 0.8, 1.2, (NO_DIFFERENCE, UNSTABLE))
    assert table.ratio(None) == "-"
    assert table.ratio(steady) == "1.00 [0.990, 1.01] (no difference)"
    assert table.ratio(doubtful) == "1.00 [0.800, 1.20] (unstable)"
    (note,) = table.flags([doubtful, None])
    assert "unstable: an equal run" in note.lower()
    assert "no difference" not in note.lower()
    assert table.flags([Ratio(2.0, 1.9, 2.1)]) == []


def test_a_report_has_its_tables_where_a_jupyter_kernel_writes_it(monkeypatch):
    """rich takes a process for a kernel whose `get_ipython` gives a shell of this name."""
    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    assert Console().is_jupyter
    page = table.markdown(table.Table("Times", ("loop", "per step"), [("scan", "2 ms")]))
    assert "| scan |     2 ms |" in page


def test_the_script_of_pages_is_bundled_once_and_never_ends_early(tmp_path, monkeypatch):
    import vl_convert

    made = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: made.append(1) or "let x = '</script>';")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bundle.script() == bundle.script() == f"let x = '<\\/script>';{bundle.END}"
    assert len(made) == 1
    (kept,) = (tmp_path / "jaxopt_study").iterdir()
    kept.write_text("let x = '")  # cut off
    assert bundle.script().endswith(bundle.END)
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # no folder can be made there
    assert bundle.script().endswith(bundle.END)
    assert len(made) == 3
