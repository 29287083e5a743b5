"""The rules of optimizers: the direction of each step, from the gradients of all steps until then.

An update is minus the learning rate times the direction, and the weight decay. Switches are numbers: 0 is off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.float64]
"""A leaf's elements, one row per step."""

TINY = 1e-60
"""Less than any number that is recorded; its square is a number of float64 too."""


def sgd(gradients: Steps, momentum: float = 0.0, dampening: float = 0.0, nesterov: float = 0.0) -> Steps:
    """Return gradients with momentum, as `torch.optim.SGD` does: the first is not dampened."""
    buffer, found = gradients[0], []
    for step, gradient in enumerate(gradients):
        buffer = momentum * buffer + (1 - dampening) * gradient if step else gradient
        found.append(gradient + momentum * buffer if nesterov else buffer)
    return np.array(found)


def adam(
    gradients: Steps,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    amsgrad: float = 0.0,
    nesterov: float = 0.0,
    first_corrected: float = 1.0,
    second_corrected: float = 1.0,
    eps_in_root: float = 0.0,
    count: float = 0.0,
) -> Steps:
    """Return the direction of Adam (Kingma and Ba, 2015).

    Args:
        gradients: One row per step.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root.
        amsgrad: 1 as in torch.optim: the largest second moment is corrected; 2 as in optax: the largest corrected one.
        nesterov: Whether the first moment is taken a step ahead, as in optax.
        first_corrected: Whether the first moment is corrected for its start at 0.
        second_corrected: Whether the second moment is.
        eps_in_root: Whether eps is added within the root.
        count: The number of the step before the first one.
    """
    m = v = most = np.zeros_like(gradients[0])
    found = []
    for step, gradient in enumerate(gradients, 1):
        now = step + count
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        correction = 1 - b2**now if second_corrected else 1.0
        # What is kept of torch.optim's AMSGrad is not corrected yet; what is kept of optax's is.
        most = np.maximum(most, v / correction if amsgrad == 2 else v) if amsgrad else v
        corrected = most if amsgrad == 2 else most / correction
        root = np.sqrt(corrected + eps) if eps_in_root else np.sqrt(corrected) + eps
        first = m / (1 - b1**now) if first_corrected else m
        if nesterov:
            first = b1 * m / (1 - b1 ** (now + 1)) + (1 - b1) * gradient / (1 - b1**now)
        found.append(first / (root + TINY))
    return np.array(found)


def rmsprop(
    gradients: Steps,
    b2: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: float = 0.0,
    eps_in_root: float = 0.0,
    initial: float = 0.0,
) -> Steps:
    """Return the direction of RMSprop (Tieleman and Hinton, 2012); `centered` as in Graves, 2013."""
    v, mean, buffer, found = initial + 0 * gradients[0], 0 * gradients[0], 0 * gradients[0], []
    for gradient in gradients:
        v = b2 * v + (1 - b2) * gradient**2
        mean = b2 * mean + (1 - b2) * gradient
        variance = np.maximum(v - mean**2, 0) if centered else v
        root = np.sqrt(variance + eps) if eps_in_root else np.sqrt(variance) + eps
        buffer = momentum * buffer + gradient / (root + TINY)
        found.append(buffer)
    return np.array(found)


def adagrad(gradients: Steps, eps: float = 1e-10, initial: float = 0.0, eps_in_root: float = 0.0) -> Steps:
    """Return the direction of Adagrad (Duchi et al., 2011)."""
    total = initial + np.cumsum(gradients**2, axis=0)
    return gradients / (np.sqrt(total + eps) if eps_in_root else np.sqrt(total) + eps + TINY)


def lion(gradients: Steps, b1: float = 0.9, b2: float = 0.99) -> Steps:
    """Return the direction of Lion (Chen et al., 2023)."""
    m, found = np.zeros_like(gradients[0]), []
    for gradient in gradients:
        found.append(np.sign(b1 * m + (1 - b1) * gradient))
        m = b2 * m + (1 - b2) * gradient
    return np.array(found)


KINDS: dict[str, Callable[..., Steps]] = {
    "SGD": sgd,
    "Adam": adam,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "Lion": lion,
}
