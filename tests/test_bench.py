"""The measuring apparatus, without a framework."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study.bench import engine as engines
from jaxopt_study.bench import environment, load, record, stats, timing
from jaxopt_study.bench.case import Case, Group
from jaxopt_study.bench.engine import CaseFailed, Engine, WorkerDied, WorkerProcess
from jaxopt_study.bench.record import Record
from jaxopt_study.report import against, export, figure, table
from jaxopt_study.bench.task import Task, single
from jaxopt_study.parity import first_difference
from tests.conftest import make_plan

# Not st.floats: it refuses to work where subnormal numbers are flushed, as the torch backend does in its process.
numbers = st.one_of(st.just(math.nan), st.integers().map(lambda n: n / 7))


def a_record(**changes):
    facts = {
        "study": "optimizers",
        "subject": "adam",
        "framework": "jax",
        "method": "scan",
        "status": "ok",
        "group": "2026-01-01T00:00:00",
        "environment": "abc",
        "first_seconds": 1.0,
    }
    return Record(**(facts | changes))


# timing


class Still:
    """A runtime in which everything is ready, and nothing is compiled."""

    ready = True
    compiled = 0

    def is_ready(self, output):
        return self.ready

    def compilations(self):
        return self.compiled


class Counter:
    """A task that counts its laps, and gives a value of its own choosing after each run."""

    def __init__(self, values=(1.0,), laps=3):
        self.laps_made = 0
        self.runs = 0
        self._values = values
        self.task = Task(self._run, lambda output: {"x": np.array(output)}, laps=laps, steps=2)

    def _run(self, _):
        value = self._values[min(self.runs, len(self._values) - 1)]
        self.runs += 1
        for _ in range(self.task.laps):
            self.laps_made += 1
            yield value


PLACES = """
import numpy as np
from jaxopt_study.bench import timing
from jaxopt_study.backends.numpy import runtime
from jaxopt_study.bench.task import single

places = set()

def allocate():
    array = np.zeros(300)
    places.add(array.ctypes.data)
    return array

stepper = timing.Stepper(single(allocate, lambda array: {"array": array}), runtime)
stepper.first()
for _ in range(20):
    stepper.block()
print(len(places))
"""


def test_what_a_block_allocates_lies_elsewhere_each_time():
    """In a process as fresh as a worker; 11 to 21 places were seen, and 3 without the ballast."""
    answer = subprocess.run([sys.executable, "-c", PLACES], capture_output=True, text=True, check=True)
    assert int(answer.stdout) > 7


def test_a_stepper_makes_whole_runs_only():
    counter = Counter(laps=3)
    stepper = timing.Stepper(counter.task, Still())
    assert stepper.first() >= 0
    assert counter.laps_made == 1
    assert stepper.finish()["x"] == 1.0
    assert (counter.laps_made, counter.runs) == (3, 1)


def test_blocks_of_a_short_task_last_long_enough(monkeypatch):
    counter = Counter(laps=1)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 1e-4 * counter.laps_made)
    stepper = timing.Stepper(counter.task, Still())
    stepper.first()
    assert stepper.calibrate() in (100, 101)
    assert stepper.block() == pytest.approx(timing.SHORTEST_BLOCK, rel=0.02)
    assert 102 <= counter.laps_made <= 103


def test_what_a_run_begins_with_is_made_outside_the_clock(monkeypatch):
    seconds, made = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: seconds[0])

    def start():
        seconds[0] += 100
        made.append([])
        return made[-1]

    def run(state):
        for lap in range(2):
            seconds[0] += 0.001
            state.append(lap)
            yield state

    task = Task(run, lambda state: {"laps": np.array(state)}, laps=2, start=start)
    stepper = timing.Stepper(task, Still())
    assert stepper.first() == pytest.approx(100.001)  # all that a user waits for
    assert stepper.calibrate() == 10
    assert stepper.block() == pytest.approx(0.010)
    stepper.finish()
    assert made == [[0, 1]] * 6  # each run has a start of its own, and none is made in vain


def test_a_run_whose_value_changes_is_refused():
    stepper = timing.Stepper(Counter(values=(1.0, 1.0, 2.0), laps=1).task, Still())
    stepper.first()
    stepper.calibrate()
    with pytest.raises(RuntimeError, match="different values"):
        stepper.calibrate()


def test_two_nans_are_the_same_value():
    stepper = timing.Stepper(Counter(values=(math.nan,), laps=1).task, Still())
    stepper.first()
    stepper.calibrate()
    assert math.isnan(stepper.finish()["x"])


def test_a_lap_that_ends_before_its_output_is_there_is_refused():
    runtime = Still()
    runtime.ready = False
    with pytest.raises(timing.DeceivedError, match="dispatch"):
        timing.Stepper(Counter().task, runtime).first()


def test_a_block_that_compiles_is_refused_and_a_warm_up_that_does_is_not():
    runtime = Still()

    def compile_something():
        runtime.compiled += 1
        return 1.0

    stepper = timing.Stepper(single(compile_something, lambda x: {"x": np.array(x)}), runtime)
    stepper.first()
    stepper.calibrate()
    with pytest.raises(timing.DeceivedError, match="compiled anew"):
        stepper.block()


@pytest.mark.parametrize("value", [{}, {"x": np.zeros(0)}])
def test_a_task_that_returns_nothing_is_refused(value):
    with pytest.raises(timing.DeceivedError, match="returned nothing"):
        timing.Stepper(single(lambda: None, lambda _: value), Still()).first()


def test_stages_are_timed_by_name_before_the_first_lap():
    task = dataclasses.replace(Counter().task, stages=lambda: iter(("trace", "compile")))
    stages = timing.Stepper(task, Still()).stages()
    assert list(stages) == ["trace", "compile"]
    assert all(seconds >= 0 for seconds in stages.values())


def test_what_others_took_is_what_we_did_not():
    before, after = load.Reading(100.0, 20.0, 10.0), load.Reading(110.0, 26.0, 13.0)
    assert load.others(before, after) == pytest.approx(0.3)
    assert load.others(before, before) == 0
    assert load.others(before, load.Reading(110.0, 22.0, 13.0)) == 0  # clocks that tick apart
    assert load.read().own > 0


def test_a_task_that_raises_says_so_in_the_lap():
    def fail():
        raise MemoryError("no room")

    with pytest.raises(MemoryError):
        timing.Stepper(single(fail, dict), Still()).first()


# statistics


def test_equal_arms_are_no_difference_in_nineteen_of_twenty_runs():
    generator = np.random.default_rng(0)
    spans = [stats.ratio(*np.exp(0.05 * generator.standard_normal((2, 13)))).spans_one for _ in range(100)]
    assert sum(spans) >= 95  # 97 of 100 expected, and more for the resolution; measured 100


def test_a_planted_slow_down_is_found():
    generator = np.random.default_rng(1)
    arms = [np.exp(0.03 * generator.standard_normal((2, 13))) for _ in range(50)]
    found = [stats.ratio(1.1 * a, b) for a, b in arms]
    assert sum(interval.low > 1 for interval in found) >= 45  # measured 50
    assert abs(np.median([interval.value for interval in found]) - 1.1) < 0.01


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20))
def test_what_slows_a_whole_turn_is_not_in_the_ratio(slowdowns):
    turns = np.array(slowdowns)
    interval = stats.ratio(3 * turns, turns)
    assert [interval.value, interval.low, interval.high] == pytest.approx([3, 3, 3])


@pytest.mark.parametrize(("turns", "low", "high"), [(6, 1, 6), (9, 2, 8), (13, 3, 11), (20, 6, 15)])
def test_the_interval_of_a_ratio_is_the_sign_tests(turns, low, high):
    """The ranks that hold the median in 95 % of cases, of six turns and more: tables of the sign test have them."""
    ratios = np.random.default_rng(2).permutation(np.arange(1.0, turns + 1))
    assert stats.ratio(ratios, np.ones(turns)) == stats.Interval((turns + 1) / 2, low, high)


@pytest.mark.parametrize("turns", [2, 3, 4, 5, 6, 9, 13])
def test_an_interval_holds_the_true_ratio_in_nineteen_of_twenty_runs(turns):
    arms = np.exp(0.05 * np.random.default_rng(5).standard_normal((400, 2, turns)))
    found = [stats.ratio(a, b) for a, b in arms]
    assert sum(i.low <= 1 <= i.high for i in found) >= 370  # 380 expected; 372 was the least, of 5 turns
    assert all(i.low <= i.value <= i.high for i in found)


def test_a_ratio_is_vague_where_two_runs_may_part():
    assert stats.Interval(1, 0.92, 1.08).vague  # the difference of two such is known to 11 %
    assert not stats.Interval(1, 0.94, 1.06).vague
    assert stats.Interval(1, 0.935, 1.065).vague  # to 9 % by its turns, and to 10.1 % with what a process adds
    assert stats.Interval(1, math.nan, math.nan).vague


def test_less_than_the_resolution_is_no_difference():
    assert stats.Interval(1.015, 1.01, 1.02).spans_one
    assert stats.Interval(0.985, 0.983, 0.99).spans_one
    assert not stats.Interval(1.03, 1.021, 1.04).spans_one
    assert not stats.Interval(0.97, 0.96, 0.979).spans_one


def test_runs_of_two_days_are_compared_without_pairs():
    generator = np.random.default_rng(3)
    before, after = np.exp(0.02 * generator.standard_normal((2, 13)))
    assert stats.ratio_of_runs(after, before).spans_one
    slower = stats.ratio_of_runs(1.2 * after, before)
    assert 1.1 < slower.low < slower.value < slower.high < 1.3
    assert math.isnan(stats.ratio_of_runs(after[:1], before).low)


def test_overhead_and_slope_are_found_in_steps_of_very_different_work():
    work = np.geomspace(1e4, 1e9, 12)
    noise = np.exp(0.01 * np.random.default_rng(4).standard_normal(12))
    fixed, slope = stats.overhead(work, (1e-5 + 2e-11 * work) * noise)
    assert fixed.low < 1e-5 < fixed.high
    assert slope.low < 2e-11 < slope.high
    assert fixed.high - fixed.low < 1e-6


def test_one_sample_has_no_interval():
    assert math.isnan(stats.ratio(np.array([2.0]), np.array([1.0])).low)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20), st.integers(1, 10**6))
def test_distances_see_what_was_moved(values, billionths):
    by = 1e-9 * billionths
    curve = np.array(values) + 2e6
    assert stats.relative_distance(curve, curve) == stats.absolute_distance(curve, curve) == 0
    moved = curve.copy()
    moved[-1] *= 1 + by
    assert stats.relative_distance(moved, curve) == pytest.approx(by, rel=1e-3, abs=1e-12)
    assert stats.absolute_distance(moved, curve) == pytest.approx(by * curve[-1], rel=1e-3, abs=1e-9)


def test_a_curve_that_diverged_alone_is_infinitely_far():
    assert stats.relative_distance([1, math.nan], [1, 2]) == math.inf
    assert stats.absolute_distance([1, math.inf], [1, 2]) == math.inf
    assert stats.relative_distance([1, math.nan], [1, math.nan]) == 0


def test_percentiles_count_ties_half():
    assert stats.percentile_of(2, [1, 2, 3]) == 50
    assert stats.percentile_of(0, [1, 2, 3]) == 0


# records


@given(
    samples=st.lists(st.integers(0, 10**9).map(lambda n: n / 1e8), max_size=5).map(tuple),
    losses=st.lists(numbers, max_size=5),
    reason=st.text(max_size=20),
)
@settings(deadline=None, max_examples=50)
def test_records_come_back_as_they_were(tmp_path_factory, samples, losses, reason):
    folder = tmp_path_factory.mktemp("records")
    before = a_record(samples=samples, value={"losses": losses}, reason=reason)
    record.append(folder, [before])
    (after,) = record.read(folder)
    assert after.samples == samples
    assert after.reason == reason
    assert np.array_equal(after.value["losses"], losses, equal_nan=True)


def test_records_are_strict_json_that_pandas_reads(tmp_path):
    record.append(
        tmp_path, [a_record(samples=(1.0, 2.0), value={"losses": [math.inf, math.nan]}), a_record(subject="sgd")]
    )
    lines = (tmp_path / record.RECORDS).read_text().splitlines()
    assert "NaN" not in lines[0]
    assert json.loads(lines[0])["value"]["losses"] == [None, None]
    frame = pd.read_json(tmp_path / record.RECORDS, lines=True)
    assert list(frame["subject"]) == ["adam", "sgd"]


def test_the_last_record_of_a_case_counts(tmp_path):
    record.append(tmp_path, [a_record(status="failed", reason="killed"), a_record(subject="sgd")])
    record.append(tmp_path, [a_record(status="ok")])
    assert [(r.subject, r.status) for r in record.read(tmp_path)] == [("adam", "ok"), ("sgd", "ok")]


def test_a_line_that_was_cut_off_is_passed_over_and_can_be_dropped(tmp_path):
    record.append(tmp_path, [a_record()])
    path = tmp_path / record.RECORDS
    whole = path.read_text()
    path.write_text(whole + whole[:50])
    assert len(record.read(tmp_path)) == 1
    record.drop_cut_line(tmp_path)
    assert path.read_text() == whole


@pytest.mark.parametrize("line", ["rubbish", "[]", "7", '{"schema": 99}', '{"schema": 1, "unknown": 2}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / record.RECORDS).write_text(line + "\n")
    with pytest.raises(ValueError, match=r"records.jsonl:1 is not a record"):
        record.read(tmp_path)


def test_a_digest_sees_every_bit():
    value = {"x": np.array([1.0, 2.0])}
    assert record.digest(value) == record.digest({"x": np.array([1.0, 2.0])})
    assert record.digest(value) != record.digest({"x": np.nextafter([1.0, 2.0], 3)})
    assert record.digest(value) != record.digest({"x": np.array([1.0, 2.0], dtype=np.float32)})


def test_times_are_given_by_the_step():
    times = a_record(samples=(6.0, 12.0), block_laps=3, steps=2, laps=5)
    assert list(times.step_seconds) == [1.0, 2.0]
    assert times.run_steps == 10


def test_environments_differ_but_for_the_moment():
    old = {"key": "a", "started": "now", "versions": {"jax": "1", "torch": "2"}}
    new = {"key": "b", "started": "then", "versions": {"jax": "1", "torch": "3"}}
    assert environment.differences(old, new) == ["versions.torch was '2', is '3'"]


# report


def test_two_runs_are_compared_arm_by_arm():
    noise = np.random.default_rng(5)

    def samples(scale):
        return tuple(scale * np.exp(0.01 * noise.standard_normal(13)))

    before = [
        a_record(samples=samples(1.0), digest="a"),
        a_record(subject="sgd", samples=samples(1.0)),
        a_record(subject="gone"),
    ]
    after = [a_record(samples=samples(1.0), digest="b"), a_record(subject="sgd", samples=samples(0.5))]
    rows = against.rows(before, after)
    assert [(r["case"].split("/")[1], r["verdict"], r["same_value"]) for r in rows] == [
        ("adam", "no difference", False),
        ("sgd", "faster", True),
    ]
    around, times = against.tables(rows, ["versions.jax was '1', is '2'"], "runs/old", 1)
    assert "versions.jax was '1', is '2'" in around.rows[0]
    assert "left out: 1" in times.notes[0]


@pytest.mark.parametrize(
    ("paces", "verdict", "words"),
    [
        ((1.0, 1.05), "slower", "1.05"),
        ((1.0, 1.2), "slower, another pace", "1.20"),
        ((1.0, 0.8), "slower, another pace", "0.80"),
        ((0.0, 1.0), "slower", "-"),  # it was not asked in the older run
    ],
)
def test_two_runs_on_a_machine_whose_own_pace_changed_are_marked(paces, verdict, words):
    before, after = (
        a_record(samples=(scale,) * 5, paces=(pace,) if pace else ())
        for scale, pace in zip((1.0, 1.3), paces, strict=True)
    )
    (row,) = rows = against.rows([before], [after])
    assert row["verdict"] == verdict
    _, times = against.tables(rows, [], "runs/old", 0)
    assert times.rows[0][4] == words


def test_times_are_exported_for_pyperf(tmp_path):
    import pyperf

    path = export.pyperf([a_record(samples=(2.0, 4.0, 6.0), block_laps=2, steps=10)], tmp_path)
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


# parity


def test_the_first_difference_is_named():
    path = [{"layer1": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}} for _ in range(5)]
    other = [{"layer1": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}} for _ in range(5)]
    assert first_difference(path, other, 0.0) is None
    other[3]["layer1"]["kernel"][1, 0] = 2.0
    path[3]["layer1"]["kernel"][1, 0] = 1.0
    found = first_difference(path, other, 0.5)
    assert (found.step, found.leaf, found.index) == (3, "layer1/kernel", (1, 0))
    assert str(found).endswith("1.0 against 2.0, ratio 0.5")
    path[1]["layer1"]["bias"][0] = math.nan
    assert first_difference(path, other, 0.5).step == 1


def test_trees_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="only the first tree has bias"):
        first_difference([{"bias": np.zeros(1)}], [{}], 0.0)
    with pytest.raises(ValueError, match="shape"):
        first_difference([{"bias": np.zeros(1)}], [{"bias": np.zeros(2)}], 0.0)


def test_a_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_record().status = "ok"


class Answers:
    """A worker whose case `broken` cannot be prepared; `changes` are answers of its own."""

    def __init__(self, **changes):
        values = {"prepare": (1, 1), "stages": {}, "first": 0.1, "calibrate": 1, "block": 0.1, "pace": 0.001}
        self._answers = values | {"finish": ({"x": np.zeros(1)}, 0)} | changes
        self.asked = []
        self._alive = True

    def ask(self, command, *arguments):
        self.asked.append((command, *arguments))
        if command == "prepare" and arguments[0].method == "broken":
            raise CaseFailed("it is broken")
        if isinstance(self._answers[command], Exception):
            raise self._answers[command]
        return self._answers[command]

    def alive(self):
        return self._alive

    def close(self):
        self._alive = False

    def loaded(self):
        return 0.0

    def configure(self):
        return {}


def measured_by(workers, group):
    """Return the records of a group by workers that take each other's place, and the blocks that were told."""
    engine, rest, told = Engine(make_plan(), lambda *_: {}), list(workers), []
    engine._workers, engine._imports = {"jax": rest.pop(0)}, {"jax": 0.0}
    engine._renew = lambda frameworks: engine._workers.update({name: rest.pop(0) for name in frameworks})
    records = engine.measure(group, None, "", told.append)
    assert not rest
    return records, sum(told)


def cases_of(*methods):
    return tuple(Case("loops", "sgd", "jax", method) for method in methods)


def test_processes_share_the_turns_of_a_group():
    """What comes before the turns is the first one's, and a block has as many laps in all."""
    first = Answers(block=0.1, calibrate=7, stages={"compile": 9.0}, first=5.0, pace=0.001)
    second = Answers(block=0.2, calibrate=7, stages={"compile": 1.0}, first=1.0, pace=0.002)
    group = Group(cases_of("broken", "one", "other"), 5, processes=2)
    (broken, *others), told = measured_by([first, second], group)
    assert (broken.status, broken.samples, told) == ("failed", (), group.blocks)
    for r in others:
        assert (r.samples, r.paces) == ((0.1, 0.1, 0.2, 0.2, 0.2), (0.001, 0.001, 0.002, 0.002, 0.002))
        assert (r.stages["compile"], r.first_seconds, r.block_laps) == (9.0, 5.0, 7)
    assert [w.asked.count(("calibrate", others[0].case, laps)) for w, laps in ((first, None), (second, 7))] == [1, 1]
    blocks = [asked[1].method for asked in first.asked + second.asked if asked[0] == "block"]
    assert blocks == ["one", "other", "other", "one"] * 2 + ["one", "other"]


def test_processes_must_give_the_same_value():
    other = Answers(finish=({"x": np.ones(1)}, 0))
    (r,), _ = measured_by([Answers(), other], Group(cases_of("one"), 4, processes=2))
    assert (r.status, "two processes gave different values" in r.reason) == ("failed", True)


def test_who_begins_again_after_a_death_finds_nothing_compiled(monkeypatch):
    """Else torch.compile's clock would show what it takes to read its cache: a tenth."""
    started = []

    def start(framework, plan, before=None):
        started.append((framework, before))
        return Answers(stages={"compile": 9.0})

    monkeypatch.setattr(engines, "WorkerProcess", start)
    engine = Engine(make_plan(), lambda *_: {})
    engine._workers = {name: Answers(stages={"compile": 1.0}) for name in ("jax", "torch")}
    engine._imports = dict.fromkeys(engine._workers, 0.0)
    dies, other = (Case("loops", "sgd", framework, "one") for framework in ("jax", "torch"))
    engine._workers["jax"]._answers["block"] = WorkerDied("killed")
    dead, survivor = engine.measure(Group((dies, other), 3), None, "", lambda _: None)
    assert (dead.status, survivor.status, len(survivor.samples)) == ("failed", "ok", 3)
    assert survivor.stages["compile"] == 9.0
    assert started == [("torch", None)]


def test_one_turn_is_not_shared():
    (r,), _ = measured_by([Answers()], Group(cases_of("one"), 1, processes=2))
    assert r.samples == (0.1,)


def test_a_worker_in_anothers_place_finds_what_that_one_compiled():
    plan = make_plan()
    before = WorkerProcess("numpy", plan)
    after = WorkerProcess("numpy", plan, before=before)
    try:
        assert (before.alive(), after.alive(), after._cache) == (False, True, before._cache)
        assert after.loaded() > 0
    finally:
        after.close()
    assert not Path(after._cache.name).exists()


def test_a_turn_has_a_pace_though_its_first_case_failed():
    engine = Engine(make_plan(), lambda *_: {})
    engine._workers, engine._imports = {"jax": Answers()}, {"jax": 0.0}
    group = Group(tuple(Case("loops", "sgd", "jax", method) for method in ("broken", "one", "other")), 3)
    broken, *others = engine.measure(group, None, "", lambda _: None)
    assert (broken.status, broken.paces) == ("failed", ())
    assert [r.paces for r in others] == [(0.001,) * 3] * 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not show it")
def test_a_worker_keeps_memory_unless_the_user_says_otherwise_and_the_report_says_which(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "12345")
    plan = make_plan()
    worker = WorkerProcess("numpy", plan)
    try:
        worker.loaded()
        words = Path(f"/proc/{worker._process.pid}/environ").read_text().split("\0")
    finally:
        worker.close()
    expected = environment.WORKERS_DEFAULTS | {"MALLOC_TRIM_THRESHOLD_": "12345"}
    assert expected.items() <= dict(word.split("=", 1) for word in words if "=" in word).items()
    assert expected.items() <= environment.capture(plan, {}, {})["flags"].items()


def test_workers_that_run_together_have_cores_of_their_own_if_there_are_enough(monkeypatch):
    monkeypatch.setattr(environment, "cores_at_hand", lambda: [0, 1, 2, 3])
    assert [environment.worker_cores(1, place) for place in range(3)] == [(3,), (2,), (1,)]
    assert [environment.worker_cores(2, place) for place in range(3)] == [(2, 3), (0, 1), (2, 3)]
    monkeypatch.setattr(environment, "cores_at_hand", lambda: [5])
    assert [environment.worker_cores(1, place) for place in range(2)] == [(5,), (5,)]


def test_a_slower_machine_is_seen_beside_its_best_pace():
    """Though most of the run was slow."""
    paces = {"steady": (1.0, 1.02, 0.98), "slow": (1.9, 1.0, 1.8), "slower": (2.0, 2.1, 1.9), "not asked": ()}
    records = [a_record(method=name, paces=mine) for name, mine in paces.items()]
    assert {case.method for case in record.slowed_cases(records)} == {"slow", "slower"}
    assert record.slowed_cases([records[-1]]) == set()


def test_a_steady_machine_is_not_called_slow():
    """A ladder measured at 13 % above the tenth percentile: the most seen in three quiet runs."""
    paces = {"best": (1.0,) * 9, "drifted": (1.14, 1.13, 1.15), "slow": (1.16, 1.17, 1.16)}
    records = [a_record(method=name, paces=mine) for name, mine in paces.items()]
    assert {case.method for case in record.slowed_cases(records)} == {"slow"}


def test_the_pace_of_a_group_is_recorded():
    from jaxopt_study.bench.timing import pace

    assert 1e-5 < pace() < 1
