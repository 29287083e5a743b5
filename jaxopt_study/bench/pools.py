"""Where the tasks of a run go: this machine's cores, a Dask cluster or a Ray cluster.

Dask and Ray are loaded when they are chosen.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from jaxopt_study.bench import stock
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.process import WorkerDied
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.stock import Stock, Work

PATIENCE = 6.0
"""Seconds for an address to answer."""


class Unreachable(Exception):  # noqa: N818 - what a user asked for, not an error of the program
    """Nothing that takes tasks answers at an address."""


class Pool(ABC):
    """Processes that measure cases.

    Attributes:
        died: What a future raises whose process died.
        begun: How often a process began each case, by its key, where the pool itself begins a case again whose process
            died; else empty.
    """

    died: tuple[type[Exception], ...] = (WorkerDied,)

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self._asked: set[Any] = set()

    def _answer(self, future: Any, result: Callable[[Any], Record], asked: Any = None) -> Future[Record]:
        """Return Python's own kind of future for a library's, and forget what was asked when it is done."""
        answer: Future[Record] = Future()

        def pass_on(done: Any) -> None:
            self._asked.discard(done if asked is None else asked)
            try:
                answer.set_result(result(done))
            except Exception as error:
                answer.set_exception(error)

        future.add_done_callback(pass_on)
        return answer

    @abstractmethod
    def submit(self, work: Work, case: Case) -> Future[Record]:
        """Let some process measure a case."""

    @abstractmethod
    def end(self, run: str) -> None:
        """End all that measures for a run, at once."""

    @abstractmethod
    def close(self) -> None:
        """Leave the processes of others; end those of this pool."""


class Local(Pool):
    """This machine's cores: a thread for each engine, whose workers are processes.

    Args:
        processes: How many cases are measured at once.
        make: make(work) are the engines.
    """

    def __init__(self, processes: int, make: Callable[[Work], Stock]) -> None:
        super().__init__()
        # Linux ends a worker with the thread that started it, so the threads stay until the run ends.
        self._threads = ThreadPoolExecutor(processes)
        self._make = make
        self._stocks: dict[str, Stock] = {}

    def submit(self, work: Work, case: Case) -> Future[Record]:
        """Let the next thread that is free measure a case."""
        if work.run not in self._stocks:
            self._stocks[work.run] = self._make(work)
        return self._threads.submit(self._stocks[work.run].measure, case)

    def end(self, run: str) -> None:
        """End the workers that were started for a run."""
        if run in self._stocks:
            self._stocks.pop(run).close()

    def close(self) -> None:
        """End the workers, and the threads when they notice."""
        for run in list(self._stocks):
            self.end(run)
        self._threads.shutdown(wait=False, cancel_futures=True)


class Dask(Pool):
    """The workers of a Dask scheduler, which itself begins a case again whose worker died."""

    def __init__(self, address: str) -> None:
        super().__init__()
        distributed = importlib.import_module("distributed")
        self.died = (WorkerDied, distributed.scheduler.KilledWorker)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # each lost worker would be many lines
        _check(address)

        def connect() -> Any:
            # First, since a client that has failed says so again, at length, when Python deletes it.
            asyncio.run(distributed.core.connect(address, timeout=PATIENCE)).abort()
            return distributed.Client(address, timeout=PATIENCE, set_as_default=False)

        self._client = _within_patience(connect)
        self._topic = f"jaxopt_study {self._client.id}"
        self._client.subscribe_topic(self._topic, lambda event: self.begun.update([event[1]]))

    def submit(self, work: Work, case: Case) -> Future[Record]:
        """Let a worker of the scheduler measure a case."""
        asked = self._client.submit(_in_dask, self._topic, work, case, pure=False)
        self._asked.add(asked)
        return self._answer(asked, lambda done: done.result())

    def end(self, run: str) -> None:
        """Withdraw what has not begun, and end what the workers started for a run."""
        with suppress(Exception):  # the scheduler is gone
            self._client.cancel(list(self._asked), force=True)
            self._client.run(stock.close, run, on_error="ignore")

    def close(self) -> None:
        """Leave the scheduler."""
        with suppress(Exception):
            self._client.close(timeout=PATIENCE)


def _in_dask(topic: str, work: Work, case: Case) -> Record:
    importlib.import_module("distributed").get_worker().log_event(topic, case.key)
    return stock.measure(work, case)


class Ray(Pool):
    """The workers of a Ray cluster; each case takes as many of its cores as the plan has threads."""

    def __init__(self, address: str, threads: int) -> None:
        super().__init__()
        if address != "auto":
            _check(address)
        ray = self._ray = importlib.import_module("ray")
        lost = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "LocalRayletDiedError")
        self.died = (WorkerDied, *(getattr(ray.exceptions, name) for name in lost))
        _within_patience(lambda: ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL))
        # A case whose worker died is begun again here, where it is counted.
        self._measure = ray.remote(num_cpus=threads, max_retries=0)(stock.measure)
        self._work: dict[str, Any] = {}

    def submit(self, work: Work, case: Case) -> Future[Record]:
        """Let a worker of the cluster measure a case."""
        if work.run not in self._work:
            self._work[work.run] = self._ray.put(work)
        asked = self._measure.remote(self._work[work.run], case)
        self._asked.add(asked)
        return self._answer(asked.future(), self._result, asked)

    def end(self, run: str) -> None:
        """End the workers that measure."""
        for asked in list(self._asked):
            with suppress(Exception):
                self._ray.cancel(asked, force=True)
        self._work.pop(run, None)

    def _result(self, done: Future[Record]) -> Record:
        try:
            return done.result()
        except self._ray.exceptions.RayTaskError as error:  # whose words are a traceback
            raise error.cause from None

    def close(self) -> None:
        """Leave the cluster, which ends the workers that it started for this process."""
        with suppress(Exception):
            self._ray.shutdown()


def _check(address: str) -> None:
    """Raise `Unreachable` where nothing at all answers: Dask and Ray would try again and again."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        if parts.hostname is None or parts.port is None:
            raise Unreachable("it is not HOST:PORT")
        socket.create_connection((parts.hostname, parts.port), PATIENCE).close()
    except (OSError, ValueError) as error:
        raise Unreachable(_line(error)) from None


def _within_patience(connect: Callable[[], Any]) -> Any:
    """Return what `connect` returns; of what is no cluster both libraries may await an answer for minutes."""
    connected: Future[Any] = Future()

    def run() -> None:
        try:
            connected.set_result(connect())
        except Exception as error:
            connected.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return connected.result(PATIENCE)
    except Exception as error:
        words = _line(error) if connected.done() else f"no answer within {PATIENCE:.0f} s"
        raise Unreachable(words) from None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
