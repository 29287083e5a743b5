"""How far a row of the dictionary may differ and still be what it says, with the distances measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jaxopt_study.data.workload import Array
from jaxopt_study.dictionary.translation import APPROXIMATE, Translation
from jaxopt_study.studies.tolerances import Bound

# After 1,000 steps with the same gradients, float64, parameters below 1; on one core of a 2-core x86-64 machine,
# jax 0.10.2, torch 2.13.0+cpu, optax 0.2.8.
REPLAY = Bound(1e-14, 4.4e-15)
# Where torch multiplies the parameter by 1 - lr * weight_decay, that factor is rounded, at every step the same way.
REPLAY_DECAYED = Bound(1e-13, 1.8e-14)

SENSITIVITIES = 20
"""In a closed loop, the frameworks may differ by this many times the sensitivity to rounding."""

CHAOTIC = 0.01
"""Where one unit in the last place moves parameters this far, only replay can tell two rules apart."""

# The same in float32, after 13,470 steps. torch rounds 1 - lr * weight_decay to float32, the same way at every step
# (at lr * weight_decay = 1e-7, that of ASGD's default lambd, it decays by 19 % more).
REPLAY_FLOAT32 = Bound(1.5e-5, 1.5e-6)
REPLAY_FLOAT32_DECAYED = Bound(4e-3, 3.7e-4)
REPLAY_FLOAT32_BFLOAT16 = Bound(1e-3, 9.4e-5)

# Muon: a flipped bit of bfloat16 is 1 % of a step. By replay, and in the closed loop.
BFLOAT16_REPLAY = Bound(2e-4, 1.6e-5)
BFLOAT16_TRAINED = Bound(2e-2, 2.3e-3)

# L2 feeds the parameters back through the normalizer of inputs that are seldom lit, and momentum adds it up: torch
# replayed from parameters moved by one unit in the last place differs from itself by as much.
FED_BACK = ("RMSprop", "momentum", "weight_decay")

# L-BFGS with a line search: the difference of the final losses as a part of the first, the ratio of the evaluations.
SEARCH_LOSS = Bound(1e-2, 8.9e-4)
SEARCH_EVALUATIONS = Bound(2.0, 1.05)

# Schedules over 100 steps, and clipped gradients. Quantiles of 120,000 draws, in units of their deviation.
CONVENTION = Bound(2e-15, 1.5e-16)
QUANTILES = Bound(0.12, 0.040)


def replay_bound(translation: Translation, sensitivity: npt.ArrayLike) -> float:
    """Return how far replayed parameters may differ after 1,000 steps."""
    if translation.name == "Muon":
        return BFLOAT16_REPLAY.bound
    pinned = (REPLAY_DECAYED if translation.decays else REPLAY).bound
    return max(pinned, SENSITIVITIES * float(np.max(sensitivity))) if fed_back(translation) else pinned


def trained_bounds(translation: Translation, sensitivity: npt.ArrayLike) -> Array:
    """Return how far the parameters of closed loops may differ at each step."""
    allowed = SENSITIVITIES * np.asarray(sensitivity)
    if translation.status == APPROXIMATE:
        return np.maximum(allowed, BFLOAT16_TRAINED.bound)
    return allowed + REPLAY_DECAYED.bound if translation.decays else allowed


def float32_bound(translation: Translation) -> float:
    """Return how far replayed float32 parameters may differ after 13,470 steps."""
    if translation.name == "Muon":
        return REPLAY_FLOAT32_BFLOAT16.bound
    return (REPLAY_FLOAT32_DECAYED if translation.decays else REPLAY_FLOAT32).bound


def fed_back(translation: Translation) -> bool:
    """Say whether replay has a sensitivity of its own, because the rule feeds parameters back."""
    name, *options = FED_BACK
    return translation.name == name and all(translation.options[option] for option in options)
