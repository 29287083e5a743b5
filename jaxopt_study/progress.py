"""How a run's progress is shown: on standard error, so that standard output has the results alone."""

from __future__ import annotations

from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from jaxopt_study import terminal

LEAST_WIDTH = 60
"""Columns; in less, the names of options are broken, and in less than 3 cyclopts 5.5 does so for ever."""


def terminal_console(stderr: bool = False) -> Console:
    """Return the console that everything is written to: as wide as the terminal, or `LEAST_WIDTH`."""
    console = Console(stderr=stderr)
    if console.width < LEAST_WIDTH:
        console.width = LEAST_WIDTH
    return console


class Bar:
    """A progress bar; it is shown from the first progress on, so that errors come out alone.

    A study that is finished leaves a line. Where standard error is no terminal, as in CI, a line is written at most
    every `EVERY` seconds instead.
    """

    EVERY = 15

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn(compact=True))
        # Drawn seldom: while a worker measures, nothing else should run.
        self._bar = RichProgress(
            *columns, *left, console=terminal_console(stderr=True), refresh_per_second=2, transient=True,
            speed_estimate_period=120,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None)
        self._next_line = float(self.EVERY)
        self._study, self._began = "", 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal is gone
            if self._bar.live.is_started:
                self._bar.stop()

    def tell(self, words: str) -> None:
        """Write a line above the bar, on a terminal."""
        if self._bar.console.is_terminal:
            with suppress(OSError):
                self._bar.console.print(terminal.visible(words), style="dim", markup=False, highlight=False)

    def __call__(self, words: str, done: int, samples: int) -> None:
        """Show what is done: see `compare.run`."""
        terminal.check_stop()
        self._bar.update(self._task, description=terminal.visible(words), advance=done, total=samples or None)
        if not self._bar.console.is_terminal:
            self._log(words, samples)
            return
        with suppress(OSError):
            if not self._bar.live.is_started:
                self._bar.start()
            self._finish(words.split()[0].rstrip(":") if samples else "")

    def _finish(self, study: str) -> None:
        """Leave a line for the study that is finished, if another one begins."""
        if study == self._study:
            return
        elapsed = self._bar.tasks[self._task].elapsed or 0.0
        if self._study:
            self.tell(f"{self._study}: measured in {elapsed - self._began:.0f} s")
        self._study, self._began = study, elapsed

    def _log(self, words: str, samples: int) -> None:
        task = self._bar.tasks[self._task]
        elapsed = task.elapsed or 0.0
        if elapsed >= self._next_line:
            self._next_line = elapsed + self.EVERY
            done = f", {task.completed:.0f} of {samples} samples" if samples else ""
            terminal.say(f"{elapsed:.0f} s: {words}{done}")
