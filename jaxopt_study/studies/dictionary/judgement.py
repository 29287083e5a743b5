"""Does a row's class hold on these versions? Distances from the records, against the bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record, unpack
from jaxopt_study.dictionary.conventions import CONVENTIONS
from jaxopt_study.dictionary.others import OPTAX, TORCH
from jaxopt_study.dictionary.rules import APPROXIMATE, Translation, translate
from jaxopt_study.studies.dictionary import bounds
from jaxopt_study.studies.dictionary.experiments import (
    CONVENTIONS_AND_QUIRKS,
    GROWTH,
    GROWTH_REPLAY,
    OPTIMIZERS,
    QUIRKS,
    ROWS,
    growth_steps,
    steps_of,
)

EXPERIMENTS = ("replay", "schedule", "digits", "mlp")


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Return for each row that both frameworks ran whether its class holds, and for each defect whether it is there."""
    return [
        Finding(row["subject"] + ", float32" * (row["kind"] == "float32"), row["holds"], row["words"])
        for row in rows(records, plan)
        if row["kind"] in ("row", "convention", "float32") and row["words"]
    ]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each configuration, float32 growth, known defect, and optimizer that is new or gone."""
    found: list[dict[str, Any]] = []
    for subject in dict.fromkeys(record.subject for record in records):
        pair = {record.framework: record for record in records if record.subject == subject}
        if subject == CONVENTIONS_AND_QUIRKS:
            found += [*_conventions(pair), *_quirks(pair), *_unknown(pair)]
        else:
            found += [_row(subject, pair, plan), *_growth(subject, pair)]
    return found


def floor_of(moved: Sequence[float] | np.ndarray | None, path: np.ndarray) -> np.ndarray:
    """Return the floor at each step: the moved run's distance, if there is one, at least one unit in the last place."""
    unit = np.spacing(np.abs(path).max(axis=1))
    return unit if moved is None else np.maximum(moved, unit)


def _row(subject: str, pair: Mapping[str, Record], plan: Plan) -> dict[str, Any]:
    table_row = ROWS[subject]
    translation = translate(table_row.name, table_row.options)
    row: dict[str, Any] = {
        "kind": "row",
        "subject": subject,
        "name": translation.name,
        "expression": translation.expression,
        "class": translation.status,
        "reason": translation.reason,
        "condition": translation.condition,
        "holds": None,
        "words": "",
        "failed": "; ".join(record.reason for record in pair.values() if not record.ok),
    }
    if {"jax", "torch"} - pair.keys() or row["failed"]:
        return row
    jax, torch = pair["jax"].value, pair["torch"].value
    if "search" in jax:
        return row | _search(jax["search"], torch["search"])
    for name in EXPERIMENTS:
        if name in jax:
            steps = steps_of(table_row, name, plan)
            row[name] = _distances(jax[name], torch[name], torch.get(f"{name} moved"), steps)
    if "namesake" in jax:
        apart = np.abs(unpack(jax["namesake"]) - unpack(torch["digits"])).max(axis=1)
        row["namesake"] = dict(zip(steps_of(table_row, "digits", plan), apart.tolist(), strict=True))
    return row | dict(zip(("holds", "words"), _judge(row, translation), strict=True))


def _distances(jax: Any, torch: Any, moved: Sequence[float] | None, steps: Sequence[int]) -> dict[str, Any]:
    ours, theirs = unpack(jax), unpack(torch)
    with np.errstate(invalid="ignore"):
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs)).max(axis=1)
    return {
        "steps": list(steps),
        "distance": [float(x) if np.isfinite(x) else float("inf") for x in apart],
        "floor": floor_of(moved, theirs).tolist(),
    }


def _judge(row: Mapping[str, Any], translation: Translation) -> tuple[bool, str]:
    """Say whether the class holds, and by what distances."""
    parts, holds = [], True
    for name in ("replay", "schedule"):
        if name in row:
            worst, floor = max(row[name]["distance"]), max(row[name]["floor"])
            allowed = bounds.replay_bound(translation)
            if bounds.fed_back(translation):
                allowed = max(allowed, bounds.FLOORS * floor)
            holds &= worst <= allowed
            parts.append(f"{name} {worst:.1e} (at most {allowed:.1e})")
    for name in ("digits", "mlp"):
        if name in row:
            ok, words = _closed(name, row[name], translation)
            holds &= ok
            parts.append(words)
    return bool(holds), ", ".join(parts)


def _closed(name: str, found: Mapping[str, Any], translation: Translation) -> tuple[bool, str]:
    distance, floor = np.array(found["distance"]), np.array(found["floor"])
    allowed = bounds.FLOORS * floor
    if translation.status == APPROXIMATE:
        allowed = np.maximum(allowed, bounds.BFLOAT16_TRAINED.bound)
    elif translation.decays:
        allowed = allowed + bounds.REPLAY_DECAYED.bound
    words = f"{name} {distance[-1]:.1e} with a floor of {floor[-1]:.1e}"
    return bool(np.all(distance <= allowed)), words + (", chaotic" if floor[-1] > bounds.CHAOTIC else "")


def _search(jax: Mapping[str, Any], torch: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two line searches by where they end and what that took."""
    ends = {name: (min(found["losses"]), found["evaluations"][-1]) for name, found in (("jax", jax), ("torch", torch))}
    (ours, our_count), (theirs, their_count) = ends["jax"], ends["torch"]
    apart = abs(ours - theirs) / torch["losses"][0]
    ratio = max(our_count, their_count) / min(our_count, their_count)
    words = (
        f"the line searches differ: after as many iterations the loss is {ours:.2g} in optax ({our_count} evaluations) "
        f"and {theirs:.2g} in torch ({their_count})"
    )
    holds = apart <= bounds.SEARCH_LOSS.bound and ratio <= bounds.SEARCH_EVALUATIONS.bound
    return {"holds": bool(holds), "words": words, "search": {"losses": [ours, theirs], "parts": apart}}


def _conventions(pair: Mapping[str, Record]) -> list[dict[str, Any]]:
    if {"jax", "torch"} - pair.keys() or not all(record.ok for record in pair.values()):
        return []
    jax, torch = pair["jax"].value, pair["torch"].value
    found = []
    for number, convention in enumerate(CONVENTIONS):
        theirs = np.array(torch[f"conventions {convention.kind}"][f"{number} torch"])
        # Draws are compared by their quantiles, in units of the deviation; the others number by number.
        unit = theirs.std() if convention.kind == "initializer" else 1.0
        apart, namesake = (
            float(np.abs(np.array(jax[f"conventions {convention.kind}"][f"{number} {which}"]) - theirs).max() / unit)
            for which in ("aligned", "namesake")
        )
        bound = (bounds.QUANTILES if convention.kind == "initializer" else bounds.CONVENTION).bound
        found.append(
            {
                "kind": "convention",
                "subject": convention.torch,
                "what": convention.kind,
                "expression": convention.aligned,
                "reason": convention.reason,
                "distance": apart,
                "namesake": namesake if convention.namesake else None,
                "holds": apart <= bound,
                "words": f"parts by {apart:.1e} (at most {bound:.1e})",
            }
        )
    return found


def _growth(subject: str, pair: Mapping[str, Record]) -> list[dict[str, Any]]:
    if {"jax", "torch"} - pair.keys() or not all(record.ok and GROWTH in record.value for record in pair.values()):
        return []
    jax, torch = pair["jax"].value, pair["torch"].value
    translation = translate(ROWS[subject].name, ROWS[subject].options)
    steps, bound = growth_steps(), bounds.float32_bound(translation)
    replayed = _distances(jax[GROWTH_REPLAY], torch[GROWTH_REPLAY], None, steps)["distance"]
    return [
        {
            "kind": "float32",
            "subject": subject,
            "name": translation.name,
            **_distances(jax[GROWTH], torch[GROWTH], torch[f"{GROWTH} moved"], steps),
            "replayed": replayed,
            "decays": translation.decays,
            "holds": max(replayed) <= bound,
            "words": f"float32: replayed {max(replayed):.1e} after {steps[-1]} steps (at most {bound:.1e})",
        }
    ]


def _quirks(pair: Mapping[str, Record]) -> list[dict[str, Any]]:
    return [
        {"kind": "quirk", "subject": name, "framework": framework, "there": bool(there)}
        for framework, record in pair.items()
        if record.ok
        for name, there in record.value[QUIRKS].items()
    ]


def _unknown(pair: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Return the optimizers installed that the dictionary does not know, and those it knows that are gone."""
    found = []
    for framework, known in (("jax", OPTAX), ("torch", TORCH)):
        if framework in pair and pair[framework].ok:
            there = set(pair[framework].value[OPTIMIZERS])
            found += [{"kind": "optimizer", "subject": name, "there": name in there} for name in sorted(there ^ known)]
    return found
