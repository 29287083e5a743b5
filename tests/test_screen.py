"""What a terminal shows: drawn from kept records of a main job, at several widths, and of hostile names."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from jaxopt_study import compare as command_line
from jaxopt_study import session, verdict
from jaxopt_study.bench import environment
from jaxopt_study.bench import record as records
from jaxopt_study.report import screen, table
from jaxopt_study.report.screen import Part, Screen, Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.terminal import counted

# One run of the main job on a busy machine. Parameters and Newton's paths, which no display reads, are zeros.
KEPT = Path(__file__).parent / "kept" / "main_job"
WIDTHS = (60, 80, 120, 200)
MOST_LINES = 45
ANSI = re.compile(r"\x1b\[[0-9;]*m")
PLURAL_OF_ONE = r"(?<![\d.,])1 (?:more )?(?:cases|comparisons|samples|steps|epochs|rows|entries|runs|cores)\b"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")

ON_A_TERMINAL = """
import fcntl, os, struct, sys, termios
from jaxopt_study import compare, verdict
verdict.save = lambda *_: None
for width in map(int, sys.argv[2:]):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, abs(width), 0, 0))
    if width < 0:
        os.environ["NO_COLOR"] = "1"
    print("=====", flush=True)
    compare.main(["--report", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def undrawn():
    """Figures are made, but not drawn: that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "save", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "run")


@pytest.fixture(scope="module")
def outcome(folder, undrawn):
    return session.report(environment.plan_of(environment.read(folder)), folder, session.Beside(again=True))


def on_a_terminal(folder, *widths):
    """Return what the command line writes to a terminal of each width; of a negative one, with NO_COLOR set."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-c", ON_A_TERMINAL, str(folder), *map(str, widths)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(command, **streams, env=variables | {"TERM": "xterm-256color"}) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not read:
                break
            written += read
        assert process.wait() == 0
    os.close(ours)
    return written.decode().replace("\r\n", "\n").split("=====\n")[1:]


@pytest.fixture(scope="module")
def written(folder):
    return dict(zip((*WIDTHS, -80), on_a_terminal(folder, *WIDTHS, -80), strict=True))


def cells(line):
    """Return the cells of a line of a table: two spaces or more are between them."""
    return tuple(re.split(r" {2,}", line.strip()))


def has_row(lines, row):
    return any(line.split() == " ".join(row).split() for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_main_job_fits_a_terminal_and_no_row_is_broken(width, written, outcome):
    lines = ANSI.sub("", written[width]).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(cell_len, lines[:-1])) <= width  # the last line has the folder's path
    console = Console(width=width, file=StringIO())
    short = [t for part in outcome.screen.parts for t in part.tables]
    assert len(short) == 3
    for shown in short:
        fitted = screen.fit(shown, console)
        assert len(fitted.columns) == len(shown.columns) <= 6
        for row in (fitted.columns, *fitted.rows):
            assert has_row(lines, row)


def test_what_must_be_known_comes_first_and_in_colour(written):
    first, second, *_ = written[80].splitlines()
    assert ANSI.sub("", first) == "The frameworks agree in all 53 comparisons."
    assert "\x1b[32m" in first
    assert second.startswith("\x1b[33mTHE MACHINE WAS BUSY")
    assert not COLOUR.search(written[-80])
    assert ANSI.sub("", written[-80]) == ANSI.sub("", written[80])


def test_the_three_ratios_stand_side_by_side(outcome):
    (headline,) = (t for part in outcome.screen.parts for t in part.tables if t.columns[0] == "loops")
    assert [row[0] for row in headline.rows] == ["usual", "fastest", "large step", "notebook"]
    for row in headline.rows:
        assert re.fullmatch(r"[\d,.]+ \[[\d,.]+, [\d,.]+\]( \(.*\))?", row[-1])
    by_case = {r.case.key: r for r in outcome.results.records}
    usual = by_case["loops/ladder/adam/torch/prepared"], by_case["loops/ladder/adam/jax/donated"]
    assert headline.rows[0][-1] == table.ratio(outcome.results.ratio(*usual))
    said = " ".join(outcome.summary["sentences"])
    assert "JAX: jit of the step, state donated; PyTorch: rows prepared, no .item()" in said
    assert "the notebook as written" in said
    assert "epochs of Adam" not in said
    assert all(len(words.split()) <= 45 for words in outcome.summary["sentences"])


def test_it_says_whether_adam_is_best_here(outcome):
    said = outcome.summary["sentences"]
    assert "Lowest training loss here: adam (0.00802)." in said
    best = "Highest test accuracy: sgd (0.9188); no difference: rmsprop (0.9166), adam (0.9110)."
    assert best in said
    assert "By test loss, Adam is worse than adagrad and sgd at default learning rates, and the best tuned." in said


def test_a_pipe_gets_no_codes(folder, undrawn, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert command_line.main(["--report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len(said.splitlines()) <= MOST_LINES
    assert command_line.main(["--report", str(folder), "--verbose"]) == 0
    full = capsys.readouterr().out
    assert "notebook / it [95 %]" in full
    assert "Break-even: the number of steps" in full


def test_a_run_that_was_cut_off_is_drawn(tmp_path, undrawn, capsys):
    shutil.copytree(KEPT, tmp_path / "run")
    kept = (tmp_path / "run" / records.RECORDS).read_text()
    lines = kept.splitlines(keepends=True)
    (tmp_path / "run" / records.RECORDS).write_text("".join(lines[:10]) + lines[10][:100])
    assert command_line.main(["--report", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert f"The run is not finished: {len(lines) - 10} cases are not measured yet." in said
    assert "cases are not measured yet" in (tmp_path / "run" / "report.md").read_text()


def test_an_empty_run_and_one_in_which_all_failed_are_drawn(tmp_path, undrawn, capsys):
    shutil.copytree(KEPT, tmp_path / "run")
    all_records = records.read(tmp_path / "run")
    (tmp_path / "run" / records.RECORDS).write_text("")
    assert command_line.main(["--report", str(tmp_path / "run")]) == 1
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "The run holds no records."
    assert second.startswith(f"The run is not finished: {len(all_records)} cases are not measured yet.")
    reason = "RuntimeError: \x1b[31m<script>"
    broken = [replace(r, status="failed", reason=reason, samples=(), value={}, first_seconds=0.0) for r in all_records]
    records.append(tmp_path / "run", broken)
    assert command_line.main(["--report", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().out
    assert f"{len(broken)} FAILED" in " ".join(said.split())
    assert "\x1b" not in said
    report = (tmp_path / "run" / "report.md").read_text()
    assert "\x1b" not in report
    assert "<script>" not in report


def test_one_of_something_has_no_plural(tmp_path, undrawn, capsys):
    assert [counted(n, "case") for n in (0, 1, 2, 2000)] == ["0 cases", "1 case", "2 cases", "2,000 cases"]
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]
    shutil.copytree(KEPT, tmp_path / "run")
    kept = (tmp_path / "run" / records.RECORDS).read_text().splitlines(keepends=True)
    (tmp_path / "run" / records.RECORDS).write_text("".join(kept[:-1]))
    command_line.main(["--report", str(tmp_path / "run"), "--verbose"])
    said = " ".join(capsys.readouterr().out.split())
    assert "The run is not finished: 1 case is not measured yet." in said
    assert not re.findall(PLURAL_OF_ONE, said)


def test_what_was_not_measured_is_refused(capsys, folder):
    assert command_line.main(["--report", str(folder), "--seed", "3"]) == 2
    assert "--seed says nothing to --report" in capsys.readouterr().err


# Hostile names.


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "[link=x]y[/link]", "[/]"])
def test_markup_is_text(name):
    marked = Table(name, (name, "time"), [(name, "1.00")], (name,))
    out = StringIO()
    screen.show(Screen([Sentence(name)], [Part([marked], [name])]), Console(file=out, width=80))
    assert out.getvalue().count(name) == 6
    assert table.markdown(marked).count(name) == 4
    table.show(marked, Console(file=out, width=80))
    assert out.getvalue().count(name) == 10


def test_long_names_that_differ_at_their_ends_stay_different():
    names = [f"hessian/workload/{'x' * 40}/{framework}/blocked" for framework in ("jax", "torch")]
    fitted = screen.fit(Table("t", ("case", "time"), [(name, "1.00 s") for name in names]), Console(width=60))
    first, second = (row[0] for row in fitted.rows)
    assert (first[:9], first[-12:]) == ("hessian/w", "/jax/blocked")
    assert first != second
    assert cell_len(first) == cell_len(second) == 60 - len("  1.00 s ")  # all the place that there is


def test_long_names_that_differ_in_their_middle_leave_a_place_for_a_column():
    """Of runs side by side, a terminal of 80 columns once showed no column but the names."""
    names = [
        f"hessian/workload/digits-linear/{framework}/hessian_forward_over_{how}"
        for framework in ("jax", "torch")
        for how in ("reverse", "forward")
    ]
    shown = Table("t", ("case", "ratio"), [(name, "1.00 [0.727, 1.38]") for name in names])
    out = StringIO()
    console = Console(file=out, width=80)
    fitted = screen.fit(shown, console)
    assert fitted.columns == shown.columns
    assert len({row[0] for row in fitted.rows}) == len(names)
    screen.show(Screen([], [Part([shown])]), console)
    assert "See the report, or --verbose, for the words that were cut (…)." in out.getvalue()
    wide = StringIO()
    screen.show(Screen([], [Part([shown])]), Console(file=wide, width=120))
    assert "cut" not in wide.getvalue()


HOSTILE = st.one_of(
    st.sampled_from(
        ["<script>alert(1)</script>", "[red]x[/red]", "\x1b[31mred\x1b[0m", "a" * 300, "עברית", "\u202eabc"]
    ),
    st.sampled_from(["a|b", "漢字" * 40, "x\ny", "\u200b", ":smile:", "[link=x]y[/link]", "1<b>" + "z" * 300]),
    st.text(max_size=80),
)
NUMBER = st.floats(1e-3, 1e6).map(table.plain)


@given(
    title=HOSTILE, names=st.lists(HOSTILE, min_size=1, max_size=4), number=NUMBER, reason=HOSTILE,
    width=st.sampled_from(WIDTHS),
)  # fmt: skip
@settings(max_examples=60)
def test_hostile_names_break_no_row_and_command_no_terminal(title, names, number, reason, width):
    rows = [(name, number, "12.3 [11.1, 13.3] (unstable)", name) for name in names]
    hostile = Table(title, ("name", "time", "ratio [95 %]", title), rows, (reason,), (), ("ratio [95 %]",), (reason,))
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    screen.show(Screen([Sentence(reason, "warning")], [Part([hostile], [title])]), console)
    lines = out.getvalue().split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert all(character.isprintable() for line in lines for character in line)
    assert sum("12.3 [11.1, 13.3] (unstable)" in line for line in lines) == len(names)
    assert width < 120 or sum(number in line.split() for line in lines) >= len(names)
    page = table.markdown(hostile)
    assert "<" not in page
    assert all(character.isprintable() or character == "\n" for character in page)
    assert sum(line.startswith("| ") for line in page.splitlines()) >= len(names) + 1
    table_lines = [line for line in page.splitlines() if "12.3 [11.1" in line]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table_lines}) == 1
