"""Where two trainings first differ, and why: for anybody's port between two frameworks. It needs NumPy alone.

A **trajectory** is what a training went through: one tree of NumPy arrays for each step, the initial parameters first.
It is given as an iterable of trees (any nesting of mappings, lists, tuples and dataclasses), as the path of a `.npz`
file that `save_trajectory` wrote, or made of a step function of either framework by `walk`. A training is recorded into
such a file by `record` (PyTorch) or `recorded` (JAX). Gradients and more may be recorded as well; see `QUANTITIES`.

    report = locate(walk(torch_step, model, batches, lambda m: dict(m.named_parameters())),
                    walk(jax_step, state, batches, lambda s: s.params))
    print(report)                                        # first step, leaf, element; by how much; what it looks like
    assert_same_training("torch.npz", "jax.npz")         # the same, for a test suite
    print(compare(gradients, other_gradients))           # two trees, once

From the shell: `python -m jaxopt_study.parity torch.npz jax.npz`.
"""

from jaxopt_study.parity.difference import Difference, first_difference
from jaxopt_study.parity.files import load_trajectory
from jaxopt_study.parity.locate import assert_same_training, locate
from jaxopt_study.parity.once import Comparison, compare
from jaxopt_study.parity.patterns import Pattern
from jaxopt_study.parity.quantities import digest
from jaxopt_study.parity.realign import Fault, locate_each, realigned
from jaxopt_study.parity.record import Recording, record, recorded
from jaxopt_study.parity.report import Report
from jaxopt_study.parity.saving import save_trajectory
from jaxopt_study.parity.trees import walk

__all__ = [
    "Comparison",
    "Difference",
    "Fault",
    "Pattern",
    "Recording",
    "Report",
    "assert_same_training",
    "compare",
    "digest",
    "first_difference",
    "load_trajectory",
    "locate",
    "locate_each",
    "realigned",
    "record",
    "recorded",
    "save_trajectory",
    "walk",
]
