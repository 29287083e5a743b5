"""The workload's own training loss, of any network: the dense Hessian by automatic differentiation in each framework.

There is no closed form. A method's products with fixed directions are compared with those of another method, those of
the two frameworks with each other, and in float64 with differences of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, TooLarge, Value, single
from jaxopt_study.data.workload import Array, Workload, enumerate_params, ravel
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table
from jaxopt_study.studies import trained
from jaxopt_study.studies.dictionary.upstream import WORDS
from jaxopt_study.studies.experiment import Experiment, Row, Rows, all_skipped
from jaxopt_study.studies.hessian.methods import METHODS, short
from jaxopt_study.studies.hessian.references import DIRECTIONS, directions
from jaxopt_study.studies.hessian.rows import COLUMNS, MAIN_COLUMNS, cells, label, reasons, row_of
from jaxopt_study.studies.tolerances import HESSIAN, PRODUCTS

ROUTES = ("hessian_forward_over_reverse", "hessian_reverse_over_reverse", "hessian_blocked")
GRADIENT = "gradient"
DEFECT = "normalizations_lose_their_statistics"
"""The known upstream defect of Hessians."""
MOST_ROWS = 64
"""The loss is that of the first rows of the training part, at most so many."""
MOST_PARAMETERS = 5_000
"""A dense Hessian of more is not made here: at 5,000 it has 200 MB in float64."""
SAMPLED = 200
STEP = 1e-6


class OnNetwork(Experiment):
    """The methods of automatic differentiation on the workload's network, where that is not one linear layer."""

    study, name = "hessian", "network"

    def groups(self, plan: Plan) -> list[Group]:
        """Return the methods of both frameworks in the same rounds; nothing in the main job, which takes seconds."""
        if plan.linear or plan.overview:
            return []
        names = (*ROUTES, GRADIENT)
        cases = tuple(self.case(plan.workload, f, name) for f in plan.frameworks for name in names)
        return [Group(cases, max(1, plan.repeats // 3))]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the method on the initial parameters."""
        size = ravel(workload.params).size
        if size > MOST_PARAMETERS:
            raise TooLarge(
                f"the model has {size:,} parameters; dense Hessians are made of {MOST_PARAMETERS:,} or fewer"
            )
        conversion = trained.conversion(backend, case.framework, workload.network)
        model = trained.model(backend, workload.network)
        loss = backend.models.batch_loss(model, trained.output_loss(backend, workload, plan))
        batch = tuple(backend.runtime.from_numpy(array[:MOST_ROWS]) for array in workload.train)
        params = conversion.from_tree(workload.params)
        method = METHODS[case.method]
        compute = getattr(getattr(backend, method.module), method.name)(loss)

        def flat(params: Any) -> Array:
            return backend.runtime.to_numpy(backend.runtime.ravel(params)).astype(float)

        places = np.argsort(flat(conversion.from_tree(enumerate_params(workload.params))))

        def export(output: Any) -> Value:
            if case.method == GRADIENT:
                return {"products": flat(output)[places], **_differences(plan, gradient, size)}
            matrix = backend.runtime.to_numpy(output)
            moved = np.empty((DIRECTIONS, size))
            moved[:, places] = directions(size)
            asymmetry = np.abs(matrix - matrix.T).max() / np.abs(matrix).max()
            # The defect is torch.func's; a block that is wrong has another reason.
            explains = case.method != "hessian_blocked" and getattr(backend.defects, "normalization_explains", None)
            return {
                "products": (matrix @ moved.T.astype(matrix.dtype))[places],
                "asymmetry": np.array(asymmetry),
                DEFECT: np.array(bool(explains and explains(loss, params, batch, output))),
            }

        def gradient(by: Array) -> Array:
            tree = _shifted(workload, by)
            return flat(compute(conversion.from_tree(tree), batch))[places]

        return single(lambda: backend.runtime.wait(compute(params, batch)), export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep some entries of the products; all would be too many for a record."""
        size = ravel(workload.params).size
        chosen = np.random.default_rng(3).permutation(size)[:SAMPLED]
        kept: dict[str, Any] = {"parameters": size, "rows": min(MOST_ROWS, len(workload.train[1]))}
        kept |= {name: array[chosen].ravel().tolist() for name, array in value.items() if array.ndim}
        return kept | {name: value[name].item() for name in ("asymmetry", DEFECT) if name in value}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each Hessian with its transpose, with another one, and with differences of the gradient."""
        ok = sorted((r for r in records if r.ok), key=lambda r: r.value.get(DEFECT, False))  # the right ones first
        found = [
            compare(
                "H, with its transpose, relative" + _known(r), [r.case], r.value["asymmetry"], HESSIAN[plan.dtype].bound
            )
            for r in ok
            if "asymmetry" in r.value
        ]
        for what, names in (("gradient", (GRADIENT,)), (f"{DIRECTIONS} products H v", ROUTES)):
            mine = [r for r in ok if r.method in names]
            for r in mine[1:]:
                distance = stats.residual(np.array(r.value["products"]), np.array(mine[0].value["products"]))
                words = f"{what}, with those of {label(vars(mine[0].case))}, relative{_known(r)}"
                alone = r.framework == mine[0].framework or _known(r)
                cases = [r.case] if alone else [mine[0].case, r.case]
                found.append(compare(words, cases, distance, HESSIAN[plan.dtype].bound))
            for gradient in (r for r in ok if "differences" in r.value and names == ROUTES):
                for r in (r for r in mine if r.framework == gradient.framework):
                    distance = stats.residual(np.array(r.value["products"]), np.array(gradient.value["differences"]))
                    words = f"{what}, with differences of the gradient, relative{_known(r)}"
                    cases = [r.case] if _known(r) else [r.case, gradient.case]
                    found.append(compare(words, cases, distance, PRODUCTS[plan.dtype].bound))
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each case."""
        records = self.records(results)
        right = [r for r in records if r.ok and not _known(r)]
        first = {kind: next((r for r in right if r.method in kind), None) for kind in (ROUTES, (GRADIENT,))}
        return [self._row(r, first[ROUTES if r.method in ROUTES else (GRADIENT,)], results) for r in records]

    def _row(self, record: Record, first: Record | None, results: Results) -> dict[str, Any]:
        wanted = self.case(record.subject, record.framework, GRADIENT)
        gradient = next((r for r in self.records(results) if r.case == wanted), None)
        row = row_of(record, results) | dict(record.value) | {"in_gradients": results.ratio(record, gradient)}
        if first is not None and record.ok:
            row["residual"] = stats.residual(np.array(record.value["products"]), np.array(first.value["products"]))
        return row

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the methods, and what they took."""
        size = next((f", {r['rows']} rows, {r['parameters']:,} parameters" for r in rows if r["status"] == "ok"), "")
        title = f"Second derivatives of the training loss: {plan.workload}{size}, {plan.dtype}"
        lines = [(label(r), *cells(r), text.ratio(r["in_gradients"])) for r in rows]
        notes = (
            "Residual: largest difference of products with fixed directions from those of the first method, relative; "
            "of the gradient, from that of the first framework.",
            "In gradients: the time divided by that of the same framework's gradient.",
            *text.flags(r["in_gradients"] for r in rows),
        )
        columns, why = ("method", *COLUMNS, "in gradients [95 %]"), tuple(reasons(rows))
        return [all_skipped(title, rows) or Table(title, columns, lines, notes, (), MAIN_COLUMNS, why)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what the fastest dense Hessian takes in each framework."""
        shown = [r for r in rows if r["seconds"] and r["method"] in ROUTES]
        best = [
            min((r for r in shown if r["framework"] == f), key=lambda r: r["seconds"], default=None)
            for f in plan.frameworks
        ]
        words = [f"{text.seconds(r['seconds'])} in {r['framework']} ({short(r['method'])})" for r in best if r]
        return f"the dense Hessian of {plan.workload} takes {' and '.join(words)}" if words else ""


def _known(record: Record) -> str:
    """Name the known upstream defect that was measured in a record's Hessian."""
    return f"; known upstream defect: {WORDS[DEFECT]}" if record.value.get(DEFECT) else ""


def _differences(plan: Plan, gradient: Callable[[Array], Array], size: int) -> dict[str, Array]:
    """Return the Hessian's products by differences of the gradient, in float64 alone: half the digits are lost."""
    if plan.dtype != "float64":
        return {}
    ends = [[gradient(sign * STEP * v) for v in directions(size)] for sign in (1, -1)]
    return {"differences": (np.array(ends[0]) - np.array(ends[1])).T / (2 * STEP)}


def _shifted(workload: Workload, by: Array) -> Any:
    """Return the initial parameters with a vector added, in the order of `ravel`."""
    numbered = enumerate_params(workload.params)
    return {
        layer: {name: leaf + by[numbered[layer][name].astype(int)] for name, leaf in leaves.items()}
        for layer, leaves in workload.params.items()
    }
