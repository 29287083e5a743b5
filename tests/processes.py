"""Runs of the command line that a test stops, kills or watches."""

import os
import subprocess
import sys
import time

import psutil
import pytest

THEN_RUN = "; import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def start(*arguments, before="", **options):
    """Start the command line; `before` is Python code that its process runs first.

    As in a terminal, signals reach it: `conftest` sees to that. There is no `preexec_fn`, which would fork a process
    that may have JAX's threads.
    """
    prepare = ["-c", before + THEN_RUN] if before else []
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {}} | options
    return subprocess.Popen(
        [sys.executable, *prepare, "-m", "jaxopt_study.compare", *map(str, arguments)],
        **settings | {"env": os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": ""} | settings["env"]},
    )


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("what was waited for did not come")


def workers(run):
    return [child for child in psutil.Process(run.pid).children() if "jaxopt_study.bench.worker" in child.cmdline()]


def lines(folder):
    path = folder / "records.jsonl"
    return path.read_text().splitlines() if path.exists() else []
