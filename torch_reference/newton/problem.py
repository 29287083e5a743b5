"""The objective as a function of one vector, with its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_reference.newton.bounds import Box
from torch_reference.newton.options import Limits, Options, System
from torch_reference.runtime import ravel_tree

__all__ = ["Point", "Problem", "dense_system", "flat_problem"]

Vector = Float[Tensor, " P"]
Matrix = Float[Tensor, "P P"]


class Point(NamedTuple):
    """A point of a run.

    Attributes:
        gradient_norm: The largest absolute entry of the gradient, with bounds of the projected one.
    """

    x: Vector
    value: float
    gradient: Vector
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether the objective and its gradient are finite here; one entry that is not makes the norm so."""
        return math.isfinite(self.value) and math.isfinite(self.gradient_norm)


class Problem(NamedTuple):
    """The objective on vectors.

    Attributes:
        at: at(x) is the `Point` with its value and gradient.
        products: products(x) is the function v -> H v, with the Hessian H at x.
        hessian: hessian(x) is the dense Hessian, or the Gauss-Newton matrix.
        system: The Newton equations, on vectors.
        limits: When to stop.
        box: The bounds, if there are any.
    """

    at: Callable[[Vector], Point]
    products: Callable[[Vector], Callable[[Vector], Vector]]
    hessian: Callable[[Vector], Matrix]
    system: System
    limits: Limits
    box: Box | None


def flat_problem(
    fun: Any, x0: Any, args: tuple[Any, ...], options: Options, limits: Limits, box: Box | None
) -> tuple[Problem, Vector, Callable]:
    """Return the problem, the start as a vector and the way back to a tree."""
    start, unravel = ravel_tree(x0)
    start = start.detach()

    def value(x: Vector) -> Tensor:
        return fun(unravel(x), *args)

    def at(x: Vector) -> Point:
        x = x if box is None else box.project(x)  # the objective may have no value outside
        leaf = x.detach().requires_grad_()
        result = value(leaf)
        slope = slope_of(result, leaf)
        size = slope.abs().max().item()
        if box is not None and math.isfinite(size):
            size = box.slope(x, slope).abs().max().item()
        return Point(x, result.item(), slope, size)

    def products(x: Vector) -> Callable[[Vector], Vector]:
        """V -> H v, by a second backward pass; what depends on x alone is computed once."""
        leaf = x.detach().requires_grad_()
        slope = slope_of(value(leaf), leaf, create_graph=True)
        if not slope.requires_grad:  # the objective is linear, or a function of its own hides how its slope changes
            if not torch.equal(slope, at(2 * x + 1).gradient):
                raise RuntimeError("the gradient has no derivative")
            return torch.zeros_like
        return lambda v: torch.autograd.grad(slope, leaf, v, retain_graph=True)[0]

    def differences(x: Vector) -> Callable[[Vector], Vector]:
        """V -> H v by central differences of the gradient, for a method that needs first derivatives only."""
        size = torch.finfo(x.dtype).eps ** (1 / 3) * max(1.0, torch.linalg.vector_norm(x).item())

        def product(v: Vector) -> Vector:
            step = size / torch.linalg.vector_norm(v).item()
            return (at(x + step * v).gradient - at(x - step * v).gradient) / (2 * step)

        return product

    def slope_of(result: Tensor, leaf: Vector, create_graph: bool = False) -> Vector:
        if not result.requires_grad:  # the objective is a constant
            return torch.zeros_like(leaf)
        return torch.autograd.grad(result, leaf, create_graph=create_graph, materialize_grads=True)[0]

    def forward_over_reverse(x: Vector) -> Callable[[Vector], Vector]:
        return lambda v: torch.func.jvp(torch.func.grad(value), (x,), (v,))[1]

    def gauss_newton(x: Vector) -> Callable[[Vector], Vector]:
        """V -> J' L J v, with J of the inner function and L the outer's Hessian."""

        def inner(p: Vector) -> Tensor:
            return fun.inner(unravel(p), *args)

        outputs, pull = torch.func.vjp(inner, x)
        slope = torch.func.grad(lambda z: fun.outer(z, *args))
        return lambda v: pull(torch.func.jvp(slope, (outputs,), (torch.func.jvp(inner, (x,), (v,))[1],))[1])[0]

    columns = gauss_newton if options.method == "gauss_newton" else forward_over_reverse

    def hessian(x: Vector) -> Matrix:
        if callable(options.hessian):
            return options.hessian(unravel(x), *args)
        # Blocks fit the cache, and bound the memory to activations x block_size.
        batched = torch.func.vmap(columns(x), chunk_size=options.block_size)
        return batched(torch.eye(len(x), dtype=x.dtype, device=x.device))

    problem = Problem(
        at=at,
        products=differences if options.method == "lbfgs" else products,
        hessian=hessian,
        system=_on_vectors(options.hessian, unravel, args)
        if isinstance(options.hessian, System)
        else dense_system(hessian),
        limits=limits,
        box=box,
    )
    return problem, start, unravel


def dense_system(hessian: Callable[[Vector], Matrix]) -> System:
    """Return the Newton equations of a dense Hessian, solved by Cholesky.

    A matrix with a pivot at the rounding level is called not positive definite: its solution would be noise.
    """

    def solve(matrix: Matrix, gradient: Vector, damping: float) -> tuple[Vector, bool]:
        factor, ok = cholesky(matrix, damping)
        return -torch.cholesky_solve(gradient[:, None], factor)[:, 0], ok

    return System(lambda _, x: hessian(x), solve)


def cholesky(matrix: Matrix, damping: float) -> tuple[Matrix, bool]:
    """Return the lower factor of matrix + damping |diag matrix|, and whether all pivots are above rounding."""
    return factorized(matrix + damping * torch.diag(units(matrix)) if damping else matrix)


def factorized(matrix: Matrix) -> tuple[Matrix, bool]:
    """Return the lower factor, and whether all pivots are above rounding."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = torch.diagonal(factor) ** 2
    above = pivots > len(matrix) * torch.finfo(matrix.dtype).eps * torch.diagonal(matrix)
    return factor, bool((failed == 0) & above.all())


def units(matrix: Matrix) -> Vector:
    """Return |diag H|, and for an entry of 0 the largest one: the units of the variables do not matter."""
    entries = torch.diagonal(matrix).abs()
    most = entries.max().item() or matrix.abs().max().item() or 1.0
    return torch.where(entries > 0, entries, most)


def all_finite(tree: Any) -> bool:
    """Say whether all numbers are finite."""
    return all(bool(torch.isfinite(leaf).all()) for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def symmetric(matrix: Any) -> bool:
    """Say whether a matrix and its transpose give a vector the same product; cheaper than comparing their entries."""
    probe = torch.cos(torch.arange(len(matrix), dtype=matrix.dtype, device=matrix.device))
    forth, back = matrix @ probe, probe @ matrix
    size = matrix.abs().max() * len(matrix)
    return not bool((forth - back).abs().max() > torch.finfo(matrix.dtype).eps ** 0.5 * size)


def _on_vectors(system: System, unravel: Callable, args: tuple[Any, ...]) -> System:
    def solve(built: Any, gradient: Vector, damping: float) -> tuple[Vector, bool]:
        direction, ok = system.solve(built, unravel(gradient), damping)
        return ravel_tree(direction)[0], ok

    prepared = system.prepare(*args)
    return System(lambda _, x: system.build(prepared, unravel(x), *args), solve)
