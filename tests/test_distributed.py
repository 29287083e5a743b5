"""Cases that any process may measure: on this machine, on Dask, on Ray; deaths of workers and of the main process.

The cases are those of a study that NumPy has, since it loads quickly. `digest` is of the whole value, to the bit.
"""

import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from itertools import count

import psutil
import pytest

from jaxopt_study import compare as command_line
from jaxopt_study import measuring, session
from jaxopt_study.bench import distributed, environment, pools, record, stock
from jaxopt_study.bench.case import Group
from jaxopt_study.bench.engine import Engine
from jaxopt_study.bench.pools import Local
from jaxopt_study.bench.process import CaseFailed, WorkerDied, WorkerProcess
from jaxopt_study.bench.stock import Stock, Work
from jaxopt_study.data.workloads import digits_linear
from jaxopt_study.studies import EVERY
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
