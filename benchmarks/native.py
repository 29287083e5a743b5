"""How much faster a loop is as one native function: `jaxopt_study.native`, on the kinds of program that became slower.

    python benchmarks/native.py

XLA's CPU backend calls one kernel after the other, so small loops pay for each call. One process on one core measures
each program under `jax.jit` and as a native function, in float64. A ratio is the median of the rounds' ratios, with its
exact 95 % interval; the results are compared before a time is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.bench.environment import worker_cores
from jaxopt_study.bench.stats import ratio, scaled_distance
from jaxopt_study.bench.timing import seconds_of
from jaxopt_study.native import native

ROUNDS = 13
SHORTEST = 0.02
"""A sample has so many calls that it takes as many seconds."""
DISTANCE = 1e-12
"""How far the results may differ, relative to the largest."""


def lotka_volterra(state: Any, time: Any) -> Any:
    """Solve a predator-prey equation until `time`, by an adaptive Runge-Kutta method of order 2(1), in `while_loop`."""

    def field(y: Any) -> Any:
        return jnp.stack([y[0] * (1.1 - 0.4 * y[1]), y[1] * (0.1 * y[0] - 0.4)])

    def step(carry: Any) -> Any:
        t, y, size = carry
        size = jnp.minimum(size, time - t)
        first = field(y)
        euler, heun = y + size * first, y + size / 2 * (first + field(y + size * first))
        error = jnp.max(jnp.abs(heun - euler)) / 1e-6
        accepted = error <= 1
        growth = jnp.clip(0.9 / jnp.sqrt(error + 1e-12), 0.2, 5.0)
        return jnp.where(accepted, t + size, t), jnp.where(accepted, heun, y), size * growth

    start = (jnp.zeros_like(time), state, jnp.full_like(time, 1e-3))
    return jax.lax.while_loop(lambda carry: carry[0] < time, step, start)[1]


def compartments(voltages: Any, currents: Any) -> Any:
    """Make implicit Euler steps of a cable of compartments: in `scan`, a tridiagonal system each by Thomas's algorithm.

    `jax.lax.linalg.tridiagonal_solve` calls LAPACK, which a native function cannot.
    """
    beside, middle = -0.2, 1.5

    def solve(right: Any) -> Any:
        def eliminate(before: Any, value: Any) -> Any:
            pivot = middle - beside * before[0]
            row = beside / pivot, (value - beside * before[1]) / pivot
            return row, row

        def substitute(after: Any, row: Any) -> Any:
            x = row[1] - row[0] * after
            return x, x

        zero = jnp.zeros_like(right[0])
        _, rows = jax.lax.scan(eliminate, (zero, zero), right)
        return jax.lax.scan(substitute, zero, rows, reverse=True)[1]

    def step(v: Any, current: Any) -> Any:
        v = solve(v + 0.1 * jnp.tanh(v) + current)
        return v, v[0]

    return jax.lax.scan(step, voltages, currents)[1]


def kepler(anomalies: Any, eccentricity: Any) -> Any:
    """Solve Kepler's equation for one mean anomaly after the other in `map`, by Newton's method in `while_loop`."""

    def solve(mean: Any) -> Any:
        def step(carry: Any) -> Any:
            e, _ = carry
            change = (e - eccentricity * jnp.sin(e) - mean) / (1 - eccentricity * jnp.cos(e))
            return e - change, jnp.abs(change)

        return jax.lax.while_loop(lambda c: c[1] > 1e-12, step, (mean, jnp.inf * jnp.ones_like(mean)))[0]

    return jax.lax.map(solve, anomalies)


def adam(params: Any, inputs: Any) -> Any:
    """Train a linear model of 64 inputs by Adam, one row per step, in `scan`."""

    def step(carry: Any, now: Any) -> Any:
        w, m, v, t = carry
        row = inputs[now % len(inputs)]
        gradient = (jnp.tanh(row @ w) - 0.5) * row
        m, v, t = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2, t + 1
        return (w - 1e-3 * m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v, t), None

    zeros = jnp.zeros_like(params)
    return jax.lax.scan(step, (params, zeros, zeros, jnp.zeros(())), jnp.arange(1000))[0][0]


def products(matrix: Any) -> Any:
    """Multiply a matrix of 128 rows by itself, 20 times: for this one a library is faster."""
    return jax.lax.fori_loop(0, 20, lambda _, m: m @ matrix / 12, matrix)


def programs() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Return the programs with their arguments."""
    draw = np.random.default_rng(0).standard_normal
    return {
        "ODE, adaptive steps in while_loop": (lotka_volterra, (jnp.array([10.0, 5.0]), jnp.array(20.0))),
        "cable of 16 compartments, 500 steps in scan": (
            compartments, (jnp.array(draw(16)), 0.1 * jnp.array(draw((500, 16)))),
        ),
        "Kepler's equation, 1,000 anomalies": (kepler, (jnp.linspace(0.0, 6.0, 1000), jnp.array(0.3))),
        "Adam on 64 weights, 1,000 steps in scan": (adam, (jnp.array(draw(64)), jnp.array(draw((100, 64))))),
        "20 products of 128 x 128": (products, (jnp.array(draw((128, 128))),)),
    }  # fmt: skip


def measured() -> Iterator[str]:
    """Yield for each program what it takes, the ratio, and what mode `auto` chooses."""
    for name, (function, arguments) in programs().items():
        plain, whole, chosen = jax.jit(function), native(function), native(function, mode="auto")
        results = [np.asarray(way(*arguments)) for way in (plain, whole, chosen)]
        distance = max(scaled_distance(result, results[0]) for result in results[1:])
        if not distance < DISTANCE:
            yield f"{name}: the results differ by {distance:.1e}"
            continue
        times = in_rounds([plain, whole, chosen], arguments)
        (choice,) = chosen.choices.values()  # type: ignore[attr-defined]
        ratios = [ratio(times[0], other) for other in times[1:]]
        words = ", ".join(
            f"{way} {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] times as fast"
            for way, found in zip(("native", "auto"), ratios, strict=True)
        )
        yield f"{name}: jax.jit {1e6 * np.median(times[0]):,.0f} µs; {words}; auto chose {choice.split(':')[0]}"


def in_rounds(ways: list[Callable[..., Any]], arguments: Any) -> list[list[float]]:
    """Return the seconds of a call of each way, one sample for each round."""
    calls = [1 + int(SHORTEST / seconds(way, arguments, 1)) for way in ways]
    rounds = [[seconds(way, arguments, count) for way, count in zip(ways, calls, strict=True)] for _ in range(ROUNDS)]
    return [list(times) for times in zip(*rounds, strict=True)]


def seconds(way: Callable[..., Any], arguments: Any, calls: int) -> float:
    """Return the seconds of one call."""
    return seconds_of(lambda: [jax.block_until_ready(way(*arguments)) for _ in range(calls)])[1] / calls


def main() -> None:
    """Print a line for each program."""
    os.sched_setaffinity(0, worker_cores(1))
    jax.config.update("jax_enable_x64", True)
    for line in measured():
        print(line, flush=True)


if __name__ == "__main__":
    main()
