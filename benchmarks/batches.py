"""How many times longer a step takes in PyTorch's loops than in JAX's compiled loop, by the rows of a step.

    python benchmarks/batches.py

Adam trains `digits-mlp` and `digits-cnn` in float32. One process on one core measures each loop once per round. A ratio
is the median of the rounds' ratios, with its exact 95 % interval. Losses are compared before a time is shown.

Measured on a machine whose two cores other programs used as well (load 6), so that the intervals are wide:

rows   PyTorch's usual loop   fused              torch.compile      JAX's fastest loop
digits-mlp
   1   114 [85, 160]          75 [58, 111]       138 [80, 174]      one native function
  32   15.6 [14.0, 21.2]      11.3 [9.3, 13.7]   18.3 [13.5, 22.3]  lax.scan
 256   6.0 [4.4, 6.7]         4.9 [3.4, 7.3]     5.9 [5.0, 9.2]     lax.scan
digits-cnn
   1   28.6 [23.3, 42.3]      22.1 [14.4, 28.0]  28.0 [19.6, 36.0]  one native function
  32   4.6 [4.2, 5.2]         4.1 [3.3, 5.1]     4.9 [4.0, 5.6]     jax.jit
 256   1.7 [1.5, 2.0]         1.6 [1.5, 1.9]     2.0 [1.8, 2.3]     jax.jit

In `lax.scan` a step of `digits-cnn` on 256 rows took 3 times as long as in PyTorch's usual loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxopt_study import backends
from jaxopt_study.bench.environment import worker_cores
from jaxopt_study.bench.stats import ratio, scaled_distance
from jaxopt_study.bench.task import Task
from jaxopt_study.bench.timing import Stepper
from jaxopt_study.data.workload import Workload
from jaxopt_study.data.workloads import WORKLOADS

ROUNDS = 13
STEPS = {1: 112, 32: 28, 256: 8}
"""Rows of a step -> steps of a lap."""
JAX = {
    "jax.jit": ("loops", "donated"),
    "lax.scan": ("loops", "scan"),
    "one native function": ("loops", "native_scan"),
}
PYTORCH = {
    "its usual loop": ("loops", "prepared"),
    "fused": ("loops", "fused"),
    "torch.compile": ("compiled_loops", "compiled_parts"),
}
LABELS = {"jax": "JAX", "torch": "PyTorch"}
NATIVE = "one native function"
"""XLA makes it fast for a step on one row alone."""
LOSSES = 2e-5
"""Relative distance of the losses of all steps that is allowed. Measured: 1.7e-6."""


def main() -> None:
    """Print a table for each workload."""
    os.sched_setaffinity(0, worker_cores(1))
    loaded = {name: backends.load(name) for name in ("jax", "torch")}
    for backend in loaded.values():
        backend.runtime.configure("float32", "cpu", 1)
    for name in ("digits-mlp", "digits-cnn"):
        for rows, steps in STEPS.items():
            epochs = -(-steps // (898 // rows))
            workload = WORKLOADS[name](0, epochs, rows)
            print(f"{name}, {rows} rows per step", *measured(loaded, workload, steps), sep="\n    ", flush=True)


def measured(loaded: dict[str, Any], workload: Workload, steps: int) -> Iterator[str]:
    """Yield what a step takes in JAX's fastest loop, and the ratio of each of PyTorch's to it."""
    ways = {
        (framework, words): at for framework, table in (("jax", JAX), ("torch", PYTORCH)) for words, at in table.items()
    }
    if workload.batch_size > 1:
        del ways["jax", NATIVE]
    steppers = {}
    for key, (module, function) in ways.items():
        backend = loaded[key[0]]
        task = made(backend, getattr(getattr(backend, module), function), workload, steps)
        steppers[key] = Stepper(task, backend.runtime)
        steppers[key].stages()
        steppers[key].first()
    laps = {key: stepper.calibrate() for key, stepper in steppers.items()}
    times: dict[Any, list[float]] = {key: [] for key in steppers}
    for _ in range(ROUNDS):
        for key, stepper in steppers.items():
            times[key].append(stepper.sample() / laps[key] / steps)
    losses = {key: stepper.finish()["losses"] for key, stepper in steppers.items()}
    best = min((key for key in times if key[0] == "jax"), key=lambda key: np.median(times[key]))
    yield f"{LABELS['jax']} by {best[1]}: {1e6 * np.median(times[best]):.2f} µs"
    for key in times:
        distance = scaled_distance(losses[key], losses[best])
        if not distance < LOSSES:
            yield f"{LABELS[key[0]]} by {key[1]}: its losses differ by {distance:.1e}"
        elif key[0] == "torch":
            found = ratio(times[key], times[best])
            times_as_long = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}] times JAX's"
            yield f"{LABELS['torch']} by {key[1]}: {1e6 * np.median(times[key]):.0f} µs, {times_as_long}"


def made(backend: Any, way: Any, workload: Workload, steps: int) -> Task:
    """Return a lap of a loop, from the initial parameters on."""
    model, rule = workload.network.make(backend), backend.optimizers.OPTIMIZERS["adam"](1e-3)
    loop = way(model, rule)
    data, order = tuple(map(loop.load, workload.train)), loop.load(workload.steps[:steps])
    params = backend.runtime.params_from_numpy(workload.params)

    def start() -> Any:
        return backend.runtime.wait(loop.init(params))

    def run(state: Any) -> Iterator[Any]:
        yield backend.runtime.wait(loop.run(state, data, order))

    def export(output: Any) -> dict[str, Any]:
        return {"losses": backend.runtime.to_numpy(output[1])}

    return Task(run, export, steps=steps, stages=lambda: loop.stages(start(), data, order), start=start)


if __name__ == "__main__":
    main()
