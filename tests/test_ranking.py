"""The ranking: what it says of planted losses, in which the truth is known."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from jaxopt_study.bench import record
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workloads import WORKLOADS as BUILT_IN
from jaxopt_study.studies.ranking import beforehand, points, problems, profiles, statistics, sweep, tables
from jaxopt_study.studies.ranking.outcomes import Losses
from jaxopt_study.studies.ranking.overview import Overview
from jaxopt_study.studies.ranking.rows import width
from jaxopt_study.studies.ranking.sweep import Sweep
from tests.cases import a_record
from tests.conftest import make_plan

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd", "momentum", "nesterov", "adagrad", "schedule_free")
WORKLOADS = ("digits-linear", "digits-mlp", "diabetes", "zipf-linear")
PLAN = make_plan(studies=("ranking",), profile="default")
SCATTER = 0.03  # of the logarithms of paired losses; 0.01 to 0.09 on the study's workloads


def planted(generator, factors=None, spoiled=()):
    """Return a sweep's records: a bowl over learning rates, noise per start and run, each optimizer's factor."""
    factors, starts, records = factors or {}, 10, [target(name) for name in WORKLOADS]
    for workload in WORKLOADS:
        by_start = np.exp(0.04 * generator.standard_normal((starts, 1, 1)))
        for name in OPTIMIZERS:
            rates = points.grid(points.OPTIMIZERS[name].default, 13)
            bowl = 1 + 0.3 * (np.arange(13) - 7.0) ** 2
            noise = [np.exp(SCATTER / 2**0.5 * generator.standard_normal((starts, 2, 13))) for _ in range(2)]
            validation, test = (factors.get(name, 1.0) * bowl * by_start * part for part in noise)
            for schedule, rate in spoiled:
                validation[0, schedule, rate] = test[0, schedule, rate] = np.nan
            value = {
                "rates": rates.tolist(),
                "steps_per_epoch": 5,
                "validation": record.pack(np.stack([2 * validation, validation], axis=-1)),
                "test": record.pack(test),
                "moved": record.pack(np.stack([2 * validation[:1], validation[:1]], axis=-1)),
            }
            subject = points.subject(name, workload)
            records.append(
                a_record(study="ranking", experiment="sweep", subject=subject, method="vmapped", value=value)
            )
    return records


def target(name):
    value = {"target": 1.5, "test": 1.0}
    return a_record(study="ranking", experiment="beforehand", subject=name, method="vmapped", value=value)


def rows(records):
    return Sweep().rows(Results(tuple(records), ()), PLAN)


def standings(records, at="tuned"):
    """Return for each workload how the optimizers stand against Adam."""
    return [
        {row["optimizer"]: row[f"{at}_against_adam"] for row in rows(records)
         if row["workload"] == name and row["optimizer"] != "adam"}
        for name in WORKLOADS
    ]  # fmt: skip


def test_equal_optimizers_are_called_tied():
    generator = np.random.default_rng(0)
    found = [standing for _ in range(20) for standing in standings(planted(generator))]
    tied = sum(set(standing.values()) == {"tied"} for standing in found)
    assert tied >= 0.95 * len(found)  # 77 of 80 measured


def test_an_advantage_of_five_percent_is_found():
    generator = np.random.default_rng(1)
    found = [standing for _ in range(10) for standing in standings(planted(generator, {"schedule_free": 0.95}))]
    better = sum(standing["schedule_free"] == "better" for standing in found)
    assert better >= 0.9 * len(found)  # 36 of 40 measured
    assert sum("better" in (s["sgd"], s["adamw"]) for s in found) <= 0.1 * len(found)


def test_a_clear_winner_and_a_clear_loser_are_named_in_the_verdict():
    generator = np.random.default_rng(2)
    same = (
        "Adam is best or tied in 4 of 4 at default learning rates (alone in {0}), in 4 of 4 when tuned (alone in {0})"
    )
    beaten = "Adam is best or tied in 0 of 4 at default learning rates (alone in 0), in 0 of 4 when tuned (alone in 0)"
    assert tables.verdict(rows(planted(generator, {"adam": 0.8}))) == same.format(4)
    assert tables.verdict(rows(planted(generator, {"sgd": 2.0}))) == same.format(0)
    assert tables.verdict(rows(planted(generator, {"sgd": 0.8}))) == beaten


def test_where_all_are_tied_the_verdict_is_no_difference():
    found = rows(planted(np.random.default_rng(9)))
    tied = [row | dict.fromkeys(("default_against_adam", "tuned_against_adam"), "tied") for row in found]
    others = [row for row in tied if row["optimizer"] != "adam"]
    assert tables.verdict(others).startswith("no difference between Adam and other optimizers")
    others[0]["tuned_against_adam"] = "better"
    assert tables.verdict(others).startswith(
        "Adam is best or tied in 4 of 4 at default learning rates (alone in 0), in 3"
    )


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"adam": 0.8}, "the best at default learning rates, and the best tuned"),
        ({"adam": 0.8, "sgd": 0.8}, "tied for the best at default learning rates, and tied for the best tuned"),
        (
            {"sgd": 0.7, "adamw": 0.8},
            "worse than sgd and adamw at default learning rates, and worse than sgd and adamw tuned",
        ),
    ],
)
def test_the_main_job_says_of_its_workload_whether_adam_is_best(factors, words):
    mine = [r for r in planted(np.random.default_rng(3), factors) if r.subject.endswith("on digits-linear")]
    records = tuple(replace(r, experiment="overview", method="natively") for r in mine)
    plan, overview = replace(PLAN, studies=("optimizers", "ranking"), overview=True), Overview()
    found = overview.rows(Results(records, ()), plan)
    assert overview.verdict(found, plan).startswith(f"by test loss, Adam is {words}")
    (short,) = overview.brief(found, plan)
    assert " at 0.001" in short.rows[0][1]
    (table,) = overview.tables(found, plan)
    assert factors[table.rows[0][0]] == min(factors.values())


def test_the_main_job_ranks_its_own_optimizers_where_a_native_function_can():
    plan = make_plan(overview=True)
    assert [case.subject for group in Overview().groups(plan) for case in group.cases] == [
        f"{name} on digits-linear" for name in plan.optimizers
    ]
    for other in (replace(plan, overview=False), replace(plan, native=False), replace(plan, frameworks=("torch",))):
        assert Overview().groups(other) == []
    assert Sweep().groups(plan) == []


def test_misses_are_ties_with_each_other_and_worse_than_any_loss():
    fine, missed = np.linspace(1, 2, 10), np.full(10, np.inf)
    assert statistics.against(fine, {"a": missed, "b": fine.copy()}) == {"a": "worse", "b": "tied"}
    assert statistics.against(missed, {"a": fine, "b": missed.copy()}) == {"a": "better", "b": "tied"}
    assert statistics.against(fine, {"a": np.where(np.arange(10) == 3, np.inf, fine)}) == {"a": "tied"}


def test_ranks_follow_the_planted_order():
    factors = {name: 1.3**place for place, name in enumerate(OPTIMIZERS)}
    whole = tables.complete(rows(planted(np.random.default_rng(3), factors)))
    found = statistics.ranks(tables.losses(whole, "all"))
    assert found.average.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found.p_value < 1e-3
    assert found.critical_difference == pytest.approx(5.25, abs=0.01)  # Demšar (2006): 3.031 sqrt(8 x 9 / (6 x 4))


def test_a_miss_is_worse_than_every_loss_and_harms_no_other():
    spoiled = [(0, 6)]
    clean, holed = (rows(planted(np.random.default_rng(4), spoiled=part)) for part in ((), spoiled))
    for before, after in zip(clean, holed, strict=True):
        assert after["default_test"][0] == np.inf
        assert after["default_test"][1:] == before["default_test"][1:]
        assert after["tuned_test"] == before["tuned_test"]
        assert after["diverged"] == 1


def test_every_line_of_the_tables_is_narrow_enough():
    from rich.console import Console

    from jaxopt_study.report.table import show

    console = Console(width=80, record=True, file=StringIO())
    for table in Sweep().tables(rows(planted(np.random.default_rng(5), {"schedule_free": np.inf})), PLAN):
        show(table, console)
    assert max(map(len, map(str.rstrip, console.export_text().splitlines()))) <= 80


def test_figures_are_drawn():
    records = planted(np.random.default_rng(6))
    drawn = Sweep().figures(Results(tuple(records), ()), PLAN)
    assert [figure.name.split("_")[1] for figure in drawn] == [
        *["sensitivity"] * 4,
        "ranks",
        "profile",
        "quality",
        "budgets",
    ]
    for figure in (drawn[0], *drawn[4:]):
        assert any(len(rows) >= 3 for rows in figure.spec["datasets"].values())


def test_optimizers_that_cannot_be_told_apart_are_grouped():
    assert statistics.alike(np.array([1.0, 2.0, 3.0, 5.0]), 2.0) == [(0, 1), (1, 2)]  # 3 is as far as the difference
    assert statistics.alike(np.array([1.0, 2.0, 3.0, 5.0]), 2.5) == [(0, 2), (2, 3)]
    assert statistics.alike(np.array([1.0, 4.0]), 2.0) == []
    assert statistics.alike(np.array([2.0, 2.0, 2.0]), 0.5) == [(0, 2)]


def test_the_quality_profile_counts_workloads_within_a_factor_of_the_least_loss():
    losses = np.array([[1.0, 1.04, np.inf], [2.0, 1.0, 1.15]])
    (table,) = profiles.quality(["a", "b", "c"], {"default": losses, "tuned": losses[:1]})
    assert table.rows == [
        ("a", "50 %", "50 %", "50 %", "100 %", "100 %", "100 %", "100 %", "100 %"),
        ("b", "50 %", "100 %", "100 %", "100 %", "0 %", "100 %", "100 %", "100 %"),
        ("c", "0 %", "0 %", "50 %", "50 %", "0 %", "0 %", "0 %", "0 %"),
    ]
    assert profiles.quality(["a", "b"], {"tuned": np.array([[-1.0, 2.0]])}) == []  # a registered loss


def test_trials_are_drawn_without_replacement():
    validation, test = np.array([3.0, 1.0, 2.0]), np.array([[30.0, 10.0, 20.0]])
    assert statistics.with_trials(validation, test, 1) == 20  # each with the same chance
    assert statistics.with_trials(validation, test, 2) == 10  # 10 with 2/3, 20 with 1/3
    assert statistics.with_trials(validation, test, 3) == 10
    assert statistics.with_trials(validation, test, 13) == 10  # all three: there are no more
    generator = np.random.default_rng(0)
    validation, test = generator.random(26), generator.random((9, 26))
    picks = [generator.choice(26, 3, replace=False) for _ in range(20_000)]
    best = [pick[validation[pick].argmin()] for pick in picks]
    drawn = np.median(test[generator.integers(0, 9, len(best)), best])
    assert statistics.with_trials(validation, test, 3) == pytest.approx(drawn, abs=0.02)


def test_steps_to_a_target_and_the_profile_count_misses():
    validation = np.array([[3.0, 1.0, 2.0], [3.0, 3.0, 0.5], [3.0, 3.0, 3.0]]).reshape(3, 1, 1, 3)
    losses = Losses("adam", "wine", np.array([1e-3]), validation, validation[..., -1], validation[:0], 10)
    assert losses.steps_to(1.0, (0, 0)).tolist() == [20, 30, np.inf]
    steps = np.array([[10, 20], [np.inf, 10], [np.inf, np.inf]])
    expected = [[1 / 3, 1 / 3], [1 / 3, 2 / 3]]
    np.testing.assert_array_equal(statistics.profile(steps, [1, 2]), expected)


def test_the_time_to_the_target_is_that_of_its_steps_alone_and_withheld_where_the_value_disagrees():
    records = planted(np.random.default_rng(0))
    alone = a_record(
        study="ranking",
        experiment="alone",
        subject="adam on diabetes",
        samples=(2e-3, 4e-3, 3e-3),
        sample_laps=3,
        steps=10,
    )
    results = Results((*records, alone), ())
    row = next(r for r in Sweep().rows(results, PLAN) if (r["optimizer"], r["workload"]) == ("adam", "diabetes"))
    assert row["step_seconds"] == pytest.approx(1e-4)
    row |= {"default_steps": [10, 20, 40], "tuned_steps": [10, np.inf, np.inf]}
    line = tables._to_target("diabetes", [row]).rows[0]
    assert line == ("adam", "100 µs", "20", "- (2 missed)", "2.00 ms", "-")
    wrong = Finding("", (alone.case,), 1.0, 0.0, False)
    assert all(np.isnan(r["step_seconds"]) for r in Sweep().rows(replace(results, findings=(wrong,)), PLAN))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (1e-9, "No run reached the target, a validation loss of 1e-09 that was fixed before the runs."),
        (np.nan, "There is no target: nobody knows which value of a registered loss is good."),
        (1.5, None),
    ],
)
def test_a_target_that_no_run_reaches_is_said_in_words(target, words):
    found = [row | {"target": target} for row in rows(planted(np.random.default_rng(0)))]
    for row in found if words else ():
        row |= dict.fromkeys(("default_steps", "tuned_steps"), [np.inf] * 10)
    shown = tables.of_workload("diabetes", [row for row in found if row["workload"] == "diabetes"], PLAN)
    assert [table.title.endswith("to the target") for table in shown] == [False, False, True][: 2 if words else 3]
    assert (words in shown[1].notes) if words else all("arget" not in note for note in shown[1].notes)


def test_the_width_of_good_learning_rates():
    rates, medians = np.logspace(-3, 0, 4), np.array([2.0, 1.0, 1.005, 1.015])
    assert width(rates, medians) == pytest.approx(0.01 + 1 + 0.5)
    assert width(rates, np.full(4, np.inf)) == 0


def test_the_grid_grows_while_its_best_is_at_an_edge():
    asked = []

    def train(rates):
        asked.append(len(rates))
        test = np.broadcast_to((np.log10(rates) - 0.4) ** 2, (2, 2, len(rates)))
        return {"validation": np.stack([test, test], axis=-1), "test": test}

    found = sweep._swept(train, points.grid(1e-3, 13), widenings=4)
    assert asked == [13, 3]
    np.testing.assert_allclose(np.diff(np.log10(found["rates"])), 0.5)
    assert found["rates"][-1] == pytest.approx(10**1.5)
    assert found["rates"][np.argmin(found["test"][0, 0])] == pytest.approx(10**0.5)
    assert len(sweep._swept(train, points.grid(1e-9, 13), widenings=2)["rates"]) == 13 + 2 * 3
    assert len(sweep._swept(train, points.grid(1e3, 13), widenings=0)["rates"]) == 13


@pytest.mark.parametrize(("factor", "agrees"), [(1 + 1e-5, True), (1 + 1e-3, False)])
def test_a_curve_of_pytorch_that_differs_is_found(factor, agrees):
    here = planted(np.random.default_rng(7))[-1]
    other = record.unpack(here.value["validation"]) * np.array([1.0, factor])
    there = replace(
        here, framework="torch", method=beforehand.LOOP, value={**here.value, "validation": record.pack(other)}
    )
    plan = replace(PLAN, dtype="float32")
    found = Sweep().findings([here, there], plan)
    assert [finding.agrees for finding in found] == [agrees, agrees]
    assert found[0].distance == pytest.approx(factor - 1, rel=1e-3)
    assert {finding.what.split(", ")[1] for finding in found} == {"default learning rate", "tuned learning rate"}


def test_a_chaotic_run_is_not_compared_and_a_sensitive_one_by_its_sensitivity():
    here = planted(np.random.default_rng(7))[-1]
    curves = record.unpack(here.value["validation"])
    value = {**here.value, "validation": record.pack(curves * np.array([1.0, 1 + 1e-3]))}
    there = replace(here, framework="torch", method=beforehand.LOOP, value=value)
    for moved, agrees in ((1e-2, None), (5e-5, True), (1e-6, False)):
        value = {**here.value, "moved": record.pack(curves[:1] * np.array([1.0, 1 + moved]))}
        found = Sweep().findings([replace(here, value=value), there], replace(PLAN, dtype="float32"))
        assert [finding.agrees for finding in found] == [agrees, agrees]


def test_the_way_that_took_less_time_is_taken_and_the_other_one_skipped():
    times = {"vmapped": (2e-3,), "sequential": (1e-3,)}
    records = [
        a_record(study="ranking", experiment="beforehand", subject="wine", method=way, samples=samples)
        for way, samples in times.items()
    ]
    assert beforehand.faster(records, "wine") == "sequential"
    assert beforehand.faster(records[:1], "wine") == "vmapped"
    cases = [Sweep().case("adam on wine", "jax", way) for way in times]
    cases.append(Sweep().case("adam on wine", "torch", beforehand.LOOP))
    reason = "sequential is faster on this workload"
    assert [Sweep().skip(case, records, PLAN) for case in cases] == [reason, None, None]


@pytest.mark.parametrize(("moved", "agrees"), [(1e-9, False), (1e-4, True), (1e-2, None)])
def test_ways_that_differ_by_more_than_their_sensitivity_are_found(moved, agrees):
    first, second = (
        a_record(study="ranking", experiment="beforehand", subject="diabetes", method=way, value=value)
        for way, value in (
            ("vmapped", {"test": 1.0, "moved": 1 + moved, "target": 1.0}),
            ("sequential", {"test": 1 + 1e-3, "moved": 1.0, "target": 1.0}),
        )
    )
    plan = replace(PLAN, dtype="float32", profile="smoke")
    assert [finding.agrees for finding in beforehand.Beforehand().findings([first, second], plan)] == [agrees]


def test_a_workload_without_a_validation_part_gives_a_fifth_of_its_training_rows():
    whole = BUILT_IN["digits-linear"](0, 1)
    parts = problems.three_parts(whole)
    assert [len(rows[1]) for rows in (parts.train, parts.validation, parts.test)] == [719, 179, 899]
    together = np.vstack([parts.train[0], parts.validation[0]])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(whole.train[0], axis=0))
    wine = BUILT_IN["wine"](0, 1)
    assert problems.three_parts(wine) is wine
    with pytest.raises(Skipped, match="holds no rows out"):
        problems.three_parts(replace(whole, test=whole.train))


def test_what_was_not_measured_is_named_and_not_ranked():
    records = planted(np.random.default_rng(8))
    records[-1] = replace(records[-1], status="skipped", reason="this network has no matrix", value={})
    other_way = replace(records[-2], method="sequential", status="skipped", reason="vmapped is faster", value={})
    found = rows([*records, other_way])
    assert [row["optimizer"] for row in found if row["status"] == "skipped"] == ["schedule_free"]
    assert "schedule_free" not in tables.complete(found)
    shown = [note for table in Sweep().tables(found, PLAN) for note in table.notes]
    assert "schedule_free: skipped, this network has no matrix" in shown


def test_only_a_network_with_a_matrix_has_one():
    plan = make_plan(workload="wine")
    has = {name: problems.make(name, BUILT_IN["wine"](0, 1), plan, 1, 1).matrices for name in ("wine", "diabetes")}
    assert has == {"wine": True, "diabetes": False}


def test_the_target_lies_between_a_constant_and_ridge_regression():
    plan = make_plan(workload="diabetes")
    problem = problems.make("diabetes", BUILT_IN["diabetes"](0, 1), plan, initializations=1, epochs=1)
    (x, y), (held_out, truth), _ = problem.parts
    middle, mean = x - x.mean(axis=0), y.mean()
    weights = np.linalg.solve(middle.T @ middle + np.eye(10), middle.T @ (y - mean))
    constant = np.mean((truth - mean) ** 2)
    linear = np.mean((truth - mean - (held_out - x.mean(axis=0)) @ weights) ** 2)
    assert problems.target(problem) == pytest.approx(constant - 0.98 * (constant - linear))


def test_a_grid_holds_the_default_and_a_cosine_ends_at_zero():
    rates = points.grid(2.5e-3, 25)
    assert rates[12] == 2.5e-3
    assert rates[[0, -1]] == pytest.approx([2.5e-6, 2.5])
    constant, cosine = points.by_step(rates[[12]], epochs=2, steps=50).reshape(2, 100)
    assert set(constant) == {2.5e-3}
    assert cosine[[0, 50]] == pytest.approx([2.5e-3, 1.25e-3])
    assert (np.diff(cosine) < 0).all()
    assert cosine[-1] < 1e-6
