"""Several runs side by side: copies of a kept one, with times, settings and versions that were planted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import compare as command_line
from jaxopt_study import reporting, run, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.config import Config, ConfigError
from jaxopt_study.report import page

KEPT = Path(__file__).parent / "kept" / "main_job"
SLOW = "optimizers/sgd/torch/quickest"
STUDIES = ("optimizers",)


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "save", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def kept():
    where = environment.read(KEPT)
    records = [r for r in record.read(KEPT) if r.study in STUDIES]
    return where | {"plan": where["plan"] | {"studies": STUDIES}}, records


def steady(r, factor=1.0):
    """Return the record with samples that hardly vary."""
    samples = factor * r.seconds * (1 + 1e-3 * np.sin(np.arange(13)))
    return replace(r, samples=tuple(samples * r.sample_laps * r.steps), machine_seconds=(1.0,) * 13)


@pytest.fixture
def planted(kept, tmp_path):
    """Return a function that writes a run in which some cases take longer, and its environment is another."""

    def write(name, slower=(), without=(), **changes):
        where, records = kept
        folder = tmp_path / name
        folder.mkdir()
        plan = {key: value for key, value in changes.items() if key in where["plan"]}
        versions = {key: value for key, value in changes.items() if key in where["versions"]}
        environment.write(folder, where | {"plan": where["plan"] | plan, "versions": where["versions"] | versions})
        factors = dict(slower)
        cases = [r for r in records if r.case.key not in without]
        record.append(folder, [steady(r, factors.get(r.case.key, 1.0)) if r.samples else r for r in cases])
        return folder

    return write


def report(*folders, **options):
    return run(Config(report=folders, **options))


def test_a_slower_case_is_named_and_the_others_show_no_difference(planted):
    first, second = planted("first"), planted("second", {SLOW: 1.5}, torch="2.14.0")
    outcome = report(first, second)
    assert outcome.status == 0
    rows = outcome.summary["against"]
    assert (rows[0]["case"], rows[0]["verdict"]) == (SLOW, "slower")
    assert {row["verdict"] for row in rows[1:]} == {"no difference"}
    assert rows[0]["after_seconds"] == pytest.approx(1.5 * rows[0]["before_seconds"])
    assert f"Slower beyond noise: {SLOW} (1.50 times)." in outcome.summary["sentences"]
    around, times = outcome.tables
    assert [row for row in around.rows if row[0] == "torch"] == [("torch", "2.13.0+cpu", "1"), ("torch", "2.14.0", "2")]
    assert "jax 0.10.2" in around.notes[0]
    assert not any(row[0] in ("jax", "dtype", "threads") for row in around.rows)
    assert times.rows[0][3].startswith("1.50 [")


def test_two_runs_and_against_say_the_same(planted):
    first, second = planted("first"), planted("second", {SLOW: 1.5})
    beside, against = report(first, second), report(second, against=first)
    assert beside.summary["against"] == against.summary["against"]
    assert [table for table in against.tables if table.title == "Then and now"] == beside.tables[1:]
    said = {words for words in beside.summary["sentences"] if not words.startswith(("Run 1: ", "Run 2: "))}
    assert len(said) == 2
    assert said <= set(against.summary["sentences"])
    assert [report(second, against=first, fail_on_slower=percent).status for percent in (10, 60)] == [1, 0]


@pytest.mark.parametrize(("percent", "factors", "status"), [(10, (1, 1.5), 1), (60, (1, 1.5), 0), (10, (1.5, 1), 0),
                                                            (10, (1, 1.5, 1), 0), (10, (1, 1, 1.5), 1)])  # fmt: skip
def test_the_last_run_fails_where_it_is_slower_than_the_first(planted, percent, factors, status, capsys):
    folders = [planted(f"{number}", {SLOW: factor}) for number, factor in enumerate(factors)]
    assert reporting.main([*map(str, folders), "--fail-on-slower", str(percent)]) == status
    said = " ".join(capsys.readouterr().out.split())
    assert (f"SLOWER by more than {percent} %: {SLOW} (1.50 [" in said) == bool(status)


def test_a_case_of_one_sample_is_not_surely_slower(planted):
    folders = [planted(f"{number}", {SLOW: factor}) for number, factor in enumerate((1, 5))]
    for folder in folders:
        records = record.read(folder)
        (folder / record.RECORDS).unlink()
        record.append(
            folder, [replace(r, samples=r.samples[:1], machine_seconds=r.machine_seconds[:1]) for r in records]
        )
    outcome = report(*folders, fail_on_slower=10)
    assert outcome.status == 0
    (row,) = [row for row in outcome.summary["against"] if row["case"] == SLOW]
    assert row["verdict"] == "one sample"


def test_a_case_of_later_runs_is_compared_with_the_first_that_has_it(planted):
    folders = [planted("1", without=[SLOW]), planted("2"), planted("3", {SLOW: 2.0})]
    outcome = report(*folders)
    (row,) = [row for row in outcome.summary["against"] if row["case"] == SLOW]
    assert (row["before"], row["after"], row["verdict"]) == (2, 3, "slower")
    assert outcome.tables[1].rows[0][0] == f"{SLOW}, run 3 / 2"
    assert len(outcome.summary["against"]) == 2 * len(record.read(folders[0])) + 1
    alone = report(folders[0], folders[1])
    assert "Cases that only one run has a time of: 1." in alone.summary["sentences"]


@pytest.mark.parametrize(("setting", "value"), [("dtype", "float64"), ("batch_size", 32), ("workload", "wine")])
def test_steps_that_do_other_work_have_no_ratio(planted, setting, value):
    first, second = planted("first"), planted("second", {SLOW: 1.5}, **{setting: value})
    outcome = report(first, second, fail_on_slower=10)
    assert outcome.status == 1
    rows = outcome.summary["against"]
    # Values of float32 are beyond the bounds of float64: their times are withheld.
    assert {row["verdict"] for row in rows} == (set() if setting == "dtype" else {"not comparable"})
    assert not rows or {row["ratio"] for row in rows} == {None}
    assert all(row[3] == "-" for row in outcome.tables[1].rows)
    said = " ".join(outcome.summary["sentences"])
    assert f"a step of run 2 does other work than one of run 1: {setting.replace('_', ' ')} " in said
    assert "NOTHING TO COMPARE" in said


def test_other_machines_seeds_and_lengths_are_compared(planted):
    first, second = planted("first"), planted("second", seed=3, epochs=2, threads=2, repeats=7, device="gpu")
    assert {row["verdict"] for row in report(first, second).summary["against"]} == {"no difference"}


def test_what_differs_names_the_runs_of_each_value(planted):
    outcome = report(planted("1"), planted("2", jax="0.11"), planted("3"))
    assert [row[1:] for row in outcome.tables[0].rows if row[0] == "jax"] == [("0.10.2", "1, 3"), ("0.11", "2")]


def test_a_run_that_was_cut_off_or_is_of_an_older_schema_is_compared(planted):
    first, second = planted("first"), planted("second")
    for number, folder in enumerate((first, second)):
        lines = (folder / record.RECORDS).read_text().splitlines(keepends=True)
        old = [line.replace('"schema": 5', '"schema": 4') for line in lines]
        (folder / record.RECORDS).write_text("".join(["not a record\n"] * number + old[:5]) + old[5][:80])
    outcome = report(first, second)
    said = " ".join(outcome.summary["sentences"])
    assert "Run 1: The run is not finished" in said
    assert "Run 2: Lines of records.jsonl that cannot be read: 1; the first:" in said
    assert {row["verdict"] for row in outcome.summary["against"]} == {"no difference"}


def test_a_disagreement_counts_in_the_last_run_alone_and_withholds_its_times(planted):
    good, bad = planted("good"), planted("bad")
    records = record.read(bad)
    (wrong,) = [r for r in records if r.case.key == "optimizers/adam/torch/quickest"]
    record.append(bad, [replace(wrong, value=wrong.value | {"params": [9.0, *wrong.value["params"][1:]]})])
    outcome = report(good, bad)
    assert outcome.status == 1
    assert "Run 2: VALUES DISAGREE" in outcome.verdict
    assert wrong.case.key not in {row["case"] for row in outcome.summary["against"]}
    assert report(bad, good).status == 0


def test_nothing_is_written_but_into_out(planted, tmp_path, capsys):
    first, second = planted("first"), planted("second")
    words = [str(first), str(second), "--json"]
    assert reporting.main(words) == 0
    assert json.loads(capsys.readouterr().out)["folder"] is None
    out = tmp_path / "out"
    assert reporting.main([*words[:2], "--out", str(out), "--export", "csv", "latex"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(out))
    names = {path.name for path in out.rglob("*.*")}
    assert names == {"report.md", "against.csv", "runs.csv", "against.tex", "runs.tex"}
    assert len((out / "report.md").read_text().splitlines()) <= page.LINES
    assert reporting.main([str(first), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.md").exists()
    assert {path.name for folder in (first, second) for path in folder.iterdir()} == {
        environment.ENVIRONMENT, record.RECORDS,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["first", "nothing"], "report nothing holds no run: name a folder with records.jsonl and environment.json"),
        (["first", "first"], "report first and first are the same folder: give each run once"),
        (["first", "./second/../first"], "are the same folder"),
        (["first", "link"], "report first and link are the same folder"),
        (["first", "empty"], "report empty holds no run"),
        (["first", "half"], "report half holds no whole run: environment.json is missing"),
        (["first", "torn"], "report torn: what it holds cannot be read"),
        (["first", "second", "--against", "first"], "--against says nothing to several folders: the first one is"),
        (["first", "second", "--export", "csv"], "--export of several runs needs a folder to write: --out DIR"),
        (["first", "second", "--export", "pyperf", "--out", "x"], "--export pyperf is for one run"),
        (["first", "second", "--out", "second"], "--out second already holds a run"),
        (["first", "second", "--fail-on-slower", "0"], "--fail-on-slower 0.0 is not a positive and finite number"),
        (["first", "--fail-on-slower", "5"], "--fail-on-slower needs another run: --against DIR, or a second folder"),
    ],
)
def test_what_cannot_be_set_side_by_side_is_one_line(arguments, words, planted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    planted("first"), planted("second")
    Path("link").symlink_to("first")
    Path("empty").mkdir()
    shutil.copytree("first", "half")
    Path("half", environment.ENVIRONMENT).unlink()
    shutil.copytree("first", "torn")
    Path("torn", environment.ENVIRONMENT).write_text("{")
    for status in (reporting.main(arguments), command_line.main(["--report", *arguments])):
        assert status == 2
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert words in first == second
    assert "--report" not in first  # the command `report` has no such option
    assert said.out == ""


def test_from_python_one_folder_is_a_path_or_text(planted):
    folder = planted("run")
    assert run(Config(report=folder)).folder == run(Config(report=str(folder))).folder == folder
    with pytest.raises(ConfigError, match="--seed says nothing to --report"):
        run(Config(report=folder, seed=3))
