"""What goes wrong around a run: folders, disks, terminals, signals, switches, and a study's own mistakes."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO, TextIOWrapper

import numpy as np
import psutil
import pytest

from jaxopt_study import compare as command_line
from jaxopt_study import folders, session, studies
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.task import Skipped
from jaxopt_study.bench.worker import Worker
from jaxopt_study.config import Config, ConfigError, check
from jaxopt_study.data.workloads import WORKLOADS, digits_linear
from jaxopt_study.report import charts
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.page import environment_table
from jaxopt_study.report.table import Table
from jaxopt_study.studies.derivatives import Derivatives
from tests.conftest import load_backend, make_plan
from tests.here import workers_here
from tests.processes import lines, start, wait_for, workers

LONG = ("--studies", "optimizers", "--optimizers", "sgd", "adam", "--epochs", "200", "--repeats", "1")
TINY = ("--studies", "derivatives", "--frameworks", "jax", "--repeats", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a run of the fewest cases."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    with workers_here("jax"):
        assert command_line.main([*TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def here():
    with workers_here("jax"):
        yield


# The folder.


def test_out_names_a_new_or_an_empty_folder(tmp_path, capsys):
    (tmp_path / "report.md").write_text("mine")
    assert command_line.main([*TINY, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --out {tmp_path} already holds report.md: name a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "mine"


def test_of_two_that_resume_one_folder_the_second_is_refused(here, tiny, tmp_path):
    """The second one comes while the first loads its frameworks."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny / "environment.json", folder)
    (folder / "records.jsonl").touch()
    wanted = Config(studies=("derivatives",), frameworks=("jax",), repeats=1, resume=folder)
    refused = []

    def progress(words, done, samples):
        if words == "loading the frameworks":
            with pytest.raises(ConfigError, match=f"--resume {folder}: another process is writing there now"):
                command_line.run(wanted)
            refused.append(words)

    assert command_line.run(wanted, progress).status == 0
    assert len(refused) == len(lines(folder)) == 1


def test_a_run_that_was_killed_holds_its_folder_no_longer(tiny, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny / "environment.json", folder)
    (folder / "records.jsonl").touch()
    run = start(*TINY, "--resume", folder)
    wait_for(lambda: workers(run))
    with pytest.raises(BlockingIOError):
        record.claim(folder)
    run.kill()
    run.communicate(timeout=10)
    record.claim(folder).close()


# The disk.


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", ["fsync", "rename"])
def test_an_environment_is_written_whole_or_not_at_all(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(os, fails, full)
    for folder in (tmp_path / "new" / "run", tmp_path):
        with pytest.raises(ConfigError, match=f"--out {folder} cannot be written: No space left on device"):
            folders.make(folder, {"plan": {}})
        assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    folders.make(tmp_path / "new" / "run", {"plan": {}}).close()
    assert {path.name for path in (tmp_path / "new" / "run").iterdir()} == {"environment.json", "records.jsonl"}


@contextmanager
def files_of_at_most(size):
    """Let this process write no file of more bytes than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_after_a_full_disk_the_same_command_runs(here, tmp_path, capsys):
    """The environment cannot be written whole, and nothing of it stays."""
    folder = tmp_path / "new" / "run"
    with files_of_at_most(1024):
        status = command_line.main([*TINY, "--out", str(folder)])
    said = capsys.readouterr().err
    assert (status, said) == (2, f"error: --out {folder} cannot be written: File too large\n")
    assert not list(tmp_path.iterdir())
    assert command_line.main([*TINY, "--out", str(folder)]) == 0


def test_a_disk_that_is_full_later_is_one_line_and_keeps_what_was_recorded(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "append", full)
    folder = tmp_path / "run"
    assert command_line.main([*TINY, "--out", str(folder)]) == 1
    said, how = capsys.readouterr().err.splitlines()
    assert said == f"{folder}: No space left on device; what was recorded is kept. Go on by:"
    monkeypatch.undo()
    assert command_line.main(how.split()[3:]) == 0


# The terminal.

RECORDED = {
    "TORCHDYNAMO_DISABLE": "1",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=false",
    "OPENBLAS_CORETYPE": "Haswell",
    "PYTHONHASHSEED": "3",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "7",
}
NOT_RECORDED = {
    "JAX_COMPILATION_CACHE_DIR": "/nonexistent/cache",
    "TORCHINDUCTOR_CACHE_DIR": "/nonexistent/cache",
    "PYTHONUNBUFFERED": "1",
    "NVIDIA_API_KEY": "a secret",
    "TF_VAR_password": "another",
}
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line, **variables):
    """Run a line of the shell in which $COMPARE is the command line; return its process."""
    ours = {"COMPARE": f"{sys.executable} -m jaxopt_study.compare", "PYTHONUNBUFFERED": ""}
    environment = os.environ | ours | variables
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def in_ascii(tmp_path_factory):
    """A run in a process whose terminal has one column of ASCII, with variables set: it, its folder, its worker's."""
    folder = tmp_path_factory.mktemp("ascii") / "run"
    load_backend("jax")  # it sets variables of the environment, which a run records
    run = start(*TINY, "--out", folder, env=ASCII | {"COLUMNS": "1"} | RECORDED | NOT_RECORDED)
    wait_for(lambda: (folder / "environment.json").exists())
    (worker,) = workers(run)
    given = worker.environ()
    said, errors = run.communicate(timeout=120)
    return subprocess.CompletedProcess(run.args, run.returncode, said, errors), folder, given


def test_what_ascii_lacks_is_written_in_ascii(in_ascii):
    """Also in a terminal that says it has one column: tables are not folded into it."""
    run = in_ascii[0]
    assert (run.returncode, "Traceback" in run.stdout + run.stderr) == (0, False)
    assert (run.stdout + run.stderr).isascii()
    assert "Derivatives of f(a, b) = a^2 b" in run.stdout
    assert " us" in run.stdout
    assert "jax forward_over_reverse " in run.stdout
    assert len(run.stdout.splitlines()) < 100


def test_json_is_ascii(here, tiny, monkeypatch):
    with TextIOWrapper(BytesIO(), encoding="ascii") as ascii_alone:
        monkeypatch.setattr(sys, "stdout", ascii_alone)
        assert command_line.main([*TINY, "--resume", str(tiny), "--json"]) == 0
        assert json.loads(ascii_alone.buffer.getvalue())["status"] == 0


def test_a_path_of_any_bytes_is_written_as_it_is(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "mine").touch()
    run = start(*TINY, "--out", folder, text=False)
    assert run.communicate(timeout=30)[1] == b"error: --out %b already holds mine: name a new or an empty folder\n" % (
        bytes(folder)
    )


def nobody():
    """Return a stream whose reader has gone, as `| true` does."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def status_of(*arguments):
    """Return the exit status; rich raises it where a pipe is broken."""
    try:
        return command_line.main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("option", ["--help", "--list", "--version"])
def test_a_line_of_output_always_ends_quietly(option, monkeypatch, capsys):
    """As Python ends it closes its streams: what they still hold would be an error here as well."""
    outputs = {
        "ascii": (TextIOWrapper(BytesIO(), encoding="ascii"), 0, ""),
        "full": (os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"), 1, "error: No space left on device\n"),
        "a pipe": (nobody(), 1, ""),
    }
    for stream, status, words in outputs.values():
        with stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert status_of(option) == status
            assert capsys.readouterr().err == words
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)  # as it is where the shell closed both
        patch.setattr(sys, "stderr", None)
        assert command_line.main([option]) == 0


def test_a_process_with_a_line_of_output_always_ends_quietly():
    answer = shell("$COMPARE --list > /dev/full")
    assert (answer.returncode, answer.stderr) == (1, "error: No space left on device\n")
    assert shell("set -o pipefail; $COMPARE --list | true").stderr == ""
    assert shell("$COMPARE --help >&- 2>&-").returncode == 0
    assert "Traceback" not in shell("$COMPARE --epochs 0 2> /dev/full").stdout


def test_output_that_nobody_reads_any_more_ends_a_run_quietly(here, tiny, monkeypatch):
    with nobody() as output, nobody() as errors:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", errors)
        assert status_of(*TINY, "--resume", tiny) == 1


EACH_WIDTH = """
import os
from jaxopt_study.compare import main
for columns in ("60", "0", "1", "2", "20"):
    os.environ["COLUMNS"] = columns
    assert main(["--help"]) == 0
    print("end of help")
"""


def test_a_terminal_without_width_is_written_as_60_columns():
    """In a process, since cyclopts could take for ever."""
    said = subprocess.run([sys.executable, "-c", EACH_WIDTH], capture_output=True, text=True, check=True, timeout=60)
    helps = said.stdout.split("end of help\n")
    assert helps == [helps[0]] * 5 + [""]
    assert "--learning-rate" in helps[0]


# Signals.

# Loaded by Python before anything else: a signal comes when a module is imported for the first time.
STOP_AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["STOP_AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOADED_FIRST = ("json", "cyclopts", "rich.progress", "numpy", "jaxopt_study.studies")


# Before `main` runs, one handler takes all signals: each module is stopped by one of them. Another does after.
@pytest.mark.parametrize(
    ("module", "sent"), [*zip(LOADED_FIRST, SIGNALS * 2, strict=False), *(("sklearn", number) for number in SIGNALS)]
)
@pytest.mark.parametrize("command", ["jaxopt_study.compare", "jaxopt_study"])
def test_a_stop_while_python_loads_is_one_line(tmp_path, command, module, sent):
    (tmp_path / "sitecustomize.py").write_text(STOP_AT_IMPORT)
    variables = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}", "STOP_AT": module, "SIGNAL": str(int(sent))}
    answer = subprocess.run(
        [sys.executable, "-m", command, *TINY, "--out", str(tmp_path / "run")],
        capture_output=True, text=True, env=os.environ | variables, check=False, timeout=60,
    )  # fmt: skip
    said = "stopped before anything was recorded" if module == "sklearn" else "stopped"
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", said + "\n")
    assert not (tmp_path / "run").exists()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def as_cython_in_a_part_of_an_import():
    with suppress(KeyboardInterrupt):
        interrupt()


def as_python_while_it_deletes_an_object():
    class Deleted:
        def __del__(self):
            interrupt()

    Deleted()


@pytest.mark.parametrize("dropped", [as_cython_in_a_part_of_an_import, as_python_while_it_deletes_an_object])
def test_a_stop_that_is_dropped_comes_with_the_next_progress(here, tmp_path, monkeypatch, capsys, dropped):
    reached = []

    def loaded(*arguments):
        dropped()
        reached.append(arguments)
        return digits_linear(*arguments)

    monkeypatch.setitem(WORKLOADS, "digits-linear", loaded)
    assert command_line.main([*TINY, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "stopped before anything was recorded\n")
    assert len(reached) == 1  # it was dropped
    assert not (tmp_path / "run").exists()


def gone(processes, seconds):
    """Say whether processes end in this time; one whose parent has not asked for its status is a zombie."""

    def ended(process):
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_for(lambda: all(map(ended, processes)), seconds)
    return True


def measuring(process):
    """Wait until a process has been busy for a moment."""
    idle = process.cpu_times().user
    wait_for(lambda: process.cpu_times().user > idle + 0.1)


def test_a_run_and_its_workers_end_with_the_terminal(tmp_path):
    """As a window that is closed: nothing can be written any more."""
    master, slave = os.openpty()
    run = start(
        *LONG, "--frameworks", "jax", "--out", tmp_path / "run",
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        before="import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)",
    )  # fmt: skip
    os.close(slave)
    wait_for(lambda: (tmp_path / "run" / "records.jsonl").exists())
    (worker,) = workers(run)
    os.close(master)
    assert run.wait(timeout=5) == 130
    assert gone([worker], 1)


@pytest.mark.parametrize("seconds", [0, 0.5, 1])
def test_workers_that_are_loading_end_when_their_parent_is_killed(tmp_path, seconds):
    run = start(*LONG, "--out", tmp_path / "run")
    wait_for(lambda: len(workers(run)) == 2)
    children = workers(run)
    time.sleep(seconds)
    run.kill()
    assert gone(children, 1)
    run.communicate()


LONG_LAPS = """
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.process import WorkerProcess
from jaxopt_study.data.workloads import digits_linear
from tests.conftest import make_plan

itself, server = (WorkerProcess("jax", make_plan()) for _ in range(2))
itself.loaded(), server.loaded()
itself.configure()
server.ask("preload")
server.fork()
case = Case("optimizers", "optimizers", "adam", "jax", "native_scan")
for worker in (itself, server):
    worker.ask("prepare", case, digits_linear(0, 10_000))
    worker.send("first", case)
print("lap", flush=True)
itself.receive()
"""


def test_workers_in_a_long_lap_end_when_their_parent_is_killed():
    """One worker itself, and one that was forked."""
    parent = subprocess.Popen([sys.executable, "-c", LONG_LAPS], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"lap\n"
    processes = psutil.Process(parent.pid).children(recursive=True)
    assert len(processes) == 3
    (forked,) = [process for process in processes if process.ppid() != parent.pid]
    (itself,) = [process for process in processes if process not in (forked, forked.parent())]
    for process in (itself, forked):
        measuring(process)
    parent.kill()
    parent.communicate()
    assert gone(processes, 1)


# Variables of the environment that change what is measured.


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("JAX_DISABLE_JIT", "1", "every compiled loop would be timed uncompiled"),
        ("JAX_DISABLE_MOST_OPTIMIZATIONS", "true", "without XLA's optimizations"),
        ("JAX_DEBUG_NANS", "ON", "every result"),
        ("JAX_DEBUG_INFS", "y", "every result"),
        ("JAX_CHECK_TRACER_LEAKS", "yes", "trace"),
        ("JAX_ENABLE_CHECKS", "t", "checks"),
    ],
)
def test_what_makes_the_times_of_jax_meaningless_is_refused(name, value, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    assert command_line.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {name}={value} is set: ")
    assert said.endswith("; unset it\n")
    assert words in said
    assert check(Config(frameworks=("torch",), studies=("optimizers",)))
    monkeypatch.setenv(name, "0")
    assert check(Config())


def test_what_the_workers_were_given_is_recorded_and_shown(in_ascii, capsys):
    _, folder, given = in_ascii
    recorded = environment.read(folder)["variables"]
    assert (RECORDED | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}).items() <= recorded.items()
    assert recorded.items() <= given.items()
    assert not NOT_RECORDED.keys() & recorded.keys()
    assert "JAX_COMPILATION_CACHE_DIR" not in given
    shown = dict(environment_table(environment.read(folder)).rows)["environment variables"]
    assert "TORCHDYNAMO_DISABLE=1, XLA_FLAGS=--xla_cpu_enable_fast_math=false" in shown
    with workers_here("jax"):
        assert command_line.main([*TINY, "--resume", str(folder)]) == 2
    assert "run in another environment: variables." in capsys.readouterr().err


UNCOMPILED = """
import os, torch
from torch_reference import calibration, derivatives, runtime

def refusals():
    for make in (lambda: runtime.compiled(abs, backend="eager"), lambda: derivatives.hessian_compiled(sum),
                 lambda: calibration.recompiling()):
        try:
            print(make())
        except NotImplementedError as error:
            print(error)

refusals()
del os.environ["TORCHDYNAMO_DISABLE"]  # read at each call; the others as torch._dynamo is loaded
refusals()
torch._dynamo.config.disable = False
refusals()
torch._dynamo.config.suppress_errors = False
print(runtime.compiled(abs, backend="eager"))
"""


def test_what_would_not_be_compiled_is_not_made():
    """Three variables, of which the first that is on is named, until none is: each is seen without those before."""
    names = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_SUPPRESS_ERRORS")
    answer = subprocess.run(
        [sys.executable, "-c", UNCOMPILED],
        capture_output=True, text=True, env=os.environ | dict.fromkeys(names, "1"), check=True,
    )  # fmt: skip
    *refused, made = answer.stdout.splitlines()
    expected = [f"torch.compile would leave functions uncompiled: {name} is set" for name in names for _ in range(3)]
    assert refused == expected
    assert made.startswith("<function ")


def test_what_a_backend_has_not_is_skipped(monkeypatch):
    class Lacking:
        def task(self, *_):
            raise NotImplementedError("there is no compiler")

    worker = Worker(None)
    worker.load("numpy")
    worker.configure(make_plan(), tuple(environment.cores_at_hand()))
    monkeypatch.setattr(studies, "experiment", lambda case: Lacking())
    with pytest.raises(Skipped, match="there is no compiler"):
        worker.prepare(Case("a", "b", "c", "numpy", "d"), None)


# A study's own mistakes.


def mistaken(*_):
    return 1 / 0


def returns(value):
    return lambda *_: value


@pytest.mark.parametrize(
    ("method", "mistake"),
    [
        *((name, mistaken) for name in ("findings", "rows", "tables", "figures", "verdict")),
        ("rows", returns([{"seconds": np.float32(1)}])),
        ("tables", returns([Table("of numbers", ("one", "two"), [("1", 2)])])),
        ("figures", returns([Figure("wrong", "Wrong", "Its drawing fails.", mistaken)])),
        (
            "figures",
            returns([Figure("wrong", "Wrong", "Its rows have no value.", partial(charts.points, [{}], Axis("x")))]),
        ),
    ],
)
def test_a_mistake_in_the_report_costs_its_section(tiny, tmp_path, monkeypatch, method, mistake):
    folder = tmp_path / "run"
    shutil.copytree(tiny, folder)
    monkeypatch.setattr(Derivatives, method, mistake)
    outcome = session.report(environment.plan_of(environment.read(folder)), folder)
    assert outcome.status == 1
    assert "FAILED" in outcome.verdict or "the comparison itself failed" in outcome.verdict
    if mistake is mistaken:
        assert "ZeroDivisionError: division by zero (test_faults.py:" in outcome.verdict
    assert "The whole run" in {table.title for table in outcome.tables}
    json.dumps(outcome.summary, allow_nan=False)


@pytest.mark.parametrize(
    ("method", "mistake", "words"),
    [
        ("summarize", mistaken, "its value cannot be summarized: ZeroDivisionError: division by zero (test_faults.py:"),
        ("summarize", returns({"x": np.float32(1)}), "its value cannot be summarized: TypeError: float32"),
        ("skip", mistaken, "its study cannot say whether to skip it: ZeroDivisionError: division by zero (test_faults"),
    ],
)
def test_a_mistake_with_a_case_costs_the_case(here, tmp_path, monkeypatch, method, mistake, words):
    monkeypatch.setattr(Derivatives, method, mistake)
    folder = tmp_path / "run"
    assert command_line.main([*TINY, "--out", str(folder)]) == 1
    (failed,) = record.read(folder)
    assert failed.status == "failed"
    assert failed.reason.startswith(words)
    monkeypatch.undo()
    assert command_line.main([*TINY, "--resume", str(folder)]) == 0


@pytest.mark.parametrize("arguments", [TINY, []])
def test_a_study_that_cannot_say_what_to_run_is_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Derivatives, "groups", mistaken)
    assert command_line.main([*arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the study derivatives cannot say what to run: ZeroDivisionError: division by zero (")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
