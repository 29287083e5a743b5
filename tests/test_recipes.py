"""CONTRIBUTING's recipes, walked: its blocks are added to a copy of the tree, in which every study runs in smoke."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxopt_study.bench import record
from jaxopt_study.studies import STUDIES

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The records of a tree in which every recipe was followed: an optimizer, a workload, a study and so on."""
    root = tmp_path_factory.mktemp("recipes")
    for package in ("jaxopt_study", "torch_reference"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert len(blocks) >= 8
    for path, code in blocks:
        with (root / path).open("a") as file:
            file.write("\n\n" + code)
    options = ["--profile", "smoke", "--workload", "iris", "--optimizers", "nesterov", "--out", "run", "--json"]
    options += ["--repeats", "1"]  # ratios, which need more, are those of CI's smoke run and of the kept runs
    # Compiled without most optimizations: nothing here runs for as long as it takes to compile.
    quickly = "--xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0"
    answer = subprocess.run(
        [sys.executable, "-m", "jaxopt_study.compare", "--studies", *STUDIES, "noise", *options],
        capture_output=True, text=True, check=False, cwd=root,
        # Nor is torch.compile worth its seconds here: what it makes is skipped, with this reason.
        env=os.environ
        | {"PYTHONPATH": str(root), "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {quickly}"}
        | {"TORCHDYNAMO_DISABLE": "1"},
    )  # fmt: skip
    assert "Traceback" not in answer.stderr
    assert answer.returncode in (0, 1), answer.stderr
    wrong = [finding for finding in json.loads(answer.stdout)["findings"] if finding["agrees"] is False]
    # A timer that calls a trial wrongly is another matter than an added row; everything else must agree.
    assert not [finding for finding in wrong if finding["cases"][0]["study"] != "timer"]
    return record.read(root / "run")


def test_every_case_is_ok_or_skipped_with_a_reason(records):
    assert {r.study for r in records} == {*STUDIES, "noise"}
    assert [(r.case.key, r.reason) for r in records if r.status not in ("ok", "skipped")] == []
    assert all(r.reason for r in records if r.status == "skipped")


def test_a_new_optimizer_is_trained_and_what_it_lacks_is_skipped(records):
    mine = [r for r in records if r.subject == "nesterov"]
    trained = {(r.study, r.framework) for r in mine if r.ok}
    assert {("optimizers", "jax"), ("optimizers", "torch"), ("spread", "jax")} <= trained
    loops = {r.method: r.reason for r in mine if (r.study, r.experiment) == ("loops", "ladder")}
    assert "this optimizer has no functional form" in {loops["functional"], loops["compiled"]}
    assert not any(loops[name] for name in ("scan", "native_scan", "prepared", "foreach"))
    assert "TORCHDYNAMO_DISABLE is set" in loops["compiled_parts"]


def test_a_new_workload_is_run_by_every_study_that_can(records):
    for study, methods in (("hessian", "hessian_blocked"), ("newton", "Newton")):
        assert any(r.ok and r.subject == "iris" and r.method == methods for r in records if r.study == study)


def test_a_new_study_derivative_method_and_minimizer_are_run(records):
    assert {r.framework for r in records if r.study == "noise" and r.ok} == {"jax", "torch"}
    for method in ("hessian_by_columns", "steepest descent"):
        assert {r.framework for r in records if r.method == method and r.ok} == {"jax", "torch"}
