"""The stepper, the clock and the machine's load, without a framework."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from jaxopt_study.bench import load, timing
from jaxopt_study.bench.task import Task, single


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
    stepper.sample()
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
    assert stepper.sample() == pytest.approx(timing.SHORTEST_SAMPLE, rel=0.02)
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
    assert stepper.sample() == pytest.approx(0.010)
    stepper.finish()
    assert made == [[0, 1]] * 6  # each run has a start of its own, and none is made in vain


def test_one_state_is_set_back_before_each_run_of_a_sample(monkeypatch):
    seconds, state = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: seconds[0])

    def start():
        seconds[0] += 100
        state.clear()
        return state

    def run(mine):
        for lap in range(2):
            seconds[0] += 0.001
            mine.append(lap)
            yield mine

    task = Task(run, lambda output: {"laps": np.array(output)}, laps=2, start=start, one_state=True)
    stepper = timing.Stepper(task, Still())
    stepper.first()
    assert stepper.calibrate() == 10
    assert [stepper.sample() for _ in range(3)] == pytest.approx([0.010] * 3)
    assert stepper.finish()["laps"].tolist() == [0, 1]


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
    with pytest.raises(timing.InvalidTimingError, match="dispatch"):
        timing.Stepper(Counter().task, runtime).first()


def test_a_block_that_compiles_is_refused_and_a_warm_up_that_does_is_not():
    runtime = Still()

    def compile_something():
        runtime.compiled += 1
        return 1.0

    stepper = timing.Stepper(single(compile_something, lambda x: {"x": np.array(x)}), runtime)
    stepper.first()
    stepper.calibrate()
    with pytest.raises(timing.InvalidTimingError, match="compiled anew"):
        stepper.sample()


@pytest.mark.parametrize("value", [{}, {"x": np.zeros(0)}])
def test_a_task_that_returns_nothing_is_refused(value):
    with pytest.raises(timing.InvalidTimingError, match="returned nothing"):
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


def test_the_machines_speed_is_a_short_time():
    assert 1e-5 < timing.machine_seconds() < 1
