"""Rows of numbers as data frames: a column for each number, as exact as it was computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.stats import Interval
from jaxopt_study.terminal import visible

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return a data frame with the columns of all rows; what a row lacks is missing.

    An entry of a mapping or a sequence has a column of its own, `name_key` or `name_1`. A ratio has the columns `name`,
    `name_low`, `name_high` and `name_flags`. A column of several types is text.
    """
    import pandas as pd  # an extra: it is asked for by name

    flat = pd.DataFrame([dict(_flat("", row)) for row in rows])
    for name in flat.columns:
        kinds = {type(x) for x in flat[name] if not _is_missing(x)}
        if len(kinds) > 1 and not kinds <= {int, float}:
            flat[name] = [None if _is_missing(x) else str(x) for x in flat[name]]
    return flat


def _flat(name: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Interval):
        yield from ((name, node.value), (f"{name}_low", node.low), (f"{name}_high", node.high))
        if isinstance(node, Ratio):
            yield f"{name}_flags", ", ".join(node.flags)
    elif is_dataclass(node):
        yield from _flat(name, {field.name: getattr(node, field.name) for field in fields(node)})
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _flat(_joined(name, key), child)
    elif isinstance(node, list | tuple):
        for number, child in enumerate(node, 1):
            yield from _flat(_joined(name, number), child)
    else:
        yield name, visible(node) if isinstance(node, str) else node


def _joined(name: str, key: Any) -> str:
    return f"{name}_{visible(str(key))}" if name else visible(str(key))


def _is_missing(x: Any) -> bool:
    return x is None or x != x  # NaN
