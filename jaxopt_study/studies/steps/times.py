"""Which is faster? A user's step as given, and by every other way to loop over it that its framework has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, facts
from jaxopt_study.studies.steps.check import alike
from jaxopt_study.studies.steps.reference import length, reference
from jaxopt_study.studies.steps.side import STEPS, side

GIVEN = "as_given"
UNCOMPILED_LAP = 2
"""Steps in a lap of a JAX step that is not under `jax.jit`: one takes tens of milliseconds, and is a sample by itself.
With 13 samples and the two laps before them, a run of `STEPS` steps is all that is made."""


@dataclass(frozen=True)
class Method:
    """A way to loop: a function of the backend's `steps`.

    Attributes:
        words: What a reader is told.
        gpu: Whether it is for a GPU alone.
    """

    words: str
    gpu: bool = False


METHODS: dict[str, dict[str, Method]] = {
    "jax": {
        GIVEN: Method("as given"),
        "jitted": Method("jax.jit"),
        "donated": Method("jax.jit, state donated"),
        "scan": Method(f"lax.scan over {STEPS} steps"),
        "native_scan": Method("lax.scan as one native function"),
    },
    "torch": {
        GIVEN: Method("as given"),
        "compiled": Method("torch.compile"),
        "cuda_graph": Method("CUDA graph", gpu=True),
    },
}
LABELS = {"jax": "JAX", "torch": "PyTorch"}


class Times(Experiment):
    """Every way to loop over the step of each framework."""

    study, name = "steps", "times"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group, so that all are measured in the same rounds."""
        cases = tuple(
            self.case(Path(plan.experiment).stem, framework, name)
            for framework in plan.frameworks
            for name, method in METHODS[framework].items()
            if plan.device == "gpu" or not method.gpu
        )
        return [Group(cases, plan.repeats)]

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Return that the frameworks do not train alike, where they do not."""
        if alike(records, plan):
            return None
        return "the two steps do not train alike; each alone is timed by --frameworks jax or --frameworks torch"

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a run of `STEPS` steps from the initial state on."""
        mine, expected = side(backend, case.framework, plan), reference(backend, case.framework, plan)
        loop = getattr(backend.steps, case.method)(mine.step, mine.state)
        uncompiled = case.framework == "jax" and case.method == GIVEN and not hasattr(mine.step, "lower")
        lap = UNCOMPILED_LAP if uncompiled else STEPS
        data = [loop.load(mine.batches[at : at + lap]) for at in range(0, STEPS, lap)]

        def export(output: Any) -> Value:
            state, parts = output
            losses = np.concatenate([_numbers(backend, part) for part in parts])
            leaves = mine.leaves(loop.whole(state))
            distances = {name: length(leaf, expected.last[name]) for name, leaf in leaves.items()}
            worst = max(distances, key=lambda name: distances[name] / max(expected.allowed[name], np.finfo(float).tiny))
            facts = {
                "losses": stats.absolute_distance(losses, expected.losses[loop.before :]),
                "losses_allowed": expected.loss_allowed,
                "params": distances[worst],
                "params_allowed": expected.allowed[worst],
            }
            return {**{name: np.array(x) for name, x in facts.items()}, "every_loss": losses, **leaves}

        return Task(
            run_of(backend, loop, data),
            export,
            laps=len(data),
            steps=lap - loop.before,
            stages=lambda: _stages(loop, data[0]),
            start=lambda: backend.runtime.wait(loop.start()),
            one_state=loop.one_state,
        )

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how far the losses and the parameters are from those of the step as given."""
        return {name: float(value[name]) for name in ("losses", "losses_allowed", "params", "params_allowed")}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each way to loop with the step as given."""
        what = {"losses": "losses", "params": "parameters at the end"}
        return [
            compare(
                f"{words} of {STEPS} steps, with the step as given", [r.case], r.value[name], r.value[f"{name}_allowed"]
            )
            for r in records
            if r.ok
            for name, words in what.items()
        ]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each framework and way to loop."""
        records = self.records(results)
        given = {r.framework: r for r in records if r.method == GIVEN}
        best = {
            framework: min(shown, key=lambda r: r.seconds)
            for framework in METHODS
            if (shown := [r for r in records if r.framework == framework and results.shows(r)])
        }
        between = results.ratio(best.get("torch"), best.get("jax"))
        return [
            _row(r, given, results) | {"torch_best_over_it": between if r is best.get("jax") else None} for r in records
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the ways to loop, the slowest first; where all are skipped, the verdict says why."""
        if all(row["status"] == "skipped" for row in rows):
            return []
        columns = ("way to loop", "max. difference", "compile", "per step", "IQR", "as given / it [95 %]")
        lines = [_line(row) for row in sorted(rows, key=lambda row: -(row["step_seconds"] or 0))]
        return [
            Table(
                f"Time per step: {Path(plan.experiment).name}, {plan.dtype}, {plan.device}",
                columns,
                lines,
                _notes(rows),
                reasons=_reasons(rows),
            )
        ]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what a step takes, as given and at best, in each framework."""
        if all(row["status"] == "skipped" for row in rows):
            return f"nothing was timed: {rows[0]['reason']}"
        parts = []
        for framework in dict.fromkeys(row["framework"] for row in rows):
            timed = [row for row in rows if row["framework"] == framework and row["step_seconds"]]
            if not timed:
                continue
            quickest = min(timed, key=lambda row: row["step_seconds"])
            given = next((text.seconds(row["step_seconds"]) for row in timed if row["method"] == GIVEN), ABSENT)
            best = f"{text.seconds(quickest['step_seconds'])} by {_words(quickest)}"
            took = f"{given} as given" + (
                f", {best}" if quickest["method"] != GIVEN else ", and no other way is faster"
            )
            parts.append(f"a step in {LABELS[framework]} takes {took}")
        between = next((row["torch_best_over_it"] for row in rows if row["torch_best_over_it"]), None)
        if between:
            parts.append(f"PyTorch's fastest takes {text.ratio(between)} times as long as JAX's fastest")
        return "\n".join(parts)


def run_of(backend: Backend, loop: Any, data: Sequence[Any]) -> Callable[[Any], Iterator[Any]]:
    """Return the function that makes a lap for each part of the data; it yields the state and the losses so far."""

    def run(state: Any) -> Iterator[Any]:
        losses: list[Any] = []
        for part in data:
            state, found = loop.run(state, part)
            losses.append(found)
            yield backend.runtime.wait((state, losses))

    return run


def _stages(loop: Any, data: Any) -> Iterator[str]:
    """Compile.

    Raises:
        Skipped: The user's step cannot be compiled in this way.
    """
    try:
        yield from loop.stages(data)
    except NotImplementedError as reason:
        raise Skipped(str(reason)) from None


def _row(record: Record, given: Mapping[str, Record], results: Results) -> dict[str, Any]:
    shown = results.shows(record)
    row = facts(record, results) | {"step_seconds": None, "low": None, "high": None}
    if record.ok:
        row |= {"loss_distance": record.value["losses"], "params_distance": record.value["params"]}
    if shown:
        low, high = np.percentile(record.step_seconds, [25, 75])
        row |= {
            "step_seconds": record.seconds,
            "low": float(low),
            "high": float(high),
            "spread": stats.spread(record.step_seconds),
            "compile_seconds": sum(took for name, took in record.stages.items() if name != "import"),
            "given_over_it": results.ratio(given.get(record.framework), record),
        }
    return row


def _numbers(backend: Backend, losses: Any) -> np.ndarray:
    """Return losses, which a loop gives as one array of its framework or as a list of scalars."""
    if isinstance(losses, list):
        return np.array([float(loss) for loss in losses])
    return np.ravel(backend.runtime.to_numpy(losses)).astype(float)


def _words(row: Row) -> str:
    return METHODS[row["framework"]][row["method"]].words


def _line(row: Row) -> tuple[str, ...]:
    name = f"{LABELS[row['framework']]}: {_words(row)}"
    if row["status"] != "ok":
        return (name, row["status"], *[ABSENT] * 4)
    difference = text.number(row["loss_distance"])
    if row["step_seconds"] is None:
        return (name, f"{difference}: DISAGREES", ABSENT, "withheld", *[ABSENT] * 2)
    return (
        name,
        difference,
        text.seconds(row["compile_seconds"]) if row["compile_seconds"] else ABSENT,
        text.seconds(row["step_seconds"]),
        text.spread(row["spread"]),
        text.ratio(row["given_over_it"]),
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    return [
        "Max. difference: of the losses from those of the step as given, in the same framework.",
        f"Per step: median of the samples, each of whole runs of {STEPS} steps. Batches lie on the device before.",
        *text.flags(row.get("given_over_it") for row in rows),
    ]


def _reasons(rows: Sequence[Row]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            reasons.setdefault(f"{row['status']}: {row['reason']}", []).append(
                f"{LABELS[row['framework']]}, {_words(row)}"
            )
    return [f"{reason[0].upper()}{reason[1:]} ({'; '.join(names)})." for reason, names in reasons.items()]
