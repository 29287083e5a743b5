"""What recording adds to a training step in PyTorch, as a part of the step.

    python benchmarks/recording.py

The model has 9,610 parameters. The step sees 1,500 rows, and takes one to five milliseconds.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jaxopt_study import parity
from jaxopt_study.bench.stats import ratio

ROUNDS, STEPS = 15, 50
WAYS = {
    "parameters": {},
    "and gradients": {"gradients": True},
    "and outputs of the modules": {"gradients": True, "activations": True},
}


def main() -> None:
    """Print the ratio of the times with and without recording, with its interval."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    inputs, targets = torch.randn(1500, 64), torch.randint(10, (1500,))

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        return (time.perf_counter() - begin) / STEPS

    seconds()
    with tempfile.TemporaryDirectory() as folder:
        times: dict[str, list[float]] = {"nothing": [], **{name: [] for name in WAYS}}
        for _ in range(ROUNDS):
            for name, options in (("nothing", None), *WAYS.items()):
                path = Path(folder) / "a"
                with nullcontext() if options is None else parity.record(model, optimizer, path, **options):
                    times[name].append(seconds())
    bare = np.array(times.pop("nothing"))
    for name, found in times.items():
        r = ratio(np.array(found), bare)
        added = 1e6 * (np.median(found) - np.median(bare))
        print(f"{name}: {r.value:.3f} [{r.low:.3f}, {r.high:.3f}] times the step alone, {added:.0f} µs more")


if __name__ == "__main__":
    main()
