"""The locator against planted faults in real small trainings: PyTorch by autograd against JAX with optax.

What was measured, before (one tolerance, the first pattern that fits) and now. `FAULTS` were at hand when the patterns
were written. `SEEN_ONCE` were not, and 9 of 128 names were wrong when they were looked at; that was mended. `HELD_OUT`
were not; 0 of 116 names were wrong at the first look, and only the choice of the leaf named was changed after it. Later
all were run once more from another seed, with the trainings exchanged: 3 of 350 names were wrong, and were mended.
Each cell: before -> now.

|                      | FAULTS, 55 |          | SEEN_ONCE, 64 |          | HELD_OUT, 60 |          |
|                      | float32    | float64  | float32       | float64  | float32      | float64  |
|----------------------|------------|----------|---------------|----------|--------------|----------|
| step right           | 37 -> 52   | 52 -> 54 | 44 -> 60      | 57 -> 62 | 39 -> 52     | 55 -> 56 |
| step late            | 12 -> 3    | 0 -> 1   | 12 -> 2       | 0 -> 0   | 13 -> 4      | 0 -> 2   |
| step early           | 0 -> 0     | 3 -> 0   | 4 -> 2        | 7 -> 2   | 3 -> 1       | 5 -> 1   |
| called the same      | 6 -> 0     | 0 -> 0   | 4 -> 0        | 0 -> 0   | 5 -> 3       | 0 -> 1   |
| step and leaf right  | 31 -> 51   | 46 -> 53 | 34 -> 58      | 46 -> 60 | 29 -> 49     | 47 -> 56 |
| name right           | 13 -> 30   | 16 -> 31 | 13 -> 27      | 14 -> 27 | 13 -> 28     | 23 -> 31 |
| name unknown         | 8 -> 25    | 17 -> 24 | 11 -> 37      | 27 -> 37 | 9 -> 29      | 19 -> 28 |
| name wrong           | 28 -> 0    | 22 -> 0  | 36 -> 0       | 23 -> 0  | 33 -> 0      | 18 -> 0  |

The four that are called the same differ by less than the rounding of a right port: see `BELOW`. Of 42 runs of a right
port, 15 were called different before, and none is now. A step is right if it is the first at which a run of the same
code in float64 differs at all.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch

from jaxopt_study import parity
from jaxopt_study.parity.rounding import FLOAT32, Scale
from tests.test_locator_trainings import Training, jax_run, torch_run

BASES = {
    "mlp_sgd": Training("mlp", "sgd", 0.05),
    "mlp_nesterov": Training("mlp", "sgd", 0.05, momentum=0.9, nesterov=True),
    "mlp_adam": Training("mlp", "adam", 0.01),
    "script": Training("mlp", "adamw", 1e-3, decay=0.05, groups=True, warm=5, total=40, clip=0.5, ema=0.9),
    "cnn_adam": Training("cnn", "adam", 1e-3),
    "cnn_sgd": Training("cnn", "sgd", 0.05, momentum=0.9, decay=0.01, drop=10),
    "attention": Training("attention", "adamw", 1e-3, decay=1e-4),
}

RATE, SCHEDULE, DECAY = "a constant factor", "a shifted schedule", "missing or different weight decay"
L2, EPS = "L2 instead of decoupled weight decay", "a different eps or scale of the gradients"
BATCHES, FROZEN, LAG, INITIAL = "another batch order", "a frozen leaf", "a one-step lag", "different initialization"

MEAN, SIGN = "another decay of a running mean", "a wrong sign"

# name: (base, what is changed in the training under test, names that are right)
FAULTS = {
    "learning rate": ("mlp_sgd", {"lr": 0.06}, {RATE}),
    "learning rate, adam": ("mlp_adam", {"lr": 0.02}, {RATE}),
    "learning rate of one leaf": ("mlp_adam", {"slow": "mid/w"}, {RATE}),
    "ascent": ("mlp_nesterov", {"ascend": True}, {SIGN}),
    "no nesterov": ("mlp_nesterov", {"nesterov": False}, {"missing nesterov"}),
    "another momentum": ("mlp_nesterov", {"momentum": 0.8}, {"another momentum"}),
    "sum instead of mean": ("mlp_sgd", {"reduction": "sum"}, {RATE}),
    "sum under adam": ("mlp_adam", {"reduction": "sum"}, {EPS}),
    "clipping by value": ("mlp_sgd", {"clip_value": 0.05}, {"clipping by value"}),
    "clipping by value, adam": ("mlp_adam", {"clip_value": 0.02}, set()),
    "clipping by norm": ("mlp_sgd", {"clip": 0.2}, {"clipping by norm"}),
    "clipping by norm, adam": ("mlp_adam", {"clip": 0.2}, {EPS}),
    "another clip": ("script", {"clip": 0.2}, {EPS}),
    "no clip": ("script", {"clip": 0.0}, {EPS}),
    "another eps": ("mlp_adam", {"eps": 1e-4}, {EPS}),
    "b1": ("mlp_adam", {"b1": 0.8}, set()),
    "b2": ("mlp_adam", {"b2": 0.99}, set()),
    "amsgrad": ("mlp_adam", {"amsgrad": True}, set()),
    "no bias correction": ("mlp_adam", {"uncorrected": True}, {"missing bias correction"}),
    "stale gradients": ("mlp_sgd", {"stale": True}, {LAG}),
    "decay of adamw": ("attention", {"decay": 1e-2}, {DECAY}),
    "no decay": ("script", {"decay": 0.0}, {DECAY}),
    "coupled decay": ("script", {"coupled": True}, {L2}),
    "no groups": ("script", {"groups": False}, {DECAY}),
    "warm-up early": ("script", {"shift": 1}, {SCHEDULE}),
    "warm-up forgotten": ("script", {"warm": 0}, {SCHEDULE}),
    "warm-up from 0": ("script", {"shift": -1}, {SCHEDULE}),
    "cosine longer": ("script", {"total": 50}, {SCHEDULE}),
    "another ema": ("script", {"ema": 0.99}, {MEAN}),
    "late ema": ("script", {"ema_early": True}, {LAG}),
    "drop late": ("cnn_sgd", {"drop": 11}, {SCHEDULE, RATE}),
    "gelu": ("mlp_sgd", {"gelu": "tanh"}, set()),
    "gelu, adam": ("mlp_adam", {"gelu": "tanh"}, set()),
    "smoothing": ("mlp_adam", {"smoothing": 0.1}, set()),
    "batch norm eps": ("cnn_sgd", {"bn_eps": 1e-3}, set()),
    "evaluated": ("cnn_adam", {"evaluated": True}, set()),
    "layer norm eps": ("attention", {"ln_eps": 1e-3}, set()),
    "attention scale": ("attention", {"scale": 8**0.5}, set()),
    "mask by one": ("attention", {"causal": 1}, set()),
    "classes": ("mlp_sgd", {"permuted": True}, set()),
    "classes, adam": ("attention", {"permuted": True}, set()),
    "frozen leaf": ("mlp_adam", {"frozen": "mid/b"}, {FROZEN}),
    "frozen square leaf": ("mlp_sgd", {"frozen": "mid/w"}, {FROZEN}),
    "swapped batches": ("mlp_sgd", {"swapped": (3, 8)}, {BATCHES}),
    "swapped batches, adam": ("mlp_adam", {"swapped": (3, 8)}, {BATCHES}),
    "data by one": ("mlp_sgd", {"shuffled": True}, {BATCHES}),
    "transposed": ("mlp_sgd", {"transposed": "mid/w"}, {"a transposed leaf"}),
    "another start": ("cnn_adam", {"reset": "out/w"}, {INITIAL}),
    "accumulation": ("mlp_sgd", {"accumulate": 2}, set()),
    "dropout": ("mlp_adam", {"dropout": 0.1}, set()),
    "bfloat16": ("mlp_adam", {"half": True}, set()),
    "tied": ("mlp_sgd", {"tied": True}, set()),
    "last row dropped": ("mlp_adam", {"short": True}, set()),
    "not copied": ("mlp_adam", {"aliased": True}, {"arrays that were not copied"}),
    "frozen later": ("mlp_sgd", {"frozen_after": 6}, {FROZEN}),
}

# Written before the patterns, and looked at once they were: 9 of 128 names were wrong then, and were mended.
SEEN_ONCE = {
    "h learning rate": ("cnn_sgd", {"lr": 0.04}, {RATE}),
    "h learning rate, attention": ("attention", {"lr": 3e-4}, {RATE}),
    "h slow leaf": ("mlp_nesterov", {"slow": "in/w"}, {RATE}),
    "h ascent": ("cnn_adam", {"ascend": True}, {SIGN}),
    "h momentum forgotten": ("cnn_sgd", {"momentum": 0.0}, {"another momentum"}),
    "h momentum": ("mlp_nesterov", {"momentum": 0.95}, {"another momentum"}),
    "h sum": ("cnn_sgd", {"reduction": "sum"}, {RATE}),
    "h sum, nesterov": ("mlp_nesterov", {"reduction": "sum"}, {RATE}),
    "h sum, attention": ("attention", {"reduction": "sum"}, {EPS}),
    "h sum, script": ("script", {"reduction": "sum"}, {EPS}),
    "h value clip": ("cnn_sgd", {"clip_value": 0.05}, {"clipping by value"}),
    "h value clip, attention": ("attention", {"clip_value": 0.02}, set()),
    "h norm clip": ("mlp_nesterov", {"clip": 0.3}, {"clipping by norm"}),
    "h norm clip, attention": ("attention", {"clip": 0.3}, {EPS}),
    "h eps": ("cnn_adam", {"eps": 1e-3}, {EPS}),
    "h eps, small": ("attention", {"eps": 1e-6}, {EPS}),
    "h b1": ("attention", {"b1": 0.95}, set()),
    "h b1, script": ("script", {"b1": 0.8}, set()),
    "h b2": ("cnn_adam", {"b2": 0.95}, set()),
    "h b2, script": ("script", {"b2": 0.99}, set()),
    "h amsgrad": ("attention", {"amsgrad": True}, set()),
    "h no bias correction": ("attention", {"uncorrected": True}, {"missing bias correction"}),
    "h no bias correction, script": ("script", {"uncorrected": True}, {"missing bias correction"}),
    "h stale": ("cnn_sgd", {"stale": True}, {LAG}),
    "h stale, adam": ("mlp_adam", {"stale": True}, {LAG}),
    "h decay": ("cnn_sgd", {"decay": 0.0}, {DECAY}),
    "h decay doubled": ("script", {"decay": 0.1}, {DECAY}),
    "h L2 under adam": ("mlp_adam", {"decay": 0.01}, set()),
    "h coupled decay": ("attention", {"coupled": True, "decay": 1e-4}, {L2}),
    "h warm-up late": ("script", {"warm": 6}, {SCHEDULE}),
    "h warm-up twice as long": ("script", {"warm": 10}, {SCHEDULE}),
    "h cosine shorter": ("script", {"total": 35}, {SCHEDULE}),
    "h no schedule": ("script", {"warm": 0, "total": 100_000}, {SCHEDULE}),
    "h drop early": ("cnn_sgd", {"drop": 9}, {SCHEDULE, RATE}),
    "h drop forgotten": ("cnn_sgd", {"drop": 100}, {SCHEDULE, RATE}),
    "h schedule instead of constant": ("mlp_nesterov", {"warm": 5, "total": 40}, {SCHEDULE}),
    "h schedule, attention": ("attention", {"warm": 3, "total": 30}, {SCHEDULE}),
    "h ema": ("script", {"ema": 0.95}, {MEAN}),
    "h gelu": ("mlp_nesterov", {"gelu": "tanh"}, set()),
    "h smoothing": ("cnn_sgd", {"smoothing": 0.05}, set()),
    "h smoothing, attention": ("attention", {"smoothing": 0.2}, set()),
    "h batch norm eps": ("cnn_adam", {"bn_eps": 1e-3}, set()),
    "h evaluated": ("cnn_sgd", {"evaluated": True}, set()),
    "h layer norm eps": ("attention", {"ln_eps": 1e-6}, set()),
    "h scale": ("attention", {"scale": 1.1}, set()),
    "h mask": ("attention", {"causal": -0}, set()),
    "h no mask": ("attention", {"causal": 5}, set()),
    "h classes": ("cnn_sgd", {"permuted": True}, set()),
    "h frozen": ("attention", {"frozen": "q/w"}, {FROZEN}),
    "h frozen scale": ("cnn_sgd", {"frozen": "bn/scale"}, {FROZEN}),
    "h frozen, script": ("script", {"frozen": "out/w"}, {FROZEN}),
    "h swapped": ("mlp_nesterov", {"swapped": (2, 6)}, {BATCHES}),
    "h swapped, attention": ("attention", {"swapped": (5, 9)}, {BATCHES}),
    "h swapped, script": ("script", {"swapped": (0, 1)}, {BATCHES}),
    "h data by one": ("cnn_adam", {"shuffled": True}, {BATCHES}),
    "h transposed": ("attention", {"transposed": "v/w"}, {"a transposed leaf"}),
    "h start": ("attention", {"reset": "o/b"}, {INITIAL}),
    "h accumulation": ("mlp_nesterov", {"accumulate": 2}, set()),
    "h accumulation, adam": ("cnn_adam", {"accumulate": 4}, set()),
    "h dropout": ("mlp_sgd", {"dropout": 0.3}, set()),
    "h bfloat16": ("mlp_sgd", {"half": True}, set()),
    "h tied": ("mlp_adam", {"tied": True}, set()),
    "h short": ("cnn_sgd", {"short": True}, set()),
    "h not copied": ("cnn_sgd", {"aliased": True}, {"arrays that were not copied"}),
    "h frozen later": ("mlp_nesterov", {"frozen_after": 4}, {FROZEN}),
}
del SEEN_ONCE["h mask"]  # it is no fault
# Not looked at until the patterns were as they are.
HELD_OUT = {
    "k learning rate": ("mlp_nesterov", {"lr": 0.043}, {RATE}),
    "k learning rate, script": ("script", {"lr": 7e-4}, {RATE}),
    "k slow leaf": ("cnn_adam", {"slow": "conv/w"}, {RATE}),
    "k slow leaf, attention": ("attention", {"slow": "o/w"}, {RATE}),
    "k ascent": ("script", {"ascend": True}, {SIGN}),
    "k momentum": ("cnn_sgd", {"momentum": 0.85}, {"another momentum"}),
    "k plain momentum": ("mlp_sgd", {"momentum": 0.9}, {"another momentum"}),
    "k nesterov instead of plain": ("cnn_sgd", {"nesterov": True}, {"missing nesterov"}),
    "k sum": ("cnn_adam", {"reduction": "sum"}, {EPS}),
    "k value clip": ("mlp_nesterov", {"clip_value": 0.1}, {"clipping by value"}),
    "k value clip, script": ("script", {"clip_value": 0.02}, set()),
    "k norm clip": ("cnn_sgd", {"clip": 0.25}, {"clipping by norm"}),
    "k norm clip, cnn": ("cnn_adam", {"clip": 0.1}, {EPS}),
    "k eps": ("script", {"eps": 1e-5}, {EPS}),
    "k eps, attention": ("attention", {"eps": 1e-4}, {EPS}),
    "k b1": ("cnn_adam", {"b1": 0.5}, set()),
    "k b2": ("attention", {"b2": 0.98}, set()),
    "k amsgrad": ("script", {"amsgrad": True}, set()),
    "k no bias correction": ("cnn_adam", {"uncorrected": True}, {"missing bias correction"}),
    "k stale": ("mlp_nesterov", {"stale": True}, {LAG}),
    "k stale, attention": ("attention", {"stale": True}, {LAG}),
    "k decay": ("cnn_sgd", {"decay": 0.02}, {DECAY}),
    "k decay, nesterov": ("mlp_nesterov", {"decay": 1e-3}, {DECAY}),
    "k decay, attention": ("attention", {"decay": 0.0}, {DECAY}),
    "k L2 under adam": ("cnn_adam", {"decay": 1e-3}, set()),
    "k coupled decay": ("script", {"coupled": True, "groups": False}, {L2}),
    "k warm-up": ("script", {"warm": 4}, {SCHEDULE}),
    "k two steps early": ("script", {"shift": 2}, {SCHEDULE}),
    "k cosine by one": ("script", {"total": 41}, {SCHEDULE}),
    "k constant instead of drop": ("cnn_sgd", {"drop": 12}, {SCHEDULE, RATE}),
    "k schedule": ("cnn_adam", {"warm": 4, "total": 50}, {SCHEDULE}),
    "k schedule, sgd": ("mlp_sgd", {"warm": 4, "total": 50}, {SCHEDULE}),
    "k cosine alone": ("mlp_adam", {"total": 60}, {SCHEDULE}),
    "k ema": ("script", {"ema": 0.999}, {MEAN}),
    "k gelu": ("script", {"gelu": "tanh"}, set()),
    "k smoothing": ("mlp_nesterov", {"smoothing": 0.1}, set()),
    "k smoothing, script": ("script", {"smoothing": 0.1}, set()),
    "k batch norm eps": ("cnn_sgd", {"bn_eps": 1e-4}, set()),
    "k layer norm eps": ("attention", {"ln_eps": 1e-4}, set()),
    "k scale": ("attention", {"scale": 0.5}, set()),
    "k mask": ("attention", {"causal": 2}, set()),
    "k classes": ("cnn_adam", {"permuted": True}, set()),
    "k frozen": ("mlp_nesterov", {"frozen": "out/b"}, {FROZEN}),
    "k frozen, cnn": ("cnn_adam", {"frozen": "bn/bias"}, {FROZEN}),
    "k swapped": ("cnn_sgd", {"swapped": (4, 7)}, {BATCHES}),
    "k swapped, cnn": ("cnn_adam", {"swapped": (1, 2)}, {BATCHES}),
    "k swapped, late": ("mlp_sgd", {"swapped": (12, 20)}, {BATCHES}),
    "k data by one": ("attention", {"shuffled": True}, {BATCHES}),
    "k data by one, script": ("script", {"shuffled": True}, {BATCHES}),
    "k transposed": ("mlp_adam", {"transposed": "mid/w"}, {"a transposed leaf"}),
    "k start": ("script", {"reset": "in/b"}, {INITIAL}),
    "k accumulation": ("cnn_sgd", {"accumulate": 2}, set()),
    "k accumulation, script": ("script", {"accumulate": 3}, set()),
    "k dropout": ("attention", {"dropout": 0.1}, set()),
    "k bfloat16": ("attention", {"half": True}, set()),
    "k tied": ("mlp_nesterov", {"tied": True}, set()),
    "k short": ("attention", {"short": True}, set()),
    "k not copied": ("script", {"aliased": True}, {"arrays that were not copied"}),
    "k frozen later": ("mlp_adam", {"frozen_after": 8}, {FROZEN}),
    "k everything": ("mlp_sgd", {"lr": 0.04, "clip_value": 0.05}, set()),
}

DTYPES = ("float32", "float64")
NO_EFFECT = ("conv/b", "k/b")  # their gradient is 0: a bias before a normalization, and of the keys of attention


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads only cost time here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def planted(name, dtype):
    """Return the report on a planted fault, the steps at which it first shows, and the leaves."""
    base, changes, _ = (FAULTS | SEEN_ONCE | HELD_OUT)[name]
    right = BASES[base]
    wrong = replace(right, **changes)
    shows, leaves = (0, 0), set(jax_run(right, dtype)[0])
    if not wrong.aliased:
        runs = torch_run(right, "float64"), torch_run(wrong, "float64")
        # A schedule of optax is rounded to float32.
        shows, leaves = first_effect(*runs, FLOAT32 if right.total else np.finfo(dtype).eps)
        leaves |= set(NO_EFFECT) if wrong.evaluated else set()
    return parity.locate(torch_run(wrong, dtype), jax_run(right, dtype)), shows, leaves


def first_effect(right, wrong, eps):
    """Return where two runs of the same code in float64 first differ at all, and by 64 units of `eps`, and in what."""
    first, leaves = None, set()
    for step, (a, b) in enumerate(zip(right, wrong, strict=True)):
        sizes = {n: max(np.abs(a[n]).max(), np.abs(b[n]).max()) for n in a if n not in NO_EFFECT}
        apart = {n: np.abs(a[n] - b[n]).max() / size for n, size in sizes.items() if size}
        if first is None and max(apart.values()) > 1e-13:
            first = step
        leaves |= {name for name, size in apart.items() if size > 1e-13}
        if max(apart.values()) > 64 * eps:
            return (first, step), leaves
    assert first is not None, "this is no fault"
    return (first, len(right) - 1), leaves


# The decay of a bias of 0.002 is 1e-7 per step, as much as the rounding of its gradient; the cosine begins with that.
LATE = {("no groups", "float32"): 6, ("no groups", "float64"): 5, ("k cosine by one", "float32"): 8}


ALL = [(name, dtype) for name in FAULTS for dtype in DTYPES]
ALL += [(name, "float32") for name in HELD_OUT]
# Of these only what had a wrong name, to save time.
MENDED = ("h stale", "h warm-up late", "h warm-up twice as long", "h ema", "h frozen")
ALL += [(name, "float64") for name in MENDED]

# In float32 the decay is one unit in the last place per step, the other two change updates by less than 1e-5 of them.
BELOW = {("k sum", "float32"), ("k amsgrad", "float32"), ("k decay, attention", "float32")}

# A bias of which the updates are rounding is named, and not a leaf that is wrong: they are alike by chance in the first
# steps, or the others differ so little at the next step that it seems the cause.
NOISE_NAMED = {
    ("k b2", "float32"),
    ("k L2 under adam", "float32"),
    ("k batch norm eps", "float32"),
    ("k frozen, cnn", "float32"),
}


@pytest.mark.parametrize(("name", "dtype"), ALL)
def test_a_planted_fault_is_found_at_its_step(name, dtype):
    report, (first, clearly), leaves = planted(name, dtype)
    assert report.same == ((name, dtype) in BELOW), report
    if report.same:
        return
    if (name, dtype) in NOISE_NAMED and report.difference.leaf in NO_EFFECT:
        return  # a processor that rounds otherwise may name a leaf that is wrong
    assert first <= report.difference.step <= LATE.get((name, dtype), clearly), report
    assert report.difference.leaf in leaves, report


@pytest.mark.parametrize(("name", "dtype"), ALL)
def test_no_planted_fault_is_given_a_wrong_name(name, dtype):
    report, _, _ = planted(name, dtype)
    _, _, right = (FAULTS | SEEN_ONCE | HELD_OUT)[name]
    if report.same:
        return
    assert report.pattern.name in right | {"unknown"}, report
    if report.pattern.name == "unknown":
        assert 1 <= len(report.pattern.candidates) <= 3
        assert "The cause is unknown" in str(report)
        assert "To tell" in str(report)


def test_half_of_the_names_are_given():
    """A locator that always says `unknown` is never wrong; the numbers are the measured ones, less two."""
    for faults, dtype, least in ((FAULTS, "float32", 28), (FAULTS, "float64", 29), (HELD_OUT, "float32", 24)):
        named = [name for name in faults if planted(name, dtype)[0].pattern.name in faults[name][2]]
        assert len(named) >= least, named


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("base", BASES)
def test_a_right_port_is_the_same(base, dtype, seed):
    t = BASES[base]
    report = parity.locate(torch_run(t, dtype, seed), jax_run(t, dtype, seed))
    assert report.same, report
    left_out = {"cnn_adam": "conv/b", "attention": "k/b"}.get(base)
    assert not left_out or f"Left out: {left_out}." in str(report), report
    scheduled = t.total and dtype == "float64"
    assert ("a learning rate rounded to float32" in str(report)) == bool(scheduled)


def test_the_allowance_is_near_what_was_measured():
    """Of 400 steps, the largest distance is at most a half of what is allowed, and it is not far below."""
    worst = []
    for base in ("mlp_sgd", "mlp_adam", "attention"):
        first, second = (run(BASES[base], "float32", 3, 400) for run in (torch_run, jax_run))
        report = parity.locate(first, second)
        assert report.same
        worst.append(largest_share(first, second))
    assert max(worst) < 0.5, worst  # 0.02, 0.15 and 0.4
    assert max(worst) > 0.2


def largest_share(first, second):
    """Return the largest distance of a leaf at any step, as a fraction of what is allowed."""
    scales, shares = {}, [0.0]
    pairs = list(zip(first, second, strict=True))
    for before, now in zip([None, *pairs], pairs, strict=False):
        for name in set(now[0]) - set(NO_EFFECT):
            pair = now[0][name], now[1][name]
            scales[name] = scales.get(name, Scale()).after(before and (before[0][name], before[1][name]), pair)
            allowed = scales[name].allowed(FLOAT32)
            shares.append(np.abs(pair[0] - pair[1]).max() / allowed if allowed else 0.0)
    return max(shares)


def test_chaotic_training_is_never_given_the_name_of_a_mistake():
    """At this learning rate rounding grows 10,000-fold in 300 steps of a right port."""
    hot = Training("mlp", "sgd", 0.5, momentum=0.9)
    for seed in (0, 2):
        report = parity.locate(torch_run(hot, "float32", seed, 300), jax_run(hot, "float32", seed, 300))
        assert report.pattern.name in (("rounding",) if report.same else ("plain rounding growth", "unknown")), report


def test_a_small_leaf_that_is_wrong_beside_a_large_one_is_found():
    def path(factor):
        return [
            {"large": np.float32([1000, 1000]), "small": np.float32([1e-3, 2e-3]) * (1 if step < 3 else factor)}
            for step in range(6)
        ]

    report = parity.locate(path(1), path(1.001))
    assert (report.difference.step, report.difference.leaf) == (3, "small")


def test_the_leaf_that_is_named_differs_most():
    report, _, _ = planted("learning rate of one leaf", "float64")
    assert report.difference.leaf == "mid/w"
    right = torch_run(BASES["mlp_adam"], "float64")
    wrong = [dict(tree) for tree in right]
    for name, size in (("in/b", 1e-6), ("out/b", 1e-3)):
        wrong[4][name] = wrong[4][name] + size
    report = parity.locate(right, wrong)
    assert (report.difference.leaf, report.leaves) == ("out/b", ("in/b", "out/b"))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_numbers_of_16_bits_against_float32(kind):
    """A cast of every step is the same; a leaf that has moved 5 % less is not."""
    kind = np.dtype(getattr(ml_dtypes, kind, kind))
    right = jax_run(BASES["mlp_adam"], "float32")

    def cast(share):
        start = right[0]["out/w"]
        return [
            {n: leaf.astype(kind) for n, leaf in tree.items()}
            | {"out/w": (start + share * (tree["out/w"] - start)).astype(kind)}
            for tree in right
        ]

    assert parity.locate(right, cast(1.0)).same
    report = parity.locate(right, cast(0.7))
    assert report.leaves == ("out/w",), report


def test_float32_numbers_in_float64_arrays_are_compared_as_float32():
    t = BASES["mlp_adam"]
    wide = [{name: leaf.astype(float) for name, leaf in tree.items()} for tree in torch_run(t, "float32")]
    report = parity.locate(wide, jax_run(t, "float64"))
    assert report.same
    assert "The first training's numbers are all numbers of float32" in str(report)
    assert not parity.locate(
        torch_run(t, "float64"), [{n: leaf + 1e-7 for n, leaf in tree.items()} for tree in jax_run(t, "float64")]
    ).same


def test_a_leaf_that_is_no_rounding_is_not_left_out():
    """A mean of the weights has no effect on the training either; a wrong one is reported all the same."""
    for name in ("another ema", "late ema"):
        for dtype in DTYPES:
            report, _, _ = planted(name, dtype)
            assert report.difference.leaf.startswith("ema/")
    report, _, _ = planted("frozen leaf", "float32")
    assert "Left out" not in str(report)
