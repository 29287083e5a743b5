"""The command line, by running it: what it refuses, what it writes, and what it outlives."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from jaxopt_study import __main__ as entry_point
from jaxopt_study import compare as command_line
from jaxopt_study import folders, verdict
from jaxopt_study import progress as progress_bar
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.process import WorkerProcess
from jaxopt_study.config import Config, ConfigError, check, plan
from jaxopt_study.report import export
from jaxopt_study.studies import MAIN_JOB, STUDIES
from tests.conftest import compare, load_backend
from tests.here import workers_here
from tests.processes import lines, start, wait_for, workers

KEPT = Path(__file__).parent / "kept" / "main_job"
SMALL = ("--epochs", 1, "--repeats", 2, "--profile", "smoke")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One optimizer in both frameworks, one epoch, each in a process: the folder, the status and what was printed."""
    load_backend("jax")  # it sets variables of the environment, which a run records
    folder = tmp_path_factory.mktemp("small") / "run"
    arguments = ["--studies", "optimizers", "--optimizers", "sgd", *map(str, SMALL), "--out", str(folder)]
    with redirect_stdout(StringIO()) as said, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        status = command_line.main(arguments)
    return folder, status, said.getvalue()


@pytest.fixture
def all_here(compare_here):
    """The command line with its workers in this process too."""
    with workers_here("jax", "torch"):
        yield compare_here


# What is refused: one clear line, status 2, nothing written.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--optimizers", "adm"],
            "unknown optimizer 'adm': choose from adam, rmsprop, sgd, adagrad, momentum, adamw; did you mean 'adam'?",
        ),
        (["--studies", "spred"], "did you mean 'spread'?"),
        (["--workload", "digits"], "unknown workload 'digits'"),
        (["--frameworks", "tensorflow"], "unknown framework 'tensorflow': choose from jax, torch"),
        (["--device", "cup"], 'Did you mean "cpu"?'),
        (["--dtype", "float16"], "--dtype float16: choose from float32, float64; of other types no bound"),
        (["--profile", "ful"], 'Did you mean "full"?'),
        (["--learning-rate", "0"], "--learning-rate 0.0 is not a positive and finite number"),
        (["--learning-rate", "-1"], "--learning-rate -1.0 is not"),
        (["--learning-rate", "nan"], "--learning-rate nan is not"),
        (["--learning-rate", "inf"], "--learning-rate inf is not"),
        (["--learning-rate", "fast"], "fast"),
        (["--epochs", "0"], "--epochs 0 is not a whole number of at least 1"),
        (["--epochs", "1.5"], "1.5"),
        (["--threads", "0"], "--threads 0 is not"),
        (["--threads", "4096"], "--threads 4096 is more than the"),
        (["--repeats", "-3"], "--repeats -3 is not"),
        (["--seed", "-1"], "--seed -1 is not"),
        (["--studies", "spread", "--frameworks", "torch"], "nothing to run"),
        (["--optimizers", ","], "no optimizer given"),
        (["--epochs", "99999999999999999999"], "is more than 1000000"),
        (["--repeats", "1000000000000"], "is more than 1000000"),
        (["--learning-rate", "1e300"], "more than float32 can hold"),
        (["--out", ""], "--out is empty"),
        (["--out", "x" * 300], "cannot be written"),
        (["--resume", "x" * 300], "cannot be read"),
        (["--studies", "optimizers", "spread", "--frameworks", "torch"], "the study spread has no case for torch"),
        (["--epoch", "3"], "did you mean --epochs?"),
        (["--resume", "no-such-folder"], "holds no run"),
        (["--resume", "a", "--out", "b"], "cannot be given with"),
        (["--epochs"], "requires an argument"),
        (["--studies"], "--studies needs at least one value"),
        (["--optimizers", "--frameworks", "jax"], "--optimizers needs at least one value"),
        (["--export"], "--export needs at least one value"),
        (["--bogus"], "unknown option --bogus; see --help"),
        (["--sudies=loops"], "unknown option --sudies: did you mean --studies?"),
        (["--standardize"], "--standardize is for --data: of the built-in workloads"),
        (["--against", "no-such-folder"], "--against no-such-folder holds no run"),
        (["--export", "docx"], "unknown format 'docx': choose from pyperf, csv, parquet, latex"),
        (["--report", "no-such-folder"], "report no-such-folder holds no run: name a folder with records.jsonl and"),
        # What people type who know other tools.
        (["--lr", "0.1"], "--lr is --learning-rate here"),
        (["--lr=0.1"], "--lr is --learning-rate here"),
        (["--format", "json"], "--format json is --json here"),
        (["--device", "cuda"], "--device cuda is --device gpu here"),
        (["--device=cuda:0"], "--device cuda is --device gpu here"),
        (["--dtype", "bfloat16"], "--dtype bfloat16: choose from float32, float64"),
        (["hessian"], "did you mean --studies hessian?"),
        (["loops", "newton"], "did you mean --studies loops newton?"),
        (["hesian", "--epochs", "1"], "did you mean --studies hessian?"),
        (["nothing"], "'nothing' is no option: options begin with --"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_without_a_word_the_main_job_is_run(monkeypatch):
    """The first command of README. The look for other tools' words once failed on a command line without any."""
    ran = []
    monkeypatch.setattr(command_line, "app", lambda words, **_: ran.append(list(words)))
    assert command_line.main([]) == entry_point.main([]) == 0
    assert ran == [[], []]


def test_a_wrong_command_line_ends_with_status_2(tmp_path):
    answer = compare("--optimizers", "adm", "--out", tmp_path / "run")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: unknown optimizer")
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_gpu_that_is_not_there_is_refused(framework, tmp_path, compare_here):
    """JAX needs a process of its own: one that has computed keeps its device."""
    with workers_here("torch") if framework == "torch" else nullcontext():
        answer = compare_here("--device", "gpu", "--frameworks", framework, *SMALL, "--out", tmp_path / "run")
    if answer.returncode == 0:
        pytest.skip("there is a GPU here")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert f"error: {framework}: " in answer.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(small, compare_here):
    folder = small[0]
    before = (folder / "records.jsonl").read_bytes()
    answer = compare_here("--out", folder)
    assert answer.returncode == 2
    assert "already holds a run" in answer.stderr
    assert (folder / "records.jsonl").read_bytes() == before


def test_a_run_is_compared_with_another_and_exported_for_pyperf(small, tmp_path, all_here):
    folder, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(small[0], folder)
    options = ("--studies", "optimizers", "--optimizers", "sgd", *SMALL)
    answer = all_here(*options, "--out", other, "--against", folder, "--export", "pyperf")
    assert answer.returncode == 0, answer.stderr
    assert "optimizers/sgd/jax/native_scan" in answer.stdout
    assert "Then and now" in (other / "report.md").read_text()
    again = all_here(*options, "--resume", folder, "--export", "pyperf", "--json")
    assert "against" not in json.loads(again.stdout)
    both = [str(run / "pyperf.json") for run in (folder, other)]
    read = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", *both], capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    assert "sgd/torch/notebook" in read.stdout


def test_a_run_that_cannot_be_read_is_refused_before_anything_is_measured(small, tmp_path):
    folder = small[0]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "environment.json").write_text((folder / "environment.json").read_text())
    (bad / "records.jsonl").write_text("rubbish\n")
    with pytest.raises(ConfigError, match=r"--against .*records.jsonl:1 is not a record"):
        command_line.run(Config(against=bad, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_exporter_is_one_sentence(monkeypatch):
    absent = ("pyperf", "pyarrow")
    found = export.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in absent else found(name))
    for name, extra in (("pyperf", "pyperf"), ("parquet", "data")):
        with pytest.raises(ConfigError, match=rf"--export {name} needs .* pip install 'jaxopt_study\[{extra}\]'$"):
            check(Config(export=("csv", name)))
    assert check(Config(export="csv,latex"))


def test_an_out_that_is_a_file_or_under_one_is_refused(tmp_path, compare_here):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        folders.new(file)
    answer = compare_here("--studies", "derivatives", "--frameworks", "jax", *SMALL, "--out", file / "run")
    assert answer.returncode == 2
    assert "cannot be written" in answer.stderr


def test_a_missing_framework_is_one_sentence_and_the_other_still_runs(monkeypatch):
    found = plan.find_spec
    monkeypatch.setattr(plan, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(ConfigError, match=r"torch is not installed: install it by .*pip install .*--frameworks jax"):
        check(Config())
    assert check(Config(frameworks=("jax",))).frameworks == ("jax",)


def test_a_run_of_another_configuration_is_not_resumed(small, compare_here):
    folder = small[0]
    answer = compare_here("--studies", "optimizers", "--optimizers", "sgd", *SMALL, "--seed", 7, "--resume", folder)
    assert answer.returncode == 2
    assert "another configuration: seed was 0, is 7" in answer.stderr


def test_the_plans_are_compared_before_the_records(small, tmp_path, capsys):
    """A record of another profile may be none that this one could read."""
    (tmp_path / "environment.json").write_text((small[0] / "environment.json").read_text())
    (tmp_path / "records.jsonl").write_text("rubbish\n")
    arguments = ["--studies", "optimizers", "--optimizers", "sgd", *map(str, SMALL)]
    assert command_line.main([*arguments, "--dtype", "float64", "--resume", str(tmp_path)]) == 2
    assert "another configuration: dtype was 'float32', is 'float64'" in capsys.readouterr().err
    assert command_line.main([*arguments, "--resume", str(tmp_path)]) == 2
    assert "records.jsonl:1 is not a record" in capsys.readouterr().err


# What is said and written.


def test_help_and_list(compare_here):
    answer = compare_here("--help")
    assert answer.returncode == 0
    assert "--learning-rate" in answer.stdout
    assert "Exit status" in answer.stdout
    listed = compare_here("--list")
    assert listed.returncode == 0
    for name in (*STUDIES, "adagrad", "digits-linear", "float64", "smoke"):
        assert name in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80


def test_each_option_is_described_in_one_line_of_its_docstring(compare_here, monkeypatch):
    """The library indents the second line of one, in the middle of a sentence."""
    monkeypatch.setenv("COLUMNS", "80")
    rows = [line.strip("│ ") for line in compare_here("--help").stdout.splitlines() if line.startswith("│")]
    indented = [line for line in compare_here("--help").stdout.splitlines() if re.match(r"│ {27,}\S", line)]
    assert len(rows) > 50
    assert not indented


def test_names_can_be_joined_by_commas():
    assert check(Config(optimizers=("adam,sgd", "adam"))).optimizers == ("adam", "sgd")


def test_without_a_study_the_main_job_is_run():
    assert check(Config()).studies == MAIN_JOB
    assert check(Config(studies=("spread",))).studies == ("spread",)


def test_a_run_writes_records_environment_report_and_figures(small):
    folder, status, said = small
    assert status == 0, said
    names = {path.name for path in folder.iterdir()}
    assert {"records.jsonl", "environment.json", "report.html", "report.md"} <= names
    assert {f"{name}.{kind}" for name in ("loss_per_epoch", "time_per_step") for kind in ("png", "svg")} <= names
    assert [r.case.key for r in record.read(folder)] == [
        "optimizers/sgd/jax/native_scan",
        "optimizers/sgd/torch/notebook",
    ]
    assert all(len(r.samples) == 2 for r in record.read(folder))
    where = json.loads((folder / "environment.json").read_text())
    assert where["workers"]["jax"]["dtype"] == where["workers"]["torch"]["dtype"] == "float32"
    assert where["workers"]["torch"]["threads"] == "1"
    assert said.startswith("The frameworks agree in all 3 comparisons.")
    assert said.rstrip().endswith(str(folder))
    report = (folder / "report.md").read_text()
    assert "![" in report
    assert "Environment" in report


def test_the_summary_is_json_alone(tmp_path, all_here):
    answer = all_here("--studies", "derivatives", *SMALL, "--json", "--out", tmp_path / "run")
    summary = json.loads(answer.stdout)
    assert summary["status"] == answer.returncode == 0
    assert len(summary["findings"]) == 3
    assert {row["framework"] for row in summary["studies"]["derivatives"]["derivatives"]} == {"jax", "torch"}


def test_one_framework_runs_alone(tmp_path, all_here):
    options = ("--studies", "optimizers", "derivatives", "--frameworks", "jax", "--optimizers", "sgd", *SMALL)
    answer = all_here(*options, "--out", tmp_path / "run")
    assert answer.returncode == 0
    assert "torch" not in {r.framework for r in record.read(tmp_path / "run")}
    assert "The values of jax agree with their references in" in answer.stdout


@pytest.mark.parametrize(("alone", "other"), [("jax", "torch"), ("torch", "jax")])
def test_the_main_job_of_one_framework_needs_no_other(alone, other):
    """What is asked for, and what the kept records of one say: that its cases run is shown by the smoke run of CI."""
    plan = replace(environment.plan_of(environment.read(KEPT)), frameworks=(alone,))
    cases = [case for name in plan.studies for group in STUDIES[name].groups(plan) for case in group.cases]
    assert plan.studies == MAIN_JOB
    assert {case.framework for case in cases} >= {alone}
    assert other not in {case.framework for case in cases}
    asked = set(cases)
    results = verdict.evaluate([r for r in record.read(KEPT) if r.case in asked], plan)
    drawn = verdict.sections(results, plan)
    assert verdict.status(results, drawn) == 0
    assert f"The values of {alone} agree with their references in" in verdict.opening(results, drawn, plan)[0].words


@pytest.mark.parametrize("content", ["[]", "null", '{"plan": 3}', "rubbish", '{"plan": {}}'])
def test_an_environment_that_is_none_is_one_line(content, small, tmp_path, capsys):
    (tmp_path / "records.jsonl").write_text((small[0] / "records.jsonl").read_text())
    (tmp_path / "environment.json").write_text(content)
    assert command_line.main(["--studies", "optimizers", "--resume", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_one_sample_gives_no_ratio_rather_than_nan(small):
    folder = small[0]
    plan = environment.plan_of(environment.read(folder))
    results = verdict.evaluate([replace(r, samples=r.samples[:1]) for r in record.read(folder)], plan)
    drawn = verdict.sections(results, plan)
    assert all(r.ok and len(r.samples) == 1 for r in results.records)
    assert not any("nan" in sentence.words for sentence in verdict.opening(results, drawn, plan))
    assert not any("nan" in words for section in drawn for words in verdict.conclusions(section))
    for table in (table for section in drawn for table in section.tables):
        assert "nan" not in " ".join(cell for row in table.rows for cell in row)
        assert " [" not in " ".join(cell for row in table.rows for cell in row)  # an interval


def test_two_runs_cannot_take_one_folder(tmp_path, all_here):
    """The second one begins and ends while the first loads its frameworks."""
    folder = tmp_path / "run"
    wanted = Config(studies=("derivatives",), frameworks=("jax",), repeats=1, out=folder)
    taken = []

    def progress(words, done, samples):
        if words == "loading the frameworks":
            assert command_line.run(wanted).status == 0
            taken.extend(lines(folder))

    with pytest.raises(ConfigError, match="already holds a run, begun a moment ago"):
        command_line.run(wanted, progress)
    assert lines(folder) == taken
    assert len(taken) == 1


def test_a_loss_that_is_not_finite_is_recorded_as_diverged_in_both(tmp_path, all_here):
    answer = all_here(
        "--studies", "optimizers", "--optimizers", "sgd", "--learning-rate", "1e38", *SMALL, "--out", tmp_path / "run"
    )
    assert answer.returncode == 0, answer.stdout
    steps = {r.value["diverged_at_step"] for r in record.read(tmp_path / "run")}
    assert len(steps) == 1
    assert steps.pop() > 0
    assert answer.stdout.count("diverged at step") == 2
    compared = {f.what for f in command_line.run(Config(report=(tmp_path / "run",))).findings}
    assert compared == {"losses of the first 10 steps", "step of divergence"}  # nothing else is finite


def test_chaotic_training_is_called_so_and_not_a_disagreement(tmp_path, all_here):
    answer = all_here(
        "--studies", "optimizers", "--optimizers", "adam", "--learning-rate", "0.01",
        "--epochs", 6, "--repeats", 1, "--profile", "smoke", "--out", tmp_path / "run",
    )  # fmt: skip
    assert answer.returncode == 0
    assert "Not comparable: optimizers/adam" in answer.stdout


def test_python_users_get_the_same(tmp_path, all_here):
    outcome = command_line.run(Config(studies=("derivatives",), frameworks=("jax",), repeats=1, out=tmp_path / "run"))
    assert outcome.status == 0
    assert outcome.folder == tmp_path / "run"


# What it outlives.


# In torch, whose first Hessian takes two seconds: what is sent then comes in the midst of a group.
IN_TORCH = ("--studies", "optimizers", "derivatives", "--frameworks", "torch", "--epochs", 1, "--repeats", 1)


def test_a_worker_that_is_killed_costs_its_case_alone(tmp_path, compare_here, monkeypatch):
    options, folder = (*IN_TORCH, "--optimizers", "sgd"), tmp_path / "run"
    ask, killed = WorkerProcess.ask, []

    def ask_one_that_dies(worker, command, *arguments):
        if command == "sample" and arguments[0].study == "derivatives" and not killed:
            killed.append(arguments[0])
            os.kill(worker.pid, signal.SIGKILL)
        return ask(worker, command, *arguments)

    monkeypatch.setattr(WorkerProcess, "ask", ask_one_that_dies)
    answer = compare_here(*options, "--out", folder)
    assert answer.returncode == 1
    before, *group = record.read(folder)
    assert before.ok
    failed, other = sorted(group, key=lambda r: r.ok)
    assert (failed.status, other.status) == ("failed", "ok")  # the other was measured in another process
    assert failed.case == killed[0]
    assert "SIGKILL" in failed.reason
    assert "1 FAILED" in answer.stdout
    again = compare_here(*options, "--resume", folder)
    assert again.returncode == 0, again.stderr
    assert len(lines(folder)) == 4  # the case that failed, and nothing twice


def test_a_stop_keeps_what_was_recorded_and_resume_finishes_the_rest(tmp_path, all_here):
    folder = tmp_path / "run"
    run = start(*IN_TORCH, "--optimizers", "sgd", "adam", "--out", folder)
    wait_for(lambda: len(lines(folder)) >= 2)
    children = workers(run)
    run.send_signal(signal.SIGINT)
    said, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Traceback" not in said + errors
    psutil.wait_procs(children, timeout=5)
    assert not any(child.is_running() for child in children)
    before, command = lines(folder), errors.strip().splitlines()[-1].split()
    assert len(before) < 4
    assert command[:3] == ["python", "-m", "jaxopt_study.compare"]
    again = all_here(*command[3:])
    assert again.returncode == 0, again.stderr
    after = lines(folder)
    assert after[: len(before)] == before
    assert len(after) == len(record.read(folder)) == 4


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_a_run_as_ctrl_c_does(tmp_path, sent, all_here, monkeypatch):
    append, folder = record.append, tmp_path / "run"

    def append_and_stop(*arguments):
        append(*arguments)
        if len(lines(folder)) == 2:
            os.kill(os.getpid(), sent)

    monkeypatch.setattr(record, "append", append_and_stop)
    answer = all_here("--studies", "timer", "--frameworks", "jax", "--out", folder)
    assert (answer.returncode, answer.stdout, len(lines(folder))) == (130, "", 2)
    assert answer.stderr.startswith("stopped; what was recorded is kept. Go on by:\n  python -m jaxopt_study.compare")
    assert f"--resume {folder}" in answer.stderr


def test_ctrl_c_before_the_first_record_writes_nothing_strange(tmp_path):
    run = start("--out", tmp_path / "run")
    wait_for(lambda: workers(run))
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert errors.strip() == "stopped before anything was recorded"


def test_where_no_terminal_is_progress_is_a_line_now_and_then(monkeypatch, capsys):
    with command_line.Bar() as progress:
        progress("loops: adam", 2, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(command_line.Bar, "EVERY", 0)
    with command_line.Bar() as progress:
        progress("loading the frameworks", 0, 0)
        progress("loops: adam", 2, 10)
    assert capsys.readouterr().err == "0 s: loading the frameworks\n0 s: loops: adam, 2 of 10 samples\n"


def test_where_a_terminal_is_a_finished_study_leaves_a_line(monkeypatch):
    with StringIO() as written:
        console = Console(file=written, force_terminal=True, width=80)
        monkeypatch.setattr(progress_bar, "terminal_console", lambda stderr: console)
        with command_line.Bar() as progress:
            progress("loading the data", 0, 0)
            progress("loops ladder: adam", 2, 10)
            progress("loops growth: 64-10 x 1", 2, 10)
            progress("hessian workload: digits-linear", 6, 10)
        lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", written.getvalue()).splitlines()]
    assert [line for line in lines if "measured in" in line] == ["loops: measured in 0 s"]


# One application for all commands.


def test_one_command_names_all_the_others(capsys):
    assert entry_point.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"│ {name} " in said for name in ("compare", "dictionary", "parity", "port", "report"))
    assert entry_point.main(["--version"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["dictionary", "SGD", "lr=0.1"], 0, "optax.sgd(0.1)"),
        (["dictionary", "SGD", "lr=x"], 2, "error: "),
        (["compare", "--list"], 0, "digits-linear"),
        (["--list"], 0, "digits-linear"),
        (["compare", "hessian"], 2, "did you mean --studies hessian?"),
        (["parity", "no.npz", "nothing.npz"], 2, "error: "),
        (["report", "no-such-folder"], 2, "error: report no-such-folder holds no run"),
        (["report"], 2, "report needs the folder of a run, as in: report runs/"),
        (["report", "--studies", "a"], 2, "unknown option --studies; see --help"),
    ],
)
def test_each_command_gets_its_own_words(arguments, status, words, capsys):
    assert entry_point.main(arguments) == status
    said = capsys.readouterr()
    assert words in (said.err if status else said.out)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compare", "--learning-rate"),
        ("dictionary", "OPTION=VALUE"),
        ("parity", "--tolerance"),
        ("port", "--like"),
        ("report", "several runs"),
    ],
)
def test_each_command_has_its_own_help(name, words, capsys):
    with suppress(SystemExit):  # argparse ends so
        assert entry_point.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert words in said
    assert ("--learning-rate" in said) == (name == "compare")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dictionery"], "'dictionery' is no command: choose from compare, dictionary, parity, port, report"),
        (["report", "--json"], "report needs the folder of a run, as in"),
        (["hessian"], "did you mean --studies hessian?"),
    ],
)
def test_a_word_that_is_no_command_is_answered_with_the_commands(arguments, words, capsys):
    assert entry_point.main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("name", [[], ["compare"], ["dictionary"], ["parity"], ["port"], ["report"]])
def test_help_that_cannot_be_written_is_an_error(name, unbuffered, monkeypatch, capsys):
    """argparse says nothing of it, where standard output is not buffered."""
    full = open("/dev/full", "wb", buffering=0 if unbuffered else -1)  # noqa: SIM115
    with io.TextIOWrapper(full, write_through=unbuffered) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert entry_point.main([*name, "--help"]) == 1
        monkeypatch.undo()
        assert "No space left on device" in capsys.readouterr().err
        with suppress(OSError):
            stdout.flush()
