"""Tables for papers and other tools, and the short report: hostile names, exact numbers, sixty lines."""

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study import session, verdict
from jaxopt_study.bench import environment
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.report import export, frames, latex, page
from jaxopt_study.report.export import Part
from jaxopt_study.report.page import Answer
from jaxopt_study.report.screen import Part as Shown
from jaxopt_study.report.table import Table
from jaxopt_study.session import Beside
from jaxopt_study.terminal import visible

KEPT = Path(__file__).parent / "kept" / "main_job"
NAMES = [
    "a_b",
    "100 %",
    "R&D",
    "#1",
    "\\input{x}",
    "$x^2$",
    "{",
    "}}",
    "~",
    "[red]",
    "*",
    "--seed",
    "<b>|",
    "x\ny",
    "\x1b",
]
HOSTILE = st.one_of(st.sampled_from(NAMES), st.text(max_size=30), st.text("\\&%$#_{}~^<>|[]*- \n", max_size=30))
TOKEN = re.compile(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\{[\[*]\}|-\{\}|[^\\&%$#_{}~^<>|\[*]")
"""What LaTeX prints as one character."""


def printed(token):
    """Return the character that LaTeX prints."""
    by_name = {f"\\text{name}{{}}": character for character, name in latex.COMMANDS.items()}
    return by_name.get(token) or {"-{}": "-"}.get(token) or token.strip("{}" if token[0] == "{" else "").lstrip("\\")


@given(text=HOSTILE)
@settings(max_examples=30)
def test_latex_prints_what_was_written(text):
    written = latex.escaped(text)
    tokens = TOKEN.findall(written)
    assert "".join(tokens) == written
    assert "".join(map(printed, tokens)) == visible(text)
    assert "--" not in written


@pytest.mark.parametrize("title", ["Title", "".join(NAMES)])
def test_a_table_of_hostile_names_is_latex(title):
    names, note = [*NAMES, "".join(NAMES), "", "\\", "]\\\\["], "note \\n%"
    table = Table(title, ("name", *names), [(name, *names) for name in names], (note,), left=names[:1])
    written = latex.latex(table, "the_name")
    lines = written.splitlines()
    code = "\n".join(line for line in lines if not line.startswith("% "))
    bare = re.sub(r"\\[&%$#_{}]", "", code)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"\\\\\s*[\[*]", code)
    ends = [line for line in code.splitlines() if line.endswith(r"\\")]
    assert len(ends) == len(names) + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in ends} == {len(names)}
    assert all(f"\\{rule}rule" in lines for rule in ("top", "mid", "bottom"))
    assert f"\\caption{{{latex.escaped(title)}}}" in lines
    assert "\\label{tab:the_name}" in lines
    assert sum(line.startswith("% ") for line in lines) == 2


ROWS = [
    {"name": 'a,"b"\n', "x": 0.1 + 0.2, "n": 3, "ratio": Ratio(1 / 3, 0.3, 0.4, ("unstable",)), "path": [1.5, 2.5]},
    {"name": "=1+1", "x": math.nan, "n": None, "ratio": None, "mixed": 1, "of": {"deep": [{"y": 1e-300}]}},
    {"name": "", "x": math.inf, "n": 2, "mixed": "text", "flag": True},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_come_back_to_the_last_bit(kind, tmp_path):
    export.write([kind], tmp_path, [Part("rows", ROWS, ())])
    path = tmp_path / export.TABLES / f"rows.{kind}"
    read = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    written = frames.frame(ROWS)
    assert list(read.columns) == list(written.columns)
    for name, values in {
        "x": [0.1 + 0.2, math.nan, math.inf],
        "n": [3, math.nan, 2],
        "ratio": [1 / 3, math.nan, math.nan],
        "ratio_low": [0.3, math.nan, math.nan],
        "path_2": [2.5, math.nan, math.nan],
        "of_deep_1_y": [math.nan, 1e-300, math.nan],
    }.items():
        np.testing.assert_array_equal(read[name].to_numpy(float), values)
    assert read["ratio_flags"][0] == "unstable"
    assert list(map(str, read["mixed"][1:])) == ["1", "text"]
    assert read["name"][0] == 'a,"b"\\n'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The kept main job, exported in each format."""
    folder = shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "save", lambda *_: None)
        plan = environment.plan_of(environment.read(folder))
        return session.report(plan, folder, Beside(export=("csv", "parquet", "latex"), again=True))


def test_every_table_of_a_run_is_exported(drawn):
    folder = drawn.folder / export.TABLES
    for study, experiments in drawn.summary["studies"].items():
        for name, rows in experiments.items():
            file = study if study == name else f"{study}_{name}"
            for read in (pd.read_csv(folder / f"{file}.csv"), pd.read_parquet(folder / f"{file}.parquet")):
                assert len(read) == len(rows)
    steps = pd.read_csv(folder / "optimizers.csv")["step_seconds"]
    assert list(steps) == [row["step_seconds"] for row in drawn.summary["studies"]["optimizers"]["optimizers"]]
    assert len(pd.read_csv(folder / "comparisons.csv")) == len(drawn.findings)
    cases = pd.read_csv(folder / "cases.csv")
    np.testing.assert_array_equal(cases["step_seconds"], drawn.records["step_seconds"])  # NaN where it was skipped
    captions = " ".join(path.read_text() for path in folder.glob("*.tex"))
    exported = [table for table in drawn.tables if table.title != "The whole run"]
    assert len(exported) > 10
    assert all(f"\\caption{{{latex.escaped(table.title)}}}" in captions for table in exported)


def test_the_short_report_of_the_main_job_has_its_short_tables(drawn):
    written = (drawn.folder / page.REPORT).read_text()
    assert len(written.splitlines()) <= page.LINES
    for part in drawn.screen.parts:
        assert all(f"### {table.title}" in written for table in part.tables if table.rows)
    assert "## Environment\n- Machine: " in written
    assert all(f"- {words}" in written for words in drawn.summary["sentences"][:2])
    assert "report.html" in written.splitlines()[-1]
    assert "alone" not in written  # no table was left out


@pytest.mark.parametrize(
    ("rows", "tables", "sentences"), [(5000, 1, 1), (8, 40, 3), (3, 3, 500), (0, 2, 0), (30, 2, 40)]
)
def test_a_short_report_is_short(rows, tables, sentences, tmp_path):
    table = Table("Title", ("name", "x"), [(f"row {n}", "1") for n in range(rows)], ("A note.",))
    said = [f"Sentence {n}." for n in range(sentences)]
    page.write(tmp_path, "title", said, [Answer("Question?", [Shown([table] * tables, said)])] * 3, ["Here."] * 6)
    lines = (tmp_path / page.REPORT).read_text().splitlines()
    assert len(lines) <= page.LINES
    assert len(lines) > 50 or rows * tables < 30
    cut = [line for line in lines if line.startswith("... stands for")]
    assert len(cut) <= 1
    if rows == 5000:
        shown = [line.split()[2] for line in lines if line.startswith("| row")]
        assert cut == [f"... stands for {5000 - len(shown)} rows."]
        assert (shown[0], shown[-1]) == ("0", "4999")
