"""The page of results holds what the kept records say, and nothing else."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_what_the_kept_records_say():
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {path.name for path in module.KEPT.iterdir()} == set(module.RUNS)
    assert module.page() == module.PAGE.read_text()
