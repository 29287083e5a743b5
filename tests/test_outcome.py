"""What `run` returns to Python users, and the names that the package offers."""

import shlex
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import jaxopt_study
from jaxopt_study import Config, compare, run
from jaxopt_study.config import check
from tests.here import workers_here
from tests.test_plugin import GOOD

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A run of one optimizer in PyTorch."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with workers_here("torch"):
        yield run(
            Config(
                studies=("optimizers",), optimizers=("sgd",), frameworks=("torch",), profile="smoke", repeats=2,
                dtype="float64", out=folder,
            )
        )  # fmt: skip


def test_its_repr_is_the_verdict_in_ten_lines(outcome):
    for shown in (outcome, replace(outcome, verdict=outcome.verdict * 20)):
        lines = repr(shown).splitlines()
        assert len(lines) <= 10
        assert all(len(line) <= 80 for line in lines[:-1])
        assert lines[0].startswith(outcome.verdict[:20])
        assert str(outcome.folder) in lines[-1]


class Shown(HTMLParser):
    """What a page shows: its tables as rows of cells, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.tags, self._open = [], [], []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, words):
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += words


def test_a_notebook_shows_its_tables_as_tables(outcome):
    page = Shown(outcome._repr_html_())
    assert page.tables == [[list(table.columns), *map(list, table.rows)] for table in outcome.tables if table.rows]
    assert "pre" not in page.tags
    hostile = replace(
        outcome.tables[0], title="<script>", rows=[["<script>|\x1b[31m"] * len(outcome.tables[0].columns)]
    )
    page = Shown(replace(outcome, verdict="<script>", folder=Path("<script>"), tables=[hostile])._repr_html_())
    assert "script" not in page.tags
    assert page.tables[0][1][0] == "<script>|\\x1b[31m"


def test_its_tables_are_data_frames_in_seconds(outcome):
    table = outcome.table("optimizers")
    (row,) = table.to_dict("records")
    (record,) = outcome.results.records
    assert (row["framework"], row["subject"], row["status"]) == ("torch", "sgd", "ok")
    assert row["step_seconds"] == record.seconds
    assert row["low"] <= row["step_seconds"] <= row["high"]
    assert outcome.records.equals(table)
    with pytest.raises(ValueError, match="no study 'loops': choose from optimizers"):
        outcome.table("loops")


def test_a_withheld_time_is_not_in_a_table(outcome):
    (record,) = outcome.results.records
    finding = replace(outcome.findings[0], cases=(record.case,), agrees=False) if outcome.findings else None
    if finding is None:
        from jaxopt_study.bench.finding import compare

        finding = compare("losses", [record.case], 1.0, 0.5)
    withheld = replace(outcome, results=replace(outcome.results, findings=(finding,)))
    assert np.isnan(withheld.records["step_seconds"]).all()
    assert np.isnan(withheld.records["first_seconds"]).all()


def test_its_figures_are_altairs(outcome, tmp_path):
    outcome.figure("loss_per_epoch").save(tmp_path / "a.svg")
    assert "Training loss by optimizer" in (tmp_path / "a.svg").read_text()
    outcome.figure("loss_per_epoch", column=True).save(tmp_path / "a.pdf")
    assert b"FontFile" in (tmp_path / "a.pdf").read_bytes()
    with pytest.raises(ValueError, match="no figure 'ladder': choose from loss_per_epoch"):
        outcome.figure("ladder")


def test_the_package_offers_its_names_and_loads_no_framework():
    code = (
        "import sys, jaxopt_study as j; from jaxopt_study import Config, compare_steps, locate, run, translate; "
        "print(*dir(j)); sys.exit(any(m in sys.modules for m in ('jax', 'torch', 'altair', 'pandas')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == sorted([*jaxopt_study.__all__, "__version__"])
    assert callable(jaxopt_study.minimize)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxopt_study.nothing


def test_the_readmes_own_commands_are_understood(tmp_path, monkeypatch, capsys):
    """What they run is tested in test_workloads, test_given and test_experiment."""
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("a,b,price\n" + "".join(f"{i},{i * i % 7},{i / 3}\n" for i in range(60)))
    section = (ROOT / "README.md").read_text().split("\n## Your own\n")[1].split("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    python")]
    assert len(commands) == 6
    Path("mine.py").write_text(GOOD)
    plans = []
    for command in commands:
        arguments = shlex.split(command)[3:]
        if "--new-experiment" in arguments:
            Path("mine.py").unlink()
            assert compare.main(arguments) == 0
        else:
            _, bound, _ = compare.app.parse_args(arguments)
            plans.append(check(*bound.args, **bound.kwargs))
    assert [plan.batch_size for plan in plans[:3]] == [32, 32, 32]
    assert [plan.model for plan in plans[1:3]] == ["mlp:64,32", "net"]
    assert plans[2].optimizers == ("adam", "lion")
    assert plans[3].optimizers == ("adam", "AdamW(lr=1e-3, weight_decay=0.1)")
    assert plans[4].experiment == "mine.py"
    assert plans[4].frameworks == ("jax", "torch")
    capsys.readouterr()
