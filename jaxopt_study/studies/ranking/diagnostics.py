"""The ranking's diagnostics: how often does an optimizer reach the minimum of a function of a few numbers?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import record
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.ranking import paths, points, trainings

STEPS, STARTS = 1000, {"smoke": 100, "default": 1000, "full": 1000}


class Diagnostic(Experiment):
    """Each optimizer on several functions at once, from the same starts, at every learning rate of its grid.

    Attributes:
        title: The title of the table.
        criterion: What a run must reach, with the limits to follow.
    """

    study: ClassVar[str] = "ranking"
    title: ClassVar[str]
    criterion: ClassVar[str]

    @abstractmethod
    def surfaces(self, backend: Backend) -> Mapping[str, Any]:
        """Return name -> what is minimized, `Surface` of the backend; only JAX has them."""

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each optimizer, in JAX alone."""
        if plan.overview or "jax" not in plan.frameworks:
            return []
        cases = [self.case(name, "jax", "vmapped") for name in points.optimizers(plan)]
        return [Group((case,), repeats=0, distributed=True) for case in cases]

    def runs(self, case: Case, plan: Plan) -> int:
        """Return how many descents start on each surface."""
        return points.size(plan).rates * STARTS[plan.profile]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return all runs of one optimizer: rates x starts, each on all surfaces."""
        row = points.ranked(case.subject, plan)
        if row and row.matrices:
            raise Skipped("a point of a few numbers is no matrix")
        module, surfaces = getattr(backend, paths.MODULE), self.surfaces(backend)
        load, generator = backend.runtime.from_numpy, np.random.default_rng(plan.seed)
        count = STARTS[plan.profile]
        starts = {name: load(s.box * generator.uniform(-1, 1, (count, s.numbers))) for name, s in surfaces.items()}
        first = {name: start[0] for name, start in starts.items()}
        optimizer = trainings.optimizer_in_jax(backend, case.subject, plan, first)
        rates = points.grid(points.default_rate(case.subject, plan), points.size(plan).rates)
        run, keys = module.descend(surfaces, optimizer, STEPS), module.keys(plan.seed, count)

        def train(_: Any) -> Iterator[Any]:
            yield backend.runtime.wait(run(starts, keys, load(rates)))

        def export(last: Any) -> Value:
            values = {name: backend.runtime.to_numpy(of_surface) for name, of_surface in last.items()}
            passed = {name: (value <= surfaces[name].passed).sum(axis=1) for name, value in values.items()}
            limits = np.array([float(surfaces[name].passed) for name in passed])
            return {"rates": rates, "limits": limits, **passed, **self.drawn(backend, case, optimizer, rates, passed)}

        return Task(train, export)

    def drawn(
        self, backend: Backend, case: Case, optimizer: Any, rates: np.ndarray, passed: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return what is kept for figures, by names that begin with `paths.PREFIX`."""
        return {}

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep at each rate how many starts reached the minimum of each surface."""
        return {
            name: record.pack(array) if name.startswith(paths.PREFIX) else array.tolist()
            for name, array in value.items()
        }

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer and surface."""
        starts = STARTS[plan.profile]
        return [
            {
                "optimizer": r.subject,
                "surface": name,
                "default": _rate(passed[len(passed) // 2], starts),
                "best": _rate(max(passed), starts),
                "best_rate": r.value["rates"][int(np.argmax(passed))],
                "limit": limit,
            }
            for r in self.records(results)
            if r.ok
            for (name, passed), limit in zip(_counts(r.value), r.value["limits"], strict=True)
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the part of the starts that reached each minimum."""
        if not rows:
            return []
        names = list(dict.fromkeys(row["surface"] for row in rows))
        limits = ", ".join({row["surface"]: f"{row['surface']} {row['limit']:.3g}" for row in rows}.values())
        lines = [
            (optimizer, *(f"{100 * row['default'][0]:.0f} / {100 * row['best'][0]:.0f}" for row in mine))
            for optimizer in dict.fromkeys(row["optimizer"] for row in rows)
            if (mine := [row for row in rows if row["optimizer"] == optimizer])
        ]
        notes = (
            f"Percent of {STARTS[plan.profile]} random starts that reached the minimum within {STEPS:,} steps: at the "
            "default learning rate / at the best one of the grid. "
            f"The 95 % interval reaches at most {100 * _widest(STARTS[plan.profile]):.0f} points to each side.",
            f"{self.criterion}: {limits}.",
        )
        return [Table(self.title, ("optimizer", *names), lines, notes)]


class Surfaces(Diagnostic):
    """Surfaces of two numbers; of some optimizers on some surfaces, the way from one start is kept."""

    name = "surfaces"
    title = "Surfaces of two numbers: success rate"
    criterion = "A run succeeds if its last value is at most"

    def surfaces(self, backend: Backend) -> Mapping[str, Any]:
        """Return the surfaces."""
        found: Mapping[str, Any] = getattr(backend, paths.MODULE).SURFACES
        return found

    def drawn(
        self, backend: Backend, case: Case, optimizer: Any, rates: np.ndarray, passed: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the ways that are drawn, each at the best learning rate of its surface."""
        best = {name: float(rates[passed[name].argmax()]) for name in paths.STARTS}
        return paths.ways(backend, optimizer, best, STEPS) if case.subject in paths.OPTIMIZERS else {}

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the ways of some optimizers on some surfaces."""
        return paths.figures([r for r in self.records(results) if r.ok])


class Streams(Diagnostic):
    """Regressions on streams of random rows: noisy, sparse, and of a scale that changes in mid-training."""

    name = "streams"
    title = "Streams of random rows: success rate"
    criterion = (
        "A run succeeds if its last mean loss exceeds the minimum by at most ten times the least that any unbiased "
        f"estimate from {STEPS:,} rows can reach (Cramér and Rao)"
    )

    def surfaces(self, backend: Backend) -> Mapping[str, Any]:
        """Return the streams."""
        found: Mapping[str, Any] = getattr(backend, "streams").streams(STEPS)  # noqa: B009 - JAX's alone
        return found


def _counts(value: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """Return of a record's value the surfaces, and how many starts passed at each rate."""
    others = ("rates", "limits")
    return [pair for pair in value.items() if pair[0] not in others and not pair[0].startswith(paths.PREFIX)]


def _rate(passed: int, starts: int) -> tuple[float, float, float]:
    """Return the part of the starts that passed, and its 95 % interval (Wilson)."""
    from scipy.stats import binomtest  # takes most of a second to load

    interval = binomtest(passed, starts).proportion_ci(method="wilson")
    return passed / starts, float(interval.low), float(interval.high)


def _widest(starts: int) -> float:
    part, low, _ = _rate(starts // 2, starts)
    return part - low
