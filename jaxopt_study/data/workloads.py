"""The built-in workloads: name -> function of (seed, epochs, batch size)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from jaxopt_study.data.networks import Convolutional, Dense, Network, Transformer
from jaxopt_study.data.workload import Array, Rows, Workload, draw_order, split, standardize

__all__ = [
    "WORKLOADS",
    "breast_cancer_raw",
    "breast_cancer_standardized",
    "digits_linear",
    "shuffled",
    "whole_breast_cancer",
]


def digits_linear(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return the notebook's job: scikit-learn's digits, first half for training, one linear layer, one row a step.

    The second half is for testing, as in the notebook, so that there is no validation part.
    """
    train, test = _digits()
    network = Dense((64, 10))
    order = draw_order(len(train[1]), epochs, batch_size)
    return Workload("digits-linear", network, train, test, network.draw(seed), order)


def breast_cancer_raw(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return scikit-learn's breast cancer data: 569 rows of 30 measures, whose sizes differ by a factor of 1e5."""
    parts = split(_breast_cancer(), np.random.default_rng(0))
    return shuffled("breast-cancer-raw", Dense((30, 1)), parts, seed, epochs, batch_size, "binary_cross_entropy")


def breast_cancer_standardized(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return the same parts, each measure shifted and scaled to mean 0 and deviation 1 in the training part."""
    parts = _standardized(_breast_cancer())
    name = "breast-cancer-standardized"
    return shuffled(name, Dense((30, 1)), parts, seed, epochs, batch_size, "binary_cross_entropy")


def whole_breast_cancer(name: str) -> Workload:
    """Return the data of one of the two as a problem to minimize: all rows are for training, and for testing too.

    They are in the order of the data, and standardized all together.
    """
    inputs, targets = _breast_cancer()
    if name == "breast-cancer-standardized":
        (inputs,) = standardize(inputs)
    rows, network = (inputs, targets), Dense((30, 1))
    return Workload(name, network, rows, rows, network.draw(0), draw_order(len(targets), 1, 1), "binary_cross_entropy")


def shuffled(
    name: str,
    network: Network,
    parts: tuple[Rows, ...],
    seed: int,
    epochs: int,
    batch_size: int = 1,
    loss: str = "cross_entropy",
) -> Workload:
    """Return a workload of a training, a validation and a test part. Each epoch has an order of its own."""
    train, validation, test = parts
    order = draw_order(len(train[1]), epochs, batch_size, np.random.default_rng(seed))
    return Workload(name, network, train, test, network.draw(seed), order, loss, validation)


def _on_digits(name: str, network: Network, seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return scikit-learn's digits, pixels from 0 to 1: raw pixels saturate tanh, and training is then chaotic.

    The first half is for training, the third quarter for validation, the last for testing.
    """
    train, (inputs, targets) = ((inputs / 16, targets) for inputs, targets in _digits())
    half = len(targets) // 2
    parts = train, (inputs[:half], targets[:half]), (inputs[half:], targets[half:])
    return shuffled(name, network, parts, seed, epochs, batch_size)


def wine(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return scikit-learn's wine data: 178 rows of 13 measures, standardized, 3 classes, one linear layer."""
    from sklearn.datasets import load_wine

    parts = _standardized(load_wine(return_X_y=True))
    return shuffled("wine", Dense((13, 3)), parts, seed, epochs, batch_size)


def diabetes(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return scikit-learn's diabetes data: 442 rows of 10 measures, a regression by one linear layer.

    Inputs and targets are standardized.
    """
    from sklearn.datasets import load_diabetes

    parts = standardized_targets(_standardized(load_diabetes(return_X_y=True)))
    return shuffled("diabetes", Dense((10, 1)), parts, seed, epochs, batch_size, "squared_error")


def zipf_linear(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return a softmax regression on drawn rows whose class k has a frequency of about 1/k, 64 classes of 32 numbers.

    Where most classes are rare, Adam is far ahead of SGD (Kunstner et al., 2024, arXiv:2402.19449). A row is its
    class's centre, drawn once, plus noise, both normal with deviation 1.
    """
    classes, generator = 64, np.random.default_rng(0)
    counts = np.maximum(2, 400 // np.arange(1, classes + 1))
    targets = np.repeat(np.arange(classes), counts)
    centres = generator.standard_normal((classes, 32))
    inputs = centres[targets] + generator.standard_normal((len(targets), 32))
    parts = split((inputs, targets), generator)
    return shuffled("zipf-linear", Dense((32, classes)), parts, seed, epochs, batch_size)


def modular_transformer(seed: int, epochs: int, batch_size: int = 1) -> Workload:
    """Return addition modulo 31 by a transformer of one layer: rows of two numbers and a sign, 961 of them."""
    prime = 31
    first, second = (grid.ravel() for grid in np.meshgrid(np.arange(prime), np.arange(prime)))
    inputs = np.column_stack([first, second, np.full(prime**2, prime)])
    parts = split((inputs, (first + second) % prime), np.random.default_rng(0))
    network = Transformer(tokens=3, vocabulary=prime + 1, width=32, heads=4, outputs=prime)
    return shuffled("modular-transformer", network, parts, seed, epochs, batch_size)


def _standardized(rows: Rows) -> tuple[Rows, ...]:
    """Return training, validation and test part, always the same, with inputs standardized on the first."""
    parts = split(rows, np.random.default_rng(0))
    return tuple(zip(standardize(*(x for x, _ in parts)), (y for _, y in parts), strict=True))


def standardized_targets(parts: tuple[Rows, ...]) -> tuple[Rows, ...]:
    """Return the parts with targets standardized on the first."""
    return tuple(zip((x for x, _ in parts), standardize(*(y for _, y in parts)), strict=True))


def training_rows(name: str) -> int:
    """Return how many rows a built-in workload trains on."""
    return len(WORKLOADS[name](0, 1).train[1])


def _breast_cancer() -> Rows:
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    return inputs, targets


def _digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return scikit-learn's digits, the first half for training."""
    from sklearn.datasets import load_digits  # takes a second to load

    inputs, targets = load_digits(return_X_y=True)
    half = len(inputs) // 2
    return (inputs[:half], targets[:half]), (inputs[half:], targets[half:])


WORKLOADS: dict[str, Callable[..., Workload]] = {
    "digits-linear": digits_linear,
    **{
        name: partial(_on_digits, name, network)
        for name, network in (
            ("digits-mlp", Dense((64, 64, 10), "tanh")),
            ("digits-mlp-relu", Dense((64, 64, 10), "relu")),
            ("digits-mlp2", Dense((64, 64, 32, 10), "tanh")),
            ("digits-mlp2-relu", Dense((64, 64, 32, 10), "relu")),
            ("digits-cnn", Convolutional((8, 8), (8, 16), 10)),
        )
    },
    "breast-cancer-raw": breast_cancer_raw,
    "breast-cancer-standardized": breast_cancer_standardized,
    "wine": wine,
    "diabetes": diabetes,
    "zipf-linear": zipf_linear,
    "modular-transformer": modular_transformer,
}
"""Name -> function of (seed, epochs[, batch_size])."""
