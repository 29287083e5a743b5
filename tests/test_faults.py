"""What goes wrong around a run: folders, disks, terminals, signals, switches, and a study's own mistakes."""

import pytest

from jaxopt_study import compare as command_line

TINY = ("--studies", "derivatives", "--frameworks", "jax", "--repeats", "1")


# The folder.


def test_out_names_a_new_or_an_empty_folder(tmp_path, capsys):
    (tmp_path / "report.md").write_text("mine")
    assert command_line.main([*TINY, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --out {tmp_path} already holds report.md: name a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "mine"
