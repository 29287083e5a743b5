"""One worker process, as its parent sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from jaxopt_study.bench import environment
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.worker import cause_of_death


class CaseFailed(Exception):  # noqa: N818 - an outcome that is recorded, not an error of the program
    """A case could not be measured, for the reason in the words; `status` is `failed` or a `task.NotMeasured`'s."""

    def __init__(self, reason: str, status: str = "failed") -> None:
        super().__init__(reason)
        self.status = status


class WorkerDied(CaseFailed):
    """The process that measured a case is gone, and with it whatever else it held."""


class WorkerProcess:
    """A worker in a process of its own.

    Args:
        framework: What it loads.
        plan: What the run was asked for.
        before: The worker that it takes the place of, which ends: it finds compiled what that one compiled. Without
            one, no compilation is found ready-made.
        variables: Those of its environment; those of `environment.of_worker` if not given.
        place: Which cores it is pinned to: see `environment.worker_cores`.
    """

    def __init__(
        self,
        framework: str,
        plan: Plan,
        before: WorkerProcess | None = None,
        variables: Mapping[str, str] | None = None,
        place: int = 0,
    ) -> None:
        self._connection, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._cache = before.end() if before else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jaxopt_study.bench.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**(variables or environment.of_worker(plan.threads)), environment.TORCH_CACHE: self._cache.name},
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers
        )
        theirs.close()
        self._plan = plan
        self._place = place
        self.send("load", framework)

    def loaded(self) -> float:
        """Wait until the framework is loaded; return how many seconds that took."""
        seconds: float = self.receive()
        return seconds

    def configure(self) -> dict[str, str]:
        """Pin the process and set what the plan says; return what the backend says of itself."""
        cores = environment.worker_cores(self._plan.threads, self._place)
        words: dict[str, str] = self.ask("configure", self._plan, cores)
        return words

    def fork(self) -> None:
        """Let a fresh child answer from now on, until `leave`."""
        self.send("fork")
        self.configure()

    def leave(self) -> None:
        """End the child."""
        self.send("leave")

    def ask(self, command: str, *arguments: Any) -> Any:
        """Give a command and return its answer.

        Raises:
            CaseFailed: The command raised, or the process died.
        """
        self.send(command, *arguments)
        return self.receive()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def cache(self) -> Path:
        """The folder in which it keeps what it compiled."""
        return Path(self._cache.name)

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, at once, and remove what it compiled."""
        self.end().cleanup()

    def end(self) -> tempfile.TemporaryDirectory[str]:
        """End the process, at once; return what it compiled."""
        if self.alive():
            os.killpg(self._process.pid, signal.SIGKILL)  # and with it what it started: forked children, compilers
        self._process.wait()
        self._connection.close()
        self._errors.close()
        return self._cache

    def send(self, *message: Any) -> None:
        """Give a command, whose answer is still to be received.

        Raises:
            WorkerDied: The process has died.
        """
        try:
            self._connection.send(message)
        except OSError:
            raise WorkerDied(self._cause_of_death()) from None

    def receive(self) -> Any:
        """Wait for the answer to the command that was given first, and return it.

        Raises:
            CaseFailed: The command raised, or the process died.
        """
        try:
            ok, answer = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerDied(self._cause_of_death()) from None
        if not ok:
            status, reason = answer
            raise WorkerDied(reason) if status == "died" else CaseFailed(reason, status)
        return answer

    def _cause_of_death(self) -> str:
        exit_code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["none"]
        return f"{cause_of_death(exit_code)}; its last words: {lines[-1]}"
