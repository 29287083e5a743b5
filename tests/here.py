"""Runs whose workers are in this process: where it is not the processes that are tested, their imports are saved."""

import threading
import warnings
from contextlib import contextmanager

import pytest

from jaxopt_study import backends, session
from jaxopt_study.bench.process import CaseFailed
from jaxopt_study.bench.worker import Worker, answer_of
from tests.conftest import load_backend

ONE_AT_A_TIME = threading.RLock()  # frameworks that compute side by side would share Python's warnings, its locale, ...


class Unpinned(Worker):
    """A worker that leaves this process its cores, its collector and the end of its parent; and nothing is probed."""

    def load(self, framework):
        self._backend = backends.load(framework)
        return 0.0

    def configure(self, plan, cores):
        self._plan = plan
        self._backend.runtime.configure(plan.dtype, plan.device, plan.threads)
        return self._backend.runtime.describe()

    def probe(self):
        return {}


class WorkerHere:
    """What the engine asks of a `WorkerProcess`."""

    def __init__(self, framework, plan, before=None, variables=None, place=0):
        self._framework, self._plan, self._worker = framework, plan, Unpinned(None)

    def loaded(self):
        return self.ask("load", self._framework)

    def configure(self):
        return self.ask("configure", self._plan, ())

    def ask(self, command, *arguments):
        with ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in a process of its own a worker's warnings are read by nobody
            ok, answer = answer_of(getattr(self._worker, command), arguments)
        if not ok:
            status, reason = answer
            raise CaseFailed(reason, status)
        return answer

    def alive(self):
        return True

    def close(self):
        pass


@contextmanager
def workers_here(*frameworks):
    """Let runs have the workers of these frameworks here; leave the frameworks set as `load_backend` does.

    They are loaded before: JAX sets variables of the environment, which a run records before it loads anything.
    """
    for name in frameworks:
        load_backend(name)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "WorkerProcess", WorkerHere)
            yield
    finally:
        for name in frameworks:
            load_backend(name)
