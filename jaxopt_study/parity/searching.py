"""The rule behind recorded updates: usual constants are tried first, then searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature

import numpy as np

from jaxopt_study.parity.fitting import Fit, Leaf, Leaves, Rule, fit, multiples
from jaxopt_study.parity.rules import KINDS, TINY, Steps

NEAR = 6
"""So many of the rules that leave the least are tried further."""

FIRST, FEW = 8, 4
"""Rules are tried on so many steps of so many leaves first."""

USUAL: dict[str, Sequence[float]] = {
    "momentum": (0.0, 0.9, 0.95, 0.99, 0.8, 0.5),
    "dampening": (0.0, 0.9, 0.1, 0.5),
    "b1": (0.9, 0.95, 0.8, 0.5, 0.0, 0.99),
    "b2": (0.999, 0.99, 0.98, 0.95, 0.9, 0.9999),
    "eps": (1e-8, 1e-6, 1e-4, 1e-3, 1e-7, 1e-5, 1e-10, 1e-12, 1e-16, 0.0),
    "initial": (0.0, 0.1, 1.0),
}
"""Constants that people choose."""

DEFAULTS = {
    kind: {p.name: p.default for p in signature(rule).parameters.values() if p.default is not p.empty}
    for kind, rule in KINDS.items()
}
"""The constants of each rule, and their defaults."""

SWITCHES: dict[str, dict[str, Sequence[float]]] = {
    "SGD": {"nesterov": (0.0, 1.0)},
    "Adam": {
        "amsgrad": (0.0, 1.0, 2.0),
        "nesterov": (0.0, 1.0),
        "first_corrected": (1.0, 0.0),
        "second_corrected": (1.0, 0.0),
        "eps_in_root": (0.0, 1.0),
        "count": (0.0, 1.0),
    },
    "RMSprop": {"centered": (0.0, 1.0), "eps_in_root": (0.0, 1.0)},
    "Adagrad": {"eps_in_root": (0.0, 1.0)},
    "Lion": {},
}
"""What a rule does or does not, its usual form first."""

FREE: dict[str, Sequence[tuple[str, ...]]] = {
    "SGD": [("momentum",), ("momentum", "dampening")],
    "Adam": [("b1", "b2"), ("b1", "b2", "eps")],
    "RMSprop": [("b2", "eps"), ("momentum",), ("initial",)],
    "Adagrad": [("initial", "eps")],
    "Lion": [],
}
"""The constants that are searched, the likely ones first."""


def constant(rule: Rule, name: str) -> float:
    """Return the value of a constant or switch, also where the rule leaves it at its default."""
    return float(rule.constants.get(name, DEFAULTS[rule.kind].get(name, 0.0)))


def search(leaves: Leaves) -> Fit | None:
    """Return the first rule that explains the updates, the simplest kinds and usual constants first; or None."""
    few = clearest(leaves)
    short = {name: Leaf(leaf.params[: FIRST + 1], leaf.gradients[:FIRST], leaf.unit) for name, leaf in few.items()}
    tried = []
    for start in STARTS:
        found = fit(start, short)
        if found.explains and (whole := fit(start, leaves)).explains:
            return whole
        tried.append(found)
    near = sorted(tried, key=lambda each: each.excess)[:NEAR]
    for found in near:
        coupled = replace(found.rule, coupled=True)
        if fit(coupled, short).explains and (whole := fit(coupled, leaves)).explains:
            return whole
    kinds: dict[str, Fit] = {}
    for found in sorted(tried, key=lambda each: each.excess):
        kinds.setdefault(found.rule.kind, found)
    for found in list(kinds.values())[:3]:
        for free in FREE[found.rule.kind]:
            for coupled in (found.rule, replace(found.rule, coupled=True)):
                refined = refine(coupled, free, few)
                if refined.explains and (whole := fit(refined.rule, leaves)).explains:
                    return whole
    return None


def clearest(leaves: Leaves) -> dict[str, Leaf]:
    """Return the leaves of which the updates say most of the rule: those that rise most above rounding."""
    clear = {name: float(np.median(np.abs(leaf.updates) / leaf.noise)) for name, leaf in leaves.items()}
    return {name: leaves[name] for name in sorted(clear, key=lambda name: -clear[name])[:FEW]}


def refine(rule: Rule, free: Sequence[str], leaves: Leaves) -> Fit:
    """Return the rule whose constants of the names `free` leave the least, from those of `rule` on.

    Method: Levenberg-Marquardt with derivatives by differences; what a rule leaves is in units of rounding.
    """
    x = np.array([_inner(name, constant(rule, name)) for name in free])

    def left(point: Steps) -> Steps:
        terms = {name: _at(rule, free, point).terms(leaf, decays[name][0]) for name, leaf in leaves.items()}
        return np.concatenate([(multiples(leaf, terms[name])[1] / leaf.noise).ravel() for name, leaf in leaves.items()])

    damping = 1e-2
    for _ in range(20):
        decays = fit(_at(rule, free, x), leaves).decays
        now = left(x)
        # Backward, since 0 is the largest value of a constant near 0 on its scale.
        slopes = np.array([now - left(x - h) for h in 1e-5 * np.eye(len(x))]).T / 1e-5
        square = slopes.T @ slopes
        for _ in range(6):
            step = np.linalg.lstsq(square + damping * np.diag(np.diag(square) + TINY), slopes.T @ now, rcond=None)[0]
            step = np.clip(step, -2, 2)
            tried = left(x - step)
            if better := tried @ tried < now @ now:
                break
            damping *= 8
        if not better:
            break
        x, damping = x - step, damping / 8
        if tried @ tried > (1 - 1e-3) * (now @ now):
            break
    return fit(_at(rule, free, x), leaves)


def _at(rule: Rule, free: Sequence[str], point: Steps) -> Rule:
    return rule.but(**{name: _outer(name, value) for name, value in zip(free, point, strict=True)})


def _inner(name: str, value: float) -> float:
    """Return a constant on the scale on which it is searched."""
    if name in ("b1", "b2", "momentum", "dampening"):
        return float(np.log(max(1 - value, 1e-9)))
    return float(np.log(max(value, 1e-12))) if name == "eps" else value


def _outer(name: str, value: float) -> float:
    if name in ("b1", "b2", "momentum", "dampening"):
        return float(1 - np.exp(min(value, 0.0)))
    return float(np.exp(min(value, 5.0))) if name == "eps" else max(value, 0.0)


def _starts() -> list[Rule]:
    rules = [Rule("SGD", {"momentum": m, "nesterov": n}) for n in (0.0, 1.0) for m in (0.0, 0.9, 0.95, 0.99, 0.8, 0.5)]
    rules += [
        Rule("Adam", {"b1": b1, "b2": b2, "eps": eps})
        for b1 in (0.9, 0.95, 0.8, 0.5, 0.0)
        for b2 in (0.999, 0.99, 0.95, 0.98, 0.9, 0.9999)
        for eps in (1e-8, 1e-6, 1e-4)
    ]
    rules += [Rule("Adam", {switch: value}) for switch, values in SWITCHES["Adam"].items() for value in values[1:]]
    rules += [
        Rule("RMSprop", {"b2": b2, "eps": eps} | switch)
        for b2 in (0.99, 0.9, 0.999, 0.95)
        for eps in (1e-8, 1e-6)
        for switch in ({}, {"eps_in_root": 1.0}, {"centered": 1.0}, {"momentum": 0.9})
    ]
    rules += [Rule("Adagrad", {"initial": initial}) for initial in (0.0, 0.1)]
    return [*rules, Rule("Lion", {}), Rule("Lion", {"b1": 0.95, "b2": 0.98})]


STARTS = _starts()
"""Rules with usual constants, in the order in which they are tried."""
