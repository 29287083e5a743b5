"""What goes wrong around a run: folders, disks, terminals, signals, switches, and a study's own mistakes."""

import shutil

import pytest

from jaxopt_study import compare as command_line
from jaxopt_study.bench import record
from tests.processes import lines, start, wait_for, workers

TINY = ("--studies", "derivatives", "--frameworks", "jax", "--repeats", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a run of the fewest cases."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    assert command_line.main([*TINY, "--out", str(folder)]) == 0
    return folder


# The folder.


def test_out_names_a_new_or_an_empty_folder(tmp_path, capsys):
    (tmp_path / "report.md").write_text("mine")
    assert command_line.main([*TINY, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --out {tmp_path} already holds report.md: name a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "mine"


def test_of_two_that_resume_one_folder_the_second_is_refused(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny / "environment.json", folder)
    (folder / "records.jsonl").touch()
    both = [start(*TINY, "--resume", folder) for _ in range(2)]
    said = {run.communicate(timeout=120)[1]: run.returncode for run in both}
    assert sorted(said.values()) == [0, 2]
    assert f"error: --resume {folder}: another process is writing there now\n" in said
    assert len(lines(folder)) == 1


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
