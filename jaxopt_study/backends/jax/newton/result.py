"""The result of a minimizer, and the reason why it ended."""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.finiteness import name_entries

__all__ = ["Counts", "Methods", "Result", "Status"]


class Status(IntEnum):
    """Why a run ended; `sentence` says it in words."""

    RUNNING = 0
    GRADIENT = 1
    DECREMENT = 2
    ROUNDING = 3
    ITERATIONS = 4
    STALLED = 5
    INFINITY = 6
    UNBOUNDED = 7
    NOT_FINITE = 8
    ASYMMETRIC = 9
    HESSIAN = 10
    PROJECTED = 11
    STOPPED = 20
    TIME = 21

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.RUNNING: "The run has not ended.",
    Status.GRADIENT: "Converged: the largest entry of the gradient is within the tolerance.",
    Status.DECREMENT: "Converged: half the squared Newton decrement is within its tolerance.",
    Status.ROUNDING: "Converged to the rounding level: no step changes the objective by more than its last digits.",
    Status.ITERATIONS: "Stopped at the iteration limit, before the tolerance was reached.",
    Status.STALLED: "Stopped: none of the steps that were tried lowers the objective, although its slope is negative. "
    "Rounding may hide the decrease, a derivative may be wrong, or another method may go on.",
    Status.INFINITY: "No minimum: 10,000 times as far from the start, the objective is lower and its gradient no "
    "larger. The infimum, if there is one, lies at infinity, as for separable data without a penalty.",
    Status.UNBOUNDED: "No minimum: the objective falls without bound.",
    Status.NOT_FINITE: "Not started: the objective or its gradient is not finite at the start.",
    Status.ASYMMETRIC: "Stopped: the Hessian function's result is not symmetric.",
    Status.HESSIAN: "Stopped: the objective and its gradient are finite here, and its Hessian is not.",
    Status.PROJECTED: "Converged: the largest entry of the projected gradient is within the tolerance.",
    Status.STOPPED: "Stopped: the callback asked for it.",
    Status.TIME: "Stopped: max_seconds have passed, before the tolerance was reached.",
}


class Counts(NamedTuple):
    """How often each quantity was computed."""

    function: Int[Array, ""] | int = 0
    gradient: Int[Array, ""] | int = 0
    hvp: Int[Array, ""] | int = 0
    hessian: Int[Array, ""] | int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum, entry by entry."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


@jax.tree_util.register_static
class Methods(tuple[str, ...]):
    """Names of algorithms, which are no data of a compiled function."""


class Result(NamedTuple):
    """Where a run ended, and why. A tree of arrays, so that it comes out of a compiled or batched function.

    Attributes:
        x: The last point, a tree like the start.
        value: The objective there.
        gradient_norm: The largest absolute entry of the gradient there; with bounds of the projected gradient, which is
            x - P(x - gradient), where P moves a point to the nearest one within the bounds.
        decrement: Twice the decrease that the last step's model predicted. It is the squared Newton decrement
            g' H^-1 g where neither damping nor a radius shortened the step; for L-BFGS |g' s| of its step s.
        status: A `Status`, as an integer.
        iterations: Steps made, unsuccessful ones included.
        counts: Evaluations.
        path: The points from the start to the end as rows, in the order of `runtime.ravel`; None without `keep_path`.
            From a compiled function it has a row for every allowed iteration; rows not reached are NaN.
        path_counts: The counts, as four columns, when each point of the path was reached.
        not_finite: Rows (i, j): the entries of the Hessian that are not finite, where the run went on by L-BFGS.
        tolerance: Of the gradient, as it was used.
        methods: The algorithms that ran, in their order; more than one where the first could not go on.
        aux: What the objective returns beside its value at x; None without `has_aux`.
    """

    x: Any
    value: Float[Array, "*runs"]
    gradient_norm: Float[Array, "*runs"]
    decrement: Float[Array, "*runs"]
    status: Int[Array, "*runs"]
    iterations: Int[Array, "*runs"]
    counts: Counts
    path: Float[Array, "*runs points parameters"] | None
    path_counts: Int[Array, "*runs points 4"] | None
    not_finite: Int[np.ndarray, "entries 2"] | None = None
    tolerance: Float[Array, "*runs"] | None = None
    methods: Methods = Methods()
    aux: Any = None

    @property
    def method(self) -> str:
        """The algorithm that came to the end."""
        return self.methods[-1]

    @property
    def converged(self) -> Bool[np.ndarray, "*runs"]:
        """Whether the gradient or the decrement came within its tolerance, or to the rounding level."""
        return np.isin(np.asarray(self.status), (Status.GRADIENT, Status.PROJECTED, Status.DECREMENT, Status.ROUNDING))

    @property
    def reason(self) -> str | list[str]:
        """Why the run ended, in a sentence; a list of them for runs made at once."""
        codes = np.asarray(self.status)
        if codes.ndim:
            return [Status(code).sentence for code in codes.ravel()]
        return (
            Status(int(codes)).sentence
            + stalled(self.methods, self.not_finite)
            + without_second(self.not_finite, self.x)
        )


def stalled(methods: Methods, entries: Any) -> str:
    """Say which algorithm came to no end before another went on; L-BFGS may have followed for other reasons."""
    pairs = [(one, other) for one, other in pairwise(methods) if entries is None or other != "lbfgs"]
    return "".join(
        f" {one} stalled or had used its share of the iterations, and {other} went on." for one, other in pairs
    )


def without_second(entries: Any, x: Any) -> str:
    """Say which entries of the Hessian are not finite, if any, and what came of it."""
    if entries is None:
        return ""
    names = name_entries(entries, x, "x")
    return f" The Hessian has no finite entry {names} where the gradient is finite: there L-BFGS went on."
