"""A pytest plugin: the fixture `same_training` compares a training with a golden file.

pytest loads it in every run where this package is installed, also in those that do not use it. So its import loads
pytest alone: NumPy would read its environment variables before a `conftest.py` could set them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from jaxopt_study.parity.pairs import Trajectory

OPTION = "--update-golden"

WIDTH = 68
"""A line of the message; pytest writes 8 to 12 characters before it, and 8 more before the first one."""


class SameTraining(Protocol):
    """What the fixture gives."""

    def __call__(
        self, trajectory: Trajectory, name: str, *, steps: int | None = None, tolerance: float | None = None
    ) -> None:
        """Compare a training with the golden file of this name."""


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None]:
    """Add the option once the conftest files have theirs: one of this name would be an error otherwise."""
    del early_config
    yield
    if _is_unknown(parser):
        words = "write the golden files of `same_training` instead of comparing with them"
        parser.getgroup("jaxopt_study").addoption(OPTION, action="store_true", help=words)


@pytest.fixture
def same_training(request: pytest.FixtureRequest) -> SameTraining:
    """Return what compares a training with `golden/<test file>/<name>.npz`, beside the test.

    It is called as same_training(trajectory, name). `pytest --update-golden` writes the file. The trajectory, `steps`
    and `tolerance` are those of `jaxopt_study.parity.locate`.
    """

    def check(trajectory: Trajectory, name: str, *, steps: int | None = None, tolerance: float | None = None) -> None:
        __tracebackhide__ = True
        if Path(name).name != name:
            pytest.fail(f"name must be that of a file, without folders, not {name!r}")
        golden = request.path.parent / "golden" / request.path.stem / f"{name}.npz"
        root = request.config.rootpath
        shown = golden.relative_to(root) if golden.is_relative_to(root) else golden
        if request.config.getoption(OPTION, False):
            words = _update(golden, trajectory)
        elif not golden.exists():
            words = [f"there is no {shown}.", f"To write it: pytest {OPTION}"]
        else:
            words = _compare(golden, shown, trajectory, steps, tolerance)
        if words:
            pytest.fail(_wrapped(words))

    return check


def _is_unknown(parser: pytest.Parser) -> bool:
    try:
        return OPTION in parser.parse_known_and_unknown_args([OPTION])[1]
    except pytest.UsageError:  # it is known, and wants a value
        return False


def _update(golden: Path, trajectory: Trajectory) -> list[str]:
    """Write the golden file; return what went wrong."""
    from jaxopt_study.parity import load_trajectory, save_trajectory

    golden.parent.mkdir(parents=True, exist_ok=True)
    try:
        trees = load_trajectory(trajectory) if isinstance(trajectory, str | Path) else trajectory
        save_trajectory(golden, trees)
    except (ValueError, OSError) as error:
        return [f"{golden.name} is not written: {error}."]
    return []


def _compare(
    golden: Path, shown: Path, trajectory: Trajectory, steps: int | None, tolerance: float | None
) -> list[str]:
    """Compare a training with the golden file; return in which words they differ."""
    from jaxopt_study.parity import locate

    try:
        report = locate(golden, trajectory, steps=steps, tolerance=tolerance)
    except (ValueError, OSError) as error:
        words = f"{error}."
    else:
        if report.same:
            return []
        words = str(report)
    return [
        f"this training is not that of {shown}.",
        f"{words[0].upper()}{words[1:]}",
        "(First: the golden file. Second: this training.)",
        f"If the change is wanted: pytest {OPTION}",
    ]


def _wrapped(words: list[str]) -> str:
    first, *rest = words
    lines = textwrap.wrap(first, WIDTH, initial_indent=" " * 8, break_on_hyphens=False)
    for line in rest:
        lines += textwrap.wrap(line, WIDTH, break_on_hyphens=False)
    return "\n".join(lines).strip()
