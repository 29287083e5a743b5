"""Trust-region Newton: minimize the quadratic model in a ball, whose radius adapts to how well the model predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from torch_reference.newton.bounds import Box
from torch_reference.newton.conjugate import accurate, conjugate_gradients, forcing, to_edge
from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem, Vector, all_finite, factorized, symmetric, units
from torch_reference.newton.projected import least_in_box
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Method, Step, at_rounding_level
from torch_reference.newton.subproblem import least_in_ball

__all__ = ["trust_exact", "trust_krylov"]

ACCEPTED, POOR, GOOD = 1e-4, 0.25, 0.75
TRIALS = 40


class Memory(NamedTuple):
    """The radius, NaN before the first step, and the weights w of the ball |w * step| <= radius."""

    radius: float
    weights: Vector


class Move(NamedTuple):
    """A solution of the subproblem.

    Attributes:
        end: Where it leads; with bounds, rounding would lead the sum of the point and the step past them.
        predicted: The decrease of the model.
        edge: Whether the solution lies on the ball's surface.
        sure: Whether no step of any length lowers the model by much more.
    """

    vector: Vector
    end: Vector
    predicted: float
    edge: bool
    products: int
    sure: bool
    status: Status


class Model(NamedTuple):
    """The model at a point.

    Attributes:
        weights: Of the ball.
        first: The first radius.
        solve: solve(radius, accurately) is the step within the radius; None without a Hessian that can be used.
        counts: Evaluations that the model took.
        convex: Whether the Hessian was found positive definite.
        promise: The decrease of the model by a step of any length; infinite where that is not known.
        status: RUNNING, or why the Hessian cannot be used.
    """

    weights: Vector
    first: float
    solve: Callable[[float, bool], Move] | None
    counts: Counts
    convex: bool
    promise: float
    status: Status


def trust_exact(problem: Problem, options: Options) -> Method:
    """Make the trust region with the exact solution of each subproblem, by Cholesky factorizations.

    The region is an ellipsoid: each variable is weighted by the largest square root of its entry of |diag H| so far, so
    that the run does not depend on the variables' units (More, 1978). With J' L J for H this is the Levenberg-Marquardt
    method.
    """
    return _trust_region(problem, lambda point, weights: _exact_model(problem, options, point, weights))


def trust_krylov(problem: Problem, options: Options) -> Method:
    """Make the trust region with Steihaug's conjugate gradients (1983), which need only Hessian-vector products.

    With bounds, they are projected (Lin and More, 1999).
    """
    del options
    box = problem.box
    if box is None:
        return _trust_region(problem, lambda point, weights: _krylov_model(problem, point, weights))
    return _trust_region(problem, lambda point, weights: _bounded_model(problem, box, point, weights))


def _trust_region(problem: Problem, model_at: Callable[[Point, Vector], Model]) -> Method:
    """Shrink the radius until a step is accepted; grow it where the model predicts well (Nocedal and Wright, 4.1)."""

    def init(point: Point) -> Memory:
        return Memory(math.nan, torch.zeros_like(point.x))

    def step(point: Point, memory: Memory) -> Step:
        model = model_at(point, memory.weights)
        w, radius = model.weights, memory.radius
        if math.isnan(radius):
            radius = model.first
        if model.solve is None:
            return Step(point, memory, model.counts, 0.0, model.convex, False, model.status)
        products, most, sure = 0, 0.0, False  # the largest decrease that any trial predicted, and was sure of
        close = False
        for trials in range(1, TRIALS + 1):  # noqa: B007 - counted, and read at the end
            move = model.solve(radius, close)
            new = problem.at(move.end)
            products += move.products
            most, sure = max(most, move.predicted), sure or move.sure
            ok, ratio = _assess(point, new, move)
            # What conjugate gradients promise when they end early says little about what a step can do.
            hidden = at_rounding_level(point, 2 * move.predicted)
            again = not (ok or close or move.edge or move.sure) and hidden
            close = hidden
            if ratio < POOR and not again:
                radius = (_norm(w * move.vector) or radius) / 4  # no step was found at all
            elif ok and ratio > GOOD and move.edge:
                radius = 2 * radius
            if ok or move.status != Status.RUNNING:
                break
        decrement = 2 * move.predicted
        rounding = (sure and at_rounding_level(point, 2 * most)) or at_rounding_level(point, 2 * model.promise)
        stuck = Status.ROUNDING if rounding else Status.STALLED
        counts = model.counts.plus(Counts(trials, trials, products))
        status = move.status if move.status != Status.RUNNING else Status.RUNNING if ok else stuck
        return Step(new if ok else point, Memory(radius, w), counts, decrement, model.convex, not move.edge, status)

    return Method(init, step)


def _assess(point: Point, new: Point, move: Move) -> tuple[bool, float]:
    """Return whether to accept a step, and the ratio of the decrease to the predicted one.

    Where rounding hides the decrease, a smaller gradient is accepted instead, and the radius stays.
    """
    if not new.finite:
        return False, 0.0
    hidden = 10 * torch.finfo(point.x.dtype).eps * abs(point.value)
    if abs(new.value - point.value) <= hidden:
        flatter = new.gradient_norm < point.gradient_norm
        return flatter, (POOR + GOOD) / 2 if flatter else 0.0
    ratio = (point.value - new.value) / move.predicted if move.predicted else 0.0
    return (True, ratio) if ratio > ACCEPTED else (False, 0.0)


def _exact_model(problem: Problem, options: Options, point: Point, weights: Vector) -> Model:
    matrix = problem.hessian(point.x)
    if not all_finite(matrix):
        return Model(torch.ones_like(point.x), 0.0, None, Counts(hessian=1), False, math.inf, Status.HESSIAN)
    if callable(options.hessian) and not symmetric(matrix):
        return Model(torch.ones_like(point.x), 0.0, None, Counts(hessian=1), False, math.inf, Status.ASYMMETRIC)
    w = torch.maximum(weights, units(matrix).sqrt())
    scaled, slope = matrix / w[:, None] / w, point.gradient / w
    factor, convex = factorized(scaled)
    newton = -torch.cholesky_solve(slope[:, None], factor)[:, 0]

    def solve(radius: float, accurately: bool) -> Move:
        del accurately  # it always is
        vector, _, edge = least_in_ball(scaled, slope, radius, newton, convex)
        predicted = -(slope @ vector + vector @ (scaled @ vector) / 2).item()
        step = vector / w
        return Move(step, point.x + step, predicted, edge, 0, not edge, Status.RUNNING)

    first = _norm(w * point.x) or _norm(slope)
    promise = -(slope @ newton).item() / 2 if convex else math.inf
    return Model(w, first, solve, Counts(hessian=1), convex, promise, Status.RUNNING)


def _norm(vector: Vector) -> float:
    return torch.linalg.vector_norm(vector).item()


def _krylov_model(problem: Problem, point: Point, weights: Vector) -> Model:
    del weights  # the Hessian's diagonal is not known
    g, product = point.gradient, problem.products(point.x)

    def solve(radius: float, accurately: bool) -> Move:
        c = conjugate_gradients(product, g, accurate(g) if accurately else forcing(g), 2 * len(g), radius)
        edge = c.negative or c.crossed
        vector = c.solution
        if edge:
            vector = c.solution + to_edge(c.solution, c.direction, radius) * c.direction
        # H s = residual - g at the solution, and H p is known along the last direction by its curvature.
        step = vector - c.solution
        bent = c.curvature * (step @ step)
        predicted = -(g @ c.solution + c.residual @ c.solution) / 2 - c.residual @ step - bent / 2
        status = Status.RUNNING if math.isfinite(c.curvature) else Status.HESSIAN
        return Move(vector, point.x + vector, predicted.item(), edge, c.products, False, status)

    return Model(torch.ones_like(g), max(1.0, _norm(point.x)), solve, Counts(), False, math.inf, Status.RUNNING)


def _bounded_model(problem: Problem, box: Box, point: Point, weights: Vector) -> Model:
    del weights
    x, g, product = point.x, point.gradient, problem.products(point.x)
    slope = box.slope(x, g)

    def solve(radius: float, accurately: bool) -> Move:
        found = least_in_box(product, x, g, box, radius, accurate(slope) if accurately else forcing(slope))
        step = found.end - x
        predicted = -(g @ step + step @ found.product / 2).item()
        status = Status.RUNNING if found.finite else Status.HESSIAN
        return Move(step, found.end, predicted, found.edge, found.products, False, status)

    return Model(torch.ones_like(g), max(1.0, _norm(x)), solve, Counts(), False, math.inf, Status.RUNNING)
