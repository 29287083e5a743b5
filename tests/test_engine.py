"""The engine: rounds, processes, deaths; with workers that answer from a table."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study.bench import environment
from jaxopt_study.bench.case import Case, Group
from jaxopt_study.bench.engine import Engine
from jaxopt_study.bench.process import CaseFailed, WorkerDied, WorkerProcess
from jaxopt_study.bench.results import Results
from tests.conftest import make_plan


class Answers:
    """A worker whose case `broken` cannot be prepared; `changes` are answers of its own."""

    def __init__(self, **changes):
        values = {"configure": {}, "prepare": (1, 1, False), "stages": {}, "first": 0.1, "calibrate": 1, "sample": 0.1}
        self._answers = values | {"machine_seconds": 0.001, "finish": ({"x": np.zeros(1)}, 0)} | changes
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


def engine_of(workers, summarize=lambda *_: {}):
    """Return an engine that takes its workers from these, and what it asked for: (framework, worker replaced)."""
    rest, started = {name: list(mine) for name, mine in workers.items()}, []

    def start(framework, plan, before=None):
        started.append((framework, before))
        return rest[framework].pop(0)

    engine = Engine(make_plan(), summarize, start)
    engine.start(workers)
    engine.infos()
    return engine, started


def measured_by(workers, group, **options):
    """Return the records of a group by JAX workers that take each other's place, and the samples that were told."""
    told = []
    engine, started = engine_of({"jax": workers}, **options)
    records = engine.measure(group, None, "", told.append)
    assert len(started) == len(workers)
    return records, sum(told)


def cases_of(*methods):
    return tuple(Case("loops", "ladder", "sgd", "jax", method) for method in methods)


PARENT = """
import subprocess, sys
large = bytearray(2**29)
large[::4096] = b"1" * len(large[::4096])
del large
subprocess.run([sys.executable, "-c", "from jaxopt_study.bench.worker import peak_bytes; print(peak_bytes())"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere getrusage is of the process alone")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    answer = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    assert 2**24 < int(answer.stdout) < 2**28


def test_processes_share_the_rounds_of_a_group():
    """What comes before the rounds is the first one's, and a sample has the same number of laps in all."""
    first = Answers(sample=0.1, calibrate=7, stages={"compile": 9.0}, first=5.0, machine_seconds=0.001)
    second = Answers(sample=0.2, calibrate=7, stages={"compile": 1.0}, first=1.0, machine_seconds=0.002)
    group = Group(cases_of("broken", "one", "other"), 5, processes=2)
    (broken, *others), told = measured_by([first, second], group)
    assert (broken.status, broken.samples, told) == ("failed", (), group.samples)
    for r in others:
        assert (r.samples, r.machine_seconds) == ((0.1, 0.1, 0.2, 0.2, 0.2), (0.001, 0.001, 0.002, 0.002, 0.002))
        assert (r.stages["compile"], r.first_seconds, r.sample_laps) == (9.0, 5.0, 7)
    assert [w.asked.count(("calibrate", others[0].case, laps)) for w, laps in ((first, None), (second, 7))] == [1, 1]
    samples = [asked[1].method for asked in first.asked + second.asked if asked[0] == "sample"]
    assert samples == ["one", "other", "other", "one"] * 2 + ["one", "other"]


def test_processes_must_give_the_same_value():
    other = Answers(finish=({"x": np.ones(1)}, 0))
    (r,), _ = measured_by([Answers(), other], Group(cases_of("one"), 4, processes=2))
    assert (r.status, "two processes gave different values" in r.reason) == ("failed", True)


def test_an_error_of_the_studys_own_code_costs_its_case_alone():
    def summarize(case, *_):
        return {"planted": {}[case.method]} if case.method == "one" else {"x": 1.0}

    (one, other), _ = measured_by([Answers()], Group(cases_of("one", "other"), 3), summarize=summarize)
    assert (one.status, other.status, len(other.samples)) == ("failed", "ok", 3)
    assert one.reason.startswith("its value cannot be summarized: KeyError: 'one' (test_engine.py:")


def test_after_a_death_the_others_begin_again_and_find_nothing_compiled():
    """Else torch.compile's clock would show what it takes to read its cache: a tenth."""
    dies, other = (Case("loops", "ladder", "sgd", framework, "one") for framework in ("jax", "torch"))
    workers = {"jax": [Answers(sample=WorkerDied("killed"))]}
    workers["torch"] = [Answers(stages={"compile": 1.0}), Answers(stages={"compile": 9.0})]
    engine, started = engine_of(workers)
    dead, survivor = engine.measure(Group((dies, other), 3), None, "", lambda _: None)
    assert (dead.status, survivor.status, len(survivor.samples)) == ("failed", "ok", 3)
    assert survivor.stages["compile"] == 9.0
    assert started[2:] == [("torch", None)]


def test_one_round_is_not_shared():
    (r,), _ = measured_by([Answers()], Group(cases_of("one"), 1, processes=2))
    assert r.samples == (0.1,)


def test_a_worker_in_anothers_place_finds_what_that_one_compiled():
    plan = make_plan()
    before = WorkerProcess("numpy", plan)
    after = WorkerProcess("numpy", plan, before=before)
    try:
        assert (before.alive(), after.alive(), after.cache) == (False, True, before.cache)
        assert after.loaded() > 0
    finally:
        after.close()
    assert not after.cache.exists()


def test_a_round_has_a_machine_speed_though_its_first_case_failed():
    (broken, *others), _ = measured_by([Answers()], Group(cases_of("broken", "one", "other"), 3))
    assert (broken.status, broken.machine_seconds) == ("failed", ())
    assert [r.machine_seconds for r in others] == [(0.001,) * 3] * 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not show it")
def test_a_worker_keeps_memory_unless_the_user_says_otherwise_and_the_report_says_which(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "12345")
    plan = make_plan()
    worker = WorkerProcess("numpy", plan)
    try:
        worker.loaded()
        words = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    finally:
        worker.close()
    expected = environment.WORKERS_DEFAULTS | {"MALLOC_TRIM_THRESHOLD_": "12345"}
    assert expected.items() <= dict(word.split("=", 1) for word in words if "=" in word).items()
    assert expected.items() <= environment.capture(plan, environment.of_worker(1), {}, {})["variables"].items()


def test_workers_that_run_together_have_cores_of_their_own_if_there_are_enough(monkeypatch):
    monkeypatch.setattr(environment, "cores_at_hand", lambda: [0, 1, 2, 3])
    assert [environment.worker_cores(1, place) for place in range(3)] == [(3,), (2,), (1,)]
    assert [environment.worker_cores(2, place) for place in range(3)] == [(2, 3), (0, 1), (2, 3)]
    monkeypatch.setattr(environment, "cores_at_hand", lambda: [5])
    assert [environment.worker_cores(1, place) for place in range(2)] == [(5,), (5,)]


def test_a_time_taken_while_others_computed_is_not_recorded():
    cases = tuple(Case("dictionary", "rows", "SGD", framework, "x") for framework in ("jax", "torch"))
    engine, _ = engine_of({"jax": [Answers()], "torch": [Answers()]})
    told = []
    records = engine.measure(Group(cases, 0, together=True), None, "", told.append)
    assert [(r.status, r.samples) for r in records] == [("ok", ())] * 2
    assert sum(told) == 2
    assert not any(Results(tuple(records), ()).shows(r) for r in records)
