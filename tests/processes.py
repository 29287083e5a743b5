"""Runs of the command line that a test stops, kills or watches."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest


def start(*arguments, before=lambda: None, **options):
    """Start the command line; `before` is called in its process first.

    As in a terminal, Ctrl-C reaches it, which the background jobs of a shell ignore.
    """

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        before()

    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {}} | options
    return subprocess.Popen(
        [sys.executable, "-m", "jaxopt_study.compare", *map(str, arguments)],
        preexec_fn=prepare,
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
