"""The time of one training alone: a step of each optimizer on each workload, measured before the sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Experiment
from jaxopt_study.studies.ranking import agreement, points, trainings

LOOPS = {"jax": "scan", "torch": "prepared"}
"""Each framework's way to loop: functions of its `loops`. JAX compiles an epoch; PyTorch's loop is its usual one."""


class Alone(Experiment):
    """One epoch of each optimizer at its default learning rate, from the first initialization."""

    study, name = "ranking", "alone"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each workload: all optimizers in both frameworks; none without JAX, as in the sweep."""
        if plan.overview or "jax" not in plan.frameworks:
            return []
        pairs = [(optimizer, framework) for optimizer in points.optimizers(plan) for framework in plan.frameworks]
        return [
            Group(
                tuple(self.case(points.subject(o, workload), f, LOOPS[f]) for o, f in pairs),
                repeats=min(plan.repeats, 5),
            )
            for workload in points.workloads(plan)
        ]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return one epoch; its value is the validation loss after it, which the loop does not compute."""
        name, of = points.parts(case.subject)
        problem = trainings.problem(backend, of, workload, plan, 1, epochs=1)
        trainings.check_matrices(name, plan, problem)
        network, rows = problem.workload.network, problem.parts
        model, output_loss = trained.model(backend, network), trained.output_loss(backend, problem.workload, plan)
        optimizer = trained.by_rate(backend, case.framework, name, plan)(points.default_rate(name, plan))
        loop = getattr(backend.loops, case.method)(model, optimizer, output_loss)
        loss = backend.models.batch_loss(model, output_loss)
        data, validation = (tuple(loop.load(array) for array in part) for part in rows[:2])
        order, from_tree = (
            loop.load(problem.orders[0, 0]),
            trained.conversion(backend, case.framework, network).from_tree,
        )

        def start(number: int) -> Any:
            return backend.runtime.wait(loop.init(from_tree(problem.start(number))))

        def run(state: Any) -> Iterator[Any]:
            yield backend.runtime.wait(loop.run(state, data, order))

        def after(state: Any) -> Any:
            params = state.params
            if case.framework == "jax":
                params = getattr(backend.more_optimizers, "evaluated")(params, state.optimizer)  # noqa: B009 - JAX's
            return backend.runtime.to_numpy(loss(params, validation))

        def export(output: Any) -> Value:
            ((moved, _),) = run(start(1))
            return {"validation": after(output[0]), "moved": after(moved)}

        return Task(run, export, steps=len(order), start=lambda: start(0))

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep the validation loss, and that from the parameters moved by one unit in the last place."""
        return {name: float(number) for name, number in value.items()}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the frameworks' validation losses."""
        there = {r.subject: r for r in records if r.framework == "torch" and r.ok}
        pairs = [(r, there[r.subject]) for r in records if r.framework == "jax" and r.ok and r.subject in there]
        what, bound = "validation loss after one epoch alone, relative", agreement.BOUNDS[plan.dtype].bound
        return [
            agreement.compared(
                what, (a.case, b.case), a.value["validation"], b.value["validation"], a.value["moved"], bound
            )
            for a, b in pairs
        ]


def step_seconds(results: Results, framework: str = "jax") -> dict[str, float]:
    """Return the case's subject -> the time of a step, where it may be shown."""
    mine = results.of(Alone.study, Alone.name)
    return {r.subject: r.seconds for r in mine if r.framework == framework and results.shows(r)}
