"""Folders of runs that someone changed: what cannot be read is said in one line, what can be is shown."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from jaxopt_study import compare as command_line
from jaxopt_study import folders, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.config import ConfigError
from jaxopt_study.report import page

KEPT = Path(__file__).parent / "kept" / "main_job"
WRONG = (None, "text \x1b[31m<script>", [], {}, -1, [[]], True)
"""What is put in the place of an entry."""
FORMATS = ("csv", "parquet", "latex")


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(KEPT, tmp_path / "run"))


def replaced(entry):
    """Return what may stand in the place of an entry and is of another type."""
    kind = float if isinstance(entry, int) and not isinstance(entry, bool) else type(entry)
    return [x for x in WRONG if type(x) is not type(entry) and not (kind is float and isinstance(x, int))]


def changed_environments():
    where = json.loads((KEPT / environment.ENVIRONMENT).read_text())
    for name, entry in where.items():
        yield from ((f"{name} is {x!r}", where | {name: x}) for x in replaced(entry) if name != "commit")
    for name, entry in where["plan"].items():
        yield from ((f"plan.{name} is {x!r}", where | {"plan": where["plan"] | {name: x}}) for x in replaced(entry))
    for name in ("studies", "frameworks", "optimizers"):
        yield f"no {name}", where | {"plan": where["plan"] | {name: []}}
    for name in ("profile", "dtype", "device"):
        yield f"{name} of another version", where | {"plan": where["plan"] | {name: "another"}}
    yield "another plan", where | {"plan": where["plan"] | {"new": 1}}
    yield "another framework", where | {"plan": where["plan"] | {"frameworks": ["keras"]}}
    yield "another study", where | {"plan": where["plan"] | {"studies": ["nothing"]}}


def test_an_environment_with_anything_wrong_is_one_line(run, tmp_path, capsys):
    tried = 0
    for what, where in changed_environments():
        (run / environment.ENVIRONMENT).write_text(json.dumps(where))
        for option in (folders.REPORT, "--against"):
            with pytest.raises(ConfigError, match=option) as error:
                folders.check_readable(option, run)
            assert str(error.value).isprintable(), what
        tried += 1
    assert tried > 150
    assert command_line.main(["--report", str(run)]) == 2
    assert command_line.main(["--against", str(run), "--out", str(tmp_path / "out")]) == 2
    assert command_line.main(["--report", str(KEPT), str(run), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert not (tmp_path / "out").exists()


def test_a_record_with_anything_wrong_is_named_by_its_line():
    for line in (KEPT / record.RECORDS).read_text().splitlines()[:2]:
        row = json.loads(line)
        for name, entry in row.items():
            for x in replaced(entry):
                if (name == "first_seconds" and x is None) or (name == "digest" and isinstance(x, str)):
                    continue
                with pytest.raises(ValueError, match=r".") as error:
                    record._parse(json.dumps(row | {name: x}))
                assert "\n" not in str(error.value)


def test_values_of_any_kind_cost_their_own_section_alone(run, tmp_path, monkeypatch, capsys):
    """The types of a study's values are its own: another one is an error of that study."""
    monkeypatch.setattr(verdict, "save", lambda *_: None)
    rows = [json.loads(line) for line in (run / record.RECORDS).read_text().splitlines()]
    for row, x in zip(rows, itertools.cycle(WRONG), strict=False):
        name = next(iter(row["value"]), "value")
        row["value"][name] = x
        row["framework"] = "keras" if row["study"] == "spread" else row["framework"]
    (run / record.RECORDS).write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"schema": 5}]) + "cut")
    assert command_line.main(["--report", str(run)]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert "Lines of records.jsonl that cannot be read: 1; the first:" in said.out
    assert "\x1b" not in said.out
    report = (run / "report.md").read_text()
    assert "\x1b" not in report
    assert "<script>" not in report
    beside_and_exported(run, tmp_path, capsys)


def beside_and_exported(run, tmp_path, capsys):
    """Set the run beside the kept one, and export both: nothing ends in a traceback, nothing commands a terminal."""
    for paths, name in (((KEPT, run), "beside"), ((run, KEPT), "other"), ((run,), "alone")):
        arguments = ["--report", *map(str, paths), "--out", str(tmp_path / name), "--export", *FORMATS]
        assert command_line.main(arguments) in (0, 1)
        said = capsys.readouterr()
        assert said.err == ""
        assert "\x1b" not in said.out
        written = [
            path.read_text() for path in (tmp_path / name).rglob("*.*") if path.suffix in (".md", ".tex", ".csv")
        ]
        assert len(written) > 4
        assert not any("\x1b" in text for text in written)
        assert len((tmp_path / name / "report.md").read_text().splitlines()) <= page.LINES


def test_ragged_and_missing_samples_are_shown_without_a_time(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verdict, "save", lambda *_: None)
    rows = [json.loads(line) for line in (run / record.RECORDS).read_text().splitlines()]
    for number, row in enumerate(rows):
        row["samples"] = row["samples"][: number % 3]
    (run / record.RECORDS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command_line.main(["--report", str(run)]) in (0, 1)
    assert capsys.readouterr().err == ""
    beside_and_exported(run, tmp_path, capsys)
