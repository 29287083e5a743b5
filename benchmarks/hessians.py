"""How long the dense Hessian takes by each route, as ratios: digits, 898 rows, 650 parameters, float32, on one core.

    python benchmarks/hessians.py

In JAX: `jax.hessian`, HVP blocks, the last layer by matrix products, the closed form. In PyTorch: `torch.func.hessian`
and the same. A process for each framework measures all of its routes in the same rounds. A ratio is the median of the
rounds' ratios, with its exact 95 % interval; the Hessians are compared before a time is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend, load
from jaxopt_study.bench.environment import worker_cores
from jaxopt_study.bench.stats import ratio, residual
from jaxopt_study.bench.timing import seconds_of
from jaxopt_study.data.workload import Workload
from jaxopt_study.data.workloads import digits_linear

ROUNDS = 21
DISTANCE = 1e-5
"""How far the Hessians may differ, relative to the largest entry; 9e-7 was measured."""
OWN = {"jax": "jax.hessian", "torch": "torch.func.hessian"}
CLOSED = "closed form"


def routes(backend: Backend, framework: str) -> dict[str, Callable[..., Any]]:
    """Return the routes to the Hessian of the mean cross-entropy."""
    model = backend.models.network((64, 10))
    loss = backend.models.loss(model)
    predict, output_loss = backend.models.predict(model), backend.models.cross_entropy
    return {
        OWN[framework]: backend.derivatives.hessian_forward_over_reverse(loss),
        "HVP blocks": backend.blocks.hessian_blocked(loss),
        "last layer": backend.last_layer.hessian_last_layer(predict, output_loss, "layer1"),
        CLOSED: backend.closed_form.hessian_closed_form,
    }


def measured(framework: str, workload: Workload) -> Iterator[str]:
    """Yield what each route takes, and its ratios to the framework's own Hessian and to the closed form."""
    backend = load(framework)
    backend.runtime.configure("float32", "cpu", 1)
    params = backend.runtime.params_from_numpy(workload.params)
    batch = tuple(backend.runtime.from_numpy(array) for array in workload.train)

    def call(route: Callable[..., Any]) -> Any:
        return backend.runtime.wait(route(params, batch))

    found = routes(backend, framework)
    matrices = {name: backend.runtime.to_numpy(call(route)) for name, route in found.items()}
    rounds = [[seconds_of(lambda route=route: call(route))[1] for route in found.values()] for _ in range(ROUNDS)]
    times = dict(zip(found, zip(*rounds, strict=True), strict=True))
    for name, mine in times.items():
        distance = residual(matrices[name], matrices[CLOSED])
        if not distance < DISTANCE:
            yield f"{framework}, {name}: differs from the closed form by {distance:.1e}"
            continue
        others = [other for other in (OWN[framework], CLOSED) if other != name]
        ratios = ((other, ratio(list(mine), list(times[other]))) for other in others)
        words = ", ".join(f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}] of {other}" for other, x in ratios)
        yield f"{framework}, {name}: {1e3 * np.median(mine):.1f} ms; {words}"


def lines(framework: str) -> list[str]:
    """Return the lines of a framework."""
    os.sched_setaffinity(0, worker_cores(1))
    return list(measured(framework, digits_linear(seed=0, epochs=1)))


def main() -> None:
    """Print a line for each route of each framework."""
    for framework in OWN:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            print(*pool.submit(lines, framework).result(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
