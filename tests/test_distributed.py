"""Cases that any process may measure: on this machine, on Dask, on Ray; deaths of workers and of the main process.

The cases are those of a study that NumPy has, since it loads quickly. `digest` is of the whole value, to the bit.
"""

import socket
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from itertools import count

import psutil
import pytest
from rich.console import Console

from jaxopt_study import compare as command_line
from jaxopt_study import measuring, progress, side_by_side
from jaxopt_study.bench import distributed, environment, pools, record, stock
from jaxopt_study.bench.case import Group
from jaxopt_study.bench.pools import Local
from jaxopt_study.bench.process import CaseFailed, WorkerDied
from jaxopt_study.bench.stock import Stock, Work
from jaxopt_study.config import engines
from jaxopt_study.data.workloads import digits_linear
from jaxopt_study.studies import EVERY
from jaxopt_study.tally import Tally
from tests.cases import a_record
from tests.conftest import make_plan
from tests.processes import lines, wait_for

PLAN = make_plan(studies=("newton",))
CASES = [
    case
    for group in EVERY["newton"].groups(PLAN)
    for case in group.cases
    if case.framework == "numpy" and "cancer" in case.subject
]
GROUPS = [Group((case,), 0, distributed=True) for case in CASES]
RANKING = ("--studies", "ranking", "--profile", "smoke")


def make_work():
    variables = environment.that_matter(environment.of_worker(PLAN.threads))
    return Work(PLAN, digits_linear(0, 1), variables, environment.versions(), "key", measuring.summarize)


def make_local(processes):
    return Local(processes, lambda work: Stock(work, count()))


def values(records):
    """Return what a record says of each case, but for times; no case has two records."""
    found = {r.case: (r.status, r.reason, r.digest, record.plain(r.value)) for r in records}
    assert len(found) == len(records)
    return found


@pytest.fixture(scope="module")
def undisturbed():
    pool = make_local(1)
    try:
        found = values(list(distributed.measure(CASES, pool, make_work())))
    finally:
        pool.close()
    assert len(found) == len(CASES) == 5
    assert all(status == "ok" and digest for status, _, digest, _ in found.values())
    return found


def measuring_processes(of=None):
    """Return the workers below a process, or this one, that measure cases."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        try:
            if "jaxopt_study.bench.worker" in child.cmdline():
                found.append(child)
        except psutil.Error:  # it has ended
            continue
    return found


def killed_while(records, of, choose=lambda worker: worker):
    """Return the records, one process having been killed as soon as there is one: that which `choose` gives."""

    def kill():
        wait_for(lambda: measuring_processes(of))
        choose(measuring_processes(of)[0]).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return list(records)
    finally:
        killer.join()


def test_a_worker_that_dies_costs_its_case_nothing_and_is_counted(undisturbed):
    pool = make_local(2)
    try:
        found = killed_while(distributed.measure(CASES, pool, make_work()), None)
    finally:
        pool.close()
    assert values(found) == undisturbed
    assert sum(r.retried for r in found) == 1
    wait_for(lambda: not measuring_processes())


def parent(worker):
    return worker.parent()


@pytest.mark.cluster
@pytest.mark.skipif(find_spec("distributed") is None, reason="the package distributed is not installed")
@pytest.mark.filterwarnings("default")
def test_a_dask_worker_that_dies_costs_its_case_nothing_and_is_counted(undisturbed):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        pool = pools.Dask(cluster.scheduler_address)
        try:
            found = killed_while(distributed.measure(CASES, pool, make_work()), None, parent)
            assert values(found) == undisturbed
            assert sum(r.retried for r in found) == 1
            wait_for(lambda: not measuring_processes())
        finally:
            pool.close()


@pytest.mark.cluster
@pytest.mark.skipif(find_spec("ray") is None, reason="the package ray is not installed")
@pytest.mark.filterwarnings("default")
def test_a_ray_worker_that_dies_costs_its_case_nothing_and_is_counted(undisturbed, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else each start warns of the future
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        pool = pools.Ray(cluster.address, 1)
        try:
            found = killed_while(distributed.measure(CASES, pool, make_work()), None, parent)
            assert values(found) == undisturbed
            assert sum(r.retried for r in found) == 1
        finally:
            pool.close()
        wait_for(lambda: not measuring_processes())
    finally:
        cluster.shutdown()


class Dying(pools.Pool):
    """A pool in which one case ends whatever measures it, so many times."""

    def __init__(self, times, error=WorkerDied):
        super().__init__()
        self.times, self.error, self.submitted, self.ended = times, error, [], []

    def submit(self, work, case):
        self.submitted.append(case)
        future = Future()
        if case == CASES[1] and self.submitted.count(case) <= self.times:
            future.set_exception(self.error("killed"))
        else:
            future.set_result(a_record(**vars(case)))
        return future

    def end(self, run):
        self.ended.append(run)

    def close(self):
        pass


@pytest.mark.parametrize(("times", "retried", "status"), [(0, 0, "ok"), (1, 1, "ok"), (2, 2, "ok"), (3, 2, "failed")])
def test_a_case_is_begun_again_twice_and_then_fails(times, retried, status):
    pool, work = Dying(times), make_work()
    found = {r.case: r for r in distributed.measure(CASES, pool, work)}
    assert (found[CASES[1]].status, found[CASES[1]].retried) == (status, retried)
    assert found[CASES[1]].reason == ("killed" if status == "failed" else "")
    assert len(pool.submitted) == len(CASES) + retried
    assert all((r.status, r.retried) == ("ok", 0) for case, r in found.items() if case != CASES[1])
    assert pool.ended == [work.run]


def test_what_a_pool_begins_again_by_itself_counts():
    pool = Dying(1)
    pool.begun[CASES[1].key] = 3  # Dask's third, whose worker of ours died
    found = {r.case: r for r in distributed.measure(CASES, pool, make_work())}
    assert (found[CASES[1]].status, found[CASES[1]].retried, len(pool.submitted)) == ("failed", 2, len(CASES))


def test_an_error_costs_its_case_alone_and_a_pool_that_is_gone_ends_the_run():
    found = {r.case: r for r in distributed.measure(CASES, Dying(1, KeyError), make_work())}
    assert (found[CASES[1]].status, found[CASES[1]].reason) == ("failed", "KeyError: 'killed'")
    pool = Dying(1, CancelledError)
    with pytest.raises(CaseFailed, match="the processes that measured are gone"):
        list(distributed.measure(CASES, pool, make_work()))
    assert len(pool.ended) == 1


def go(folder):
    """Measure what is missing, as a run does that is begun or resumed."""
    record.drop_cut_line(folder)
    pool = make_local(1)
    try:
        run = measuring.Run(None, pool, make_work(), folder, command_line.silent, lambda _: None)
        measuring.measure(run, GROUPS)
    finally:
        pool.close()


def test_a_run_whose_main_process_was_killed_is_resumed_to_the_same_results(undisturbed, tmp_path):
    path = tmp_path / record.RECORDS
    path.touch()
    command = "import sys, pathlib; from tests.test_distributed import go; go(pathlib.Path(sys.argv[1]))"
    for recorded in (0, 2):
        run = subprocess.Popen([sys.executable, "-c", command, tmp_path])
        wait_for(lambda run=run, recorded=recorded: measuring_processes(run.pid) and len(lines(tmp_path)) >= recorded)
        below = measuring_processes(run.pid)
        run.kill()
        run.wait()
        wait_for(lambda below=below: not any(worker.is_running() for worker in below))
        with path.open("a") as file:
            file.write('{"study": "new')  # cut in the middle
    before = lines(tmp_path)[:-1]
    go(tmp_path)
    assert lines(tmp_path)[: len(before)] == before
    assert len(lines(tmp_path)) == len(CASES)
    assert values(record.read(tmp_path)) == undisturbed


def test_records_are_read_in_the_order_of_the_plan(tmp_path):
    record.append(tmp_path, [a_record(**vars(case)) for case in reversed(CASES)])
    assert [r.case for r in side_by_side._in_order(record.read(tmp_path), PLAN)] == CASES


def test_other_versions_elsewhere_are_refused():
    work = replace(make_work(), versions=environment.versions() | {"numpy": "1.0"})
    with pytest.raises(CaseFailed, match=r"has other packages: numpy was '1\.0', is '"):
        stock.measure(work, CASES[0])


def test_a_worker_of_dask_or_ray_has_the_variables_of_the_main_process(monkeypatch):
    """What says where things are on its own machine stays."""
    main = environment.that_matter(environment.of_worker(1))
    for name, value in (("OMP_NUM_THREADS", "7"), ("XLA_FLAGS", "--other"), ("MALLOC_ARENA_MAX", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    found = environment.of_task(main)
    assert found["PYTHONPATH"] == "elsewhere"
    del found["PYTHONPATH"]
    assert environment.that_matter(found) == {name: value for name, value in main.items() if name != "PYTHONPATH"}


def test_engines_that_are_idle_end(monkeypatch):
    """A main process that was killed can tell nobody."""
    closed = []

    class Idle:
        busy = 0

        def __init__(self, *_):
            pass

        def measure(self, case):
            return case

        def close(self):
            closed.append(True)

    monkeypatch.setattr(stock, "IDLE", 0.2)
    monkeypatch.setattr(stock, "Stock", Idle)
    work = make_work()
    for _ in range(2):
        assert stock.measure(work, CASES[0]) == CASES[0]
    assert (closed, list(stock._stocks)) == ([], [work.run])
    wait_for(lambda: closed)
    assert (closed, list(stock._stocks)) == ([True], [])


def test_the_progress_tells_runs_rate_time_left_and_what_is_finished():
    plan = make_plan(studies=("ranking",))
    cases = [case for group in EVERY["ranking"].groups(plan) if group.distributed for case in group.cases]
    tally = Tally(cases, plan)
    assert tally.words == "ranking sweep and ranking surfaces and ranking streams: 15 tasks"
    told = [line for case in cases if (line := tally.count(case))]
    assert [line.split(" runs, ")[0] for line in told] == [
        "ranking sweep, diabetes: 1,638",  # three optimizers: 2 schedules x 13 rates x (10 + 10 + 1)
        "ranking surfaces: 3,900",
        "ranking streams: 3,900",
    ]
    assert tally.words.startswith("ranking streams: 3,900 of 3,900 runs, ")
    assert tally.words.endswith("/s, 0:00 left")


def test_what_is_finished_is_a_line_on_a_terminal_alone(monkeypatch):
    for terminal, shown in ((True, "diabetes: 780 runs\n"), (False, "")):
        console = Console(force_terminal=terminal, color_system=None, file=StringIO())
        monkeypatch.setattr(progress, "terminal_console", lambda stderr, console=console: console)
        with progress.Bar() as bar:
            bar.tell("diabetes: 780 runs")
        assert console.file.getvalue() == shown


# Addresses.


@pytest.fixture
def nobody():
    """An address at which nothing answers, and one at which something does that is no cluster."""
    with socket.create_server(("127.0.0.1", 0)) as closed, socket.create_server(("127.0.0.1", 0)) as other:
        port, other_port = closed.getsockname()[1], other.getsockname()[1]
        closed.close()
        yield f"127.0.0.1:{port}", f"127.0.0.1:{other_port}"


def refused(capsys, tmp_path, *arguments):
    """Return what the command line says to bad input, within ten seconds and before anything is made."""
    arguments = arguments if "--studies" in arguments else (*RANKING, *arguments)
    assert command_line.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert not list(tmp_path.iterdir())
    return capsys.readouterr().err


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("engine", "option", "package"), [("dask", "scheduler", "distributed"), ("ray", "address", "ray")]
)
def test_an_address_that_does_not_answer_is_one_line(capsys, tmp_path, monkeypatch, nobody, engine, option, package):
    if find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    monkeypatch.setattr(pools, "PATIENCE", 1.0)
    silent, other = nobody
    options = ("--engine", engine, f"--{option}")
    said = f"error: --{option} {silent} does not answer: [Errno 111] Connection refused\n"
    assert refused(capsys, tmp_path, *options, silent) == said
    said = refused(capsys, tmp_path, *options, "nonsense")
    assert said == f"error: --{option} nonsense does not answer: it is not HOST:PORT\n"
    if engine == "dask":  # Ray's own library goes on trying in this process, and writes to its terminal
        said = refused(capsys, tmp_path, *options, other)
        assert said.startswith(f"error: --{option} {other} does not answer: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "dask"), "--engine dask needs the address of a cluster: --scheduler ADDRESS"),
        (("--engine", "ray"), "--engine ray needs the address of a cluster: --address ADDRESS"),
        (("--scheduler", "a:1"), "--scheduler a:1 is for --engine dask"),
        (("--engine", "dask", "--address", "a:1"), "--address a:1 is for --engine ray"),
        (
            ("--studies", "timer", "--engine", "dask", "--scheduler", "a:1"),
            "--engine dask has nothing to do: it is for --studies ranking minimizers",
        ),
    ],
)
def test_an_engine_is_asked_for_as_it_should_be(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(engines, "find_spec", lambda _: True)
    assert refused(capsys, tmp_path, *arguments) == f"error: {words}\n"


def test_a_missing_package_is_named_by_its_extra(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    said = refused(capsys, tmp_path, "--engine", "ray", "--address", "a:1")
    words = "--engine ray needs a package that is not installed: python -m pip install 'jaxopt_study[ray]'"
    assert said == f"error: {words}\n"
