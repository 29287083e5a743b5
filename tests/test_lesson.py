"""The lesson: it runs as it is stored, with PyTorch alone up to the sections on JAX, and so do its solutions."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

LESSON = Path(__file__).parents[1] / "docs" / "lesson.ipynb"
BLOCK = """import sys

class NoJax:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoJax())"""
UNBLOCK = "del sys.meta_path[0]"
FINDS_JAX = "class Stop(Exception)"


@pytest.fixture(scope="module")
def lesson():
    return nbformat.read(LESSON, as_version=4)


def code(lesson):
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def prose(lesson):
    return [cell.source for cell in lesson.cells if cell.cell_type == "markdown"]


def solutions(source):
    return re.findall(r"<details>\n<summary>Solution</summary>\n\n```python\n(.*?)```", source, re.DOTALL)


def with_solutions(lesson):
    """The cells as a class runs them: without JAX at first, each solution after its exercise."""
    cell, cells = nbformat.v4.new_code_cell, [nbformat.v4.new_code_cell(BLOCK)]
    for each in lesson.cells:
        if each.source.startswith(FINDS_JAX):
            cells += [cell(each.source, metadata={"tags": ["raises-exception"]}), cell(UNBLOCK)]
        cells += [each, *map(cell, solutions(each.source) if each.cell_type == "markdown" else [])]
    return nbformat.v4.new_notebook(cells=cells, metadata=lesson.metadata)


def test_the_lesson_is_stored_without_outputs(lesson):
    assert lesson.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in code(lesson) if cell.outputs or cell.execution_count is not None] == []


def test_each_exercise_has_a_solution(lesson):
    exercises = [source for source in prose(lesson) if re.search(r"^### Exercise \d+$", source, re.MULTILINE)]
    assert len(exercises) == 7
    assert [source for source in exercises if len(solutions(source)) != 1] == []


def test_no_number_is_typed_in_prose(lesson):
    """But for those of exercises and parts, in code, in formulas and of links."""
    left_out = re.compile(
        r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|(?:Exercise|Parts?) \d+(?: (?:to|and) \d+)?|^\d+\. ",
        re.DOTALL | re.MULTILINE,
    )
    assert [found for source in prose(lesson) for found in re.findall(r".*\d.*", left_out.sub("", source))] == []


def test_the_lesson_runs(lesson, monkeypatch):
    monkeypatch.setenv("LESSON_EPOCHS", "1")
    notebook = with_solutions(lesson)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(LESSON.parent)}}).execute()
    outputs = [(cell, output) for cell in code(notebook) for output in cell.outputs]
    errors = [(cell, output) for cell, output in outputs if output.output_type == "error"]
    ((stopped, error),) = errors
    assert (error.ename, error.traceback) == ("Stop", [])
    assert "JAX is missing here" in stopped.outputs[0].data["text/markdown"]
    assert [output.text for _, output in outputs if output.get("name") == "stderr"] == []
    said = " ".join(output.data.get("text/markdown", "") for _, output in outputs if "data" in output)
    assert "All losses agree: True" in said
    assert "3 of 3 comparisons of values agree" in said
