"""Records as tables, charts, a page and other tools' files."""

import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from jaxopt_study.bench.ratio import NO_DIFFERENCE, UNSTABLE, Ratio
from jaxopt_study.report import against, export, figure, table
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


def test_figures_are_written_as_png_and_svg_the_same_each_time(tmp_path):
    chart = figure.Figure("chart", "A chart.", lambda axes: axes.plot([1, 2], [3, 4]))
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        figure.save(chart, tmp_path / name)
        contents.append((tmp_path / name / "chart.svg").read_bytes())
        assert (tmp_path / name / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert contents[0] == contents[1]


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
