"""Records, the environment, and what is found in them."""

import dataclasses
import json
import math
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study.bench import environment, record
from tests.cases import a_record

# Not st.floats: it refuses to work where subnormal numbers are flushed, as the torch backend does in its process.
numbers = st.one_of(st.just(math.nan), st.integers().map(lambda n: n / 7))


@given(
    samples=st.lists(st.integers(1, 10**9).map(lambda n: n / 1e8), max_size=5).map(tuple),
    losses=st.lists(numbers, max_size=5),
    reason=st.text(max_size=20),
)
@settings(deadline=None, max_examples=50)
def test_records_come_back_as_they_were(tmp_path_factory, samples, losses, reason):
    folder = tmp_path_factory.mktemp("records")
    before = a_record(samples=samples, value={"losses": losses}, reason=reason)
    record.append(folder, [before])
    (after,) = record.read(folder)
    assert after.samples == samples
    assert after.reason == reason
    assert np.array_equal(after.value["losses"], losses, equal_nan=True)


def test_records_are_strict_json_that_pandas_reads(tmp_path):
    record.append(
        tmp_path, [a_record(samples=(1.0, 2.0), value={"losses": [math.inf, math.nan]}), a_record(subject="sgd")]
    )
    lines = (tmp_path / record.RECORDS).read_text().splitlines()
    assert "NaN" not in lines[0]
    assert json.loads(lines[0])["value"]["losses"] == [None, None]
    frame = pd.read_json(tmp_path / record.RECORDS, lines=True)
    assert list(frame["subject"]) == ["adam", "sgd"]


def test_the_last_record_of_a_case_counts(tmp_path):
    record.append(tmp_path, [a_record(status="failed", reason="killed"), a_record(subject="sgd")])
    record.append(tmp_path, [a_record(status="ok")])
    assert [(r.subject, r.status) for r in record.read(tmp_path)] == [("adam", "ok"), ("sgd", "ok")]


def test_a_line_that_was_cut_off_is_passed_over_and_can_be_dropped(tmp_path):
    record.append(tmp_path, [a_record()])
    path = tmp_path / record.RECORDS
    whole = path.read_text()
    path.write_text(whole + whole[:50])
    assert len(record.read(tmp_path)) == 1
    record.drop_cut_line(tmp_path)
    assert path.read_text() == whole


@pytest.mark.parametrize("line", ["rubbish", "[]", "7", '{"schema": 99}', '{"schema": 1, "unknown": 2}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / record.RECORDS).write_text(line + "\n")
    with pytest.raises(ValueError, match=r"records.jsonl:1 is not a record"):
        record.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": [1.0, None]}, "Expected `float`, got `null`"),
        ({"samples": ["1"]}, "Expected `float`, got `str`"),
        ({"samples": [0.0]}, "samples are not all positive"),
        ({"samples": "12"}, "Expected `array`, got `str`"),
        ({"machine_seconds": [-1.0]}, "machine_seconds are not all positive"),
        ({"value": []}, "Expected `object`, got `array`"),
        ({"status": None}, "Expected `str`, got `null`"),
        ({"steps": 0}, "laps and steps are not all at least 1"),
        ({"steps": 1.5}, "Expected `int`"),
        ({"mine": 1}, "its field 'mine' is unknown"),
        ({"schema": 6}, "it is not of schema 4 or 5"),
        ({"stages": {"compile": "long"}}, "Expected `float`, got `str`"),
    ],
)
def test_a_field_of_another_type_is_named_in_one_line(tmp_path, change, words):
    good = record.plain(a_record(samples=(1.0, 2.0)))
    (tmp_path / record.RECORDS).write_text(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    with pytest.raises(ValueError, match=r"records.jsonl:2 is not a record") as error:
        record.read(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    found, wrong = record.readable(tmp_path)
    assert (len(found), len(wrong)) == (1, 1)


def test_deep_nesting_is_named(tmp_path):
    (tmp_path / record.RECORDS).write_text("[" * 10**5 + "]" * 10**5 + "\n")
    with pytest.raises(ValueError, match="is not a record"):
        record.read(tmp_path)


def test_a_digest_sees_every_bit():
    value = {"x": np.array([1.0, 2.0])}
    assert record.digest(value) == record.digest({"x": np.array([1.0, 2.0])})
    assert record.digest(value) != record.digest({"x": np.nextafter([1.0, 2.0], 3)})
    assert record.digest(value) != record.digest({"x": np.array([1.0, 2.0], dtype=np.float32)})


def test_times_are_given_by_the_step():
    times = a_record(samples=(6.0, 12.0), sample_laps=3, steps=2, laps=5)
    assert list(times.step_seconds) == [1.0, 2.0]
    assert times.run_steps == 10


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 avx512f\n\nmodel name\t: AMD EPYC\n", "AMD EPYC, AVX-512"),
        ("model name\t: AMD EPYC 7763\nflags\t\t: fpu avx avx2\n", "AMD EPYC 7763, AVX2"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", platform.processor() or platform.machine()),
    ],
)
def test_a_processor_is_named_with_its_vectors(cpuinfo, words, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path, **options: cpuinfo)
    assert environment._cpu() == words


def test_environments_differ_but_for_the_moment():
    old = {"key": "a", "started": "now", "versions": {"jax": "1", "torch": "2"}}
    new = {"key": "b", "started": "then", "versions": {"jax": "1", "torch": "3"}}
    assert environment.differences(old, new) == ["versions.torch was '2', is '3'"]


def test_a_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_record().status = "ok"


def test_a_slower_machine_is_seen_beside_its_best():
    """Though most of the run was slow."""
    seconds = {"steady": (1.0, 1.02, 0.98), "slow": (1.9, 1.0, 1.8), "slower": (2.0, 2.1, 1.9), "not asked": ()}
    records = [a_record(method=name, machine_seconds=mine) for name, mine in seconds.items()]
    assert {case.method for case in record.slowed_cases(records)} == {"slow", "slower"}
    assert record.slowed_cases([records[-1]]) == set()


def test_a_steady_machine_is_not_called_slow():
    """A ladder measured at 13 % above the tenth percentile: the most seen in three quiet runs."""
    seconds = {"best": (1.0,) * 9, "drifted": (1.14, 1.13, 1.15), "slow": (1.16, 1.17, 1.16)}
    records = [a_record(method=name, machine_seconds=mine) for name, mine in seconds.items()]
    assert {case.method for case in record.slowed_cases(records)} == {"slow"}
