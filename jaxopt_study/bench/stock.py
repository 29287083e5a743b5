"""Engines that measure one case after another. A process of Dask or Ray calls `measure`, and keeps its engines."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from jaxopt_study.bench import environment
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.engine import Engine
from jaxopt_study.bench.process import CaseFailed, WorkerProcess
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Value
from jaxopt_study.data.workload import Workload

IDLE = 60.0
"""Seconds without a case after which the engines in a process of Dask or Ray end: the run may have been killed."""


@dataclass(frozen=True)
class Work:
    """What a run's cases need wherever they are measured.

    Attributes:
        variables: Those of the environment that matter, see `environment.that_matter`.
        versions: Those of the packages, which must be the same elsewhere.
        key: The key of the run's environment.
        summarize: As an engine has it; a function that another process finds by its name.
        run: A name of this run alone.
    """

    plan: Plan
    workload: Workload
    variables: Mapping[str, str]
    versions: Mapping[str, str | None]
    key: str
    summarize: Callable[[Case, Value, Workload, Plan], Mapping[str, Any]]
    run: str = field(default_factory=lambda: uuid4().hex)


class Stock:
    """Engines, each of which measures one case at a time; there are as many as cases are measured at once.

    Args:
        work: What the cases need.
        places: Which cores the engines' workers have, one after the other: see `environment.worker_cores`.
        engines: Engines that are there already; they are not closed here.
        worker: As an `Engine` has it.
    """

    def __init__(
        self,
        work: Work,
        places: Iterable[int],
        engines: Iterable[Engine] = (),
        worker: Callable[..., WorkerProcess] = WorkerProcess,
    ) -> None:
        self._work, self._places, self._worker = work, iter(places), worker
        self._free, self._made = list(engines), list[Engine]()
        self._lock, self._closed = threading.Lock(), False
        self.busy = 0

    def measure(self, case: Case) -> Record:
        """Measure a case with an engine that is free, or a new one.

        Raises:
            WorkerDied: The worker died.
        """
        with self._lock:
            if self._closed:
                raise CaseFailed("the run has ended")
            engine = self._free.pop() if self._free else self._make()
            self.busy += 1
        try:
            return engine.measure_value(case, self._work.workload, self._work.key)
        finally:
            with self._lock:
                self._free.append(engine)
                self.busy -= 1

    def close(self) -> None:
        """End the workers of the engines that were made here, at once, whatever they do."""
        with self._lock:
            self._closed = True
            for engine in self._made:
                engine.close()

    def _make(self) -> Engine:
        work = self._work
        start = partial(self._worker, variables=environment.of_task(work.variables), place=next(self._places))
        self._made.append(Engine(work.plan, work.summarize, start))
        return self._made[-1]


_stocks: dict[str, Stock] = {}
"""In a process of Dask or Ray: those of the runs that it has measured cases for."""
_timers: dict[str, threading.Timer] = {}
_lock = threading.Lock()


def measure(work: Work, case: Case) -> Record:
    """Measure a case for a run whose main process is another one.

    Raises:
        CaseFailed: Other versions are installed here.
        WorkerDied: The worker died.
    """
    differences = environment.differences(work.versions, environment.versions())
    if differences:
        raise CaseFailed(f"{socket.gethostname()} has other packages: {differences[0]}")
    with _lock:
        if work.run not in _stocks:
            _stocks[work.run] = Stock(work, _free_places(work.plan.threads))
        stock = _stocks[work.run]
        if work.run in _timers:
            _timers.pop(work.run).cancel()
    try:
        return stock.measure(case)
    finally:
        with _lock:
            if not stock.busy and work.run in _stocks:
                timer = _timers[work.run] = threading.Timer(IDLE, close, [work.run])
                timer.daemon = True
                timer.start()


def close(run: str) -> None:
    """End what this process has for a run."""
    with _lock:
        timer, stock = _timers.pop(run, None), _stocks.pop(run, None)
    if timer is not None:
        timer.cancel()
    if stock is not None:
        stock.close()


def _free_places(threads: int) -> Iterator[int]:
    """Yield places whose cores no other process of Dask or Ray on this machine has for its workers.

    Linux forgets a name that begins with a zero byte when the process that bound it ends.
    """
    held = []
    places = max(1, len(environment.cores_at_hand()) // threads)
    while True:
        free = None
        for place in range(places) if sys.platform == "linux" else ():
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with suppress(OSError):
                name.bind(f"\0jaxopt_study cores {environment.worker_cores(threads, place)}")
                held.append(name)
                free = place
                break
            name.close()
        yield os.getpid() % places if free is None else free
