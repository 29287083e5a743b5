"""A user's own data: what is read, what is refused and with which words, and what a run says of them."""

import json
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from jaxopt_study import compare
from jaxopt_study.config import Config, ConfigError, check, read_data
from jaxopt_study.data.given import MOST_CLASSES, arrays
from jaxopt_study.studies.experiment import all_skipped
from tests.here import workers_here

GOOD = "".join(f"{row},{row % 7}.5,{row % 2}\n" for row in range(30))


def refused(**options):
    with pytest.raises(ConfigError) as raised:
        check(Config(**options))
    words = str(raised.value)
    assert "\n" not in words
    return words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("a,b,y\n", "it has a header and no rows"),
        ("a;b;y\n1;2;3\n", "it has one column, 'a;b;y': columns are separated by commas"),
        ("a,b,y\n" + GOOD + "1,2,3,4\n", "its rows cannot be read: Expected 3 fields in line 32, saw 4"),
        ("a,b,y\n" + "1,2,3,4\n" * 20, "its rows have more fields than the header"),
        ("a,b,y\n" + GOOD + "1,2\n", "1 number is missing, NaN or infinite: in row 31, column 'y'"),
        ("a,b,y\n" + GOOD + "1,oak,0\n", "row 31, column 'b' holds 'oak', which is no number"),
        ("a,b,y\n1,,0\n2,inf,1\n" + GOOD, "2 numbers are missing, NaN or infinite: the first in row 1, column 'b'"),
        ("a,b,y\n" + "1,2,3\n" * 20, "all 20 targets in 'y' are 3: there is nothing to tell apart"),
        ("a,b,y\n" + GOOD + "1,2,5\n", "class 5 of 'y' has one row: each of the 3 classes must have two"),
        ("a,b,y\n1,2,0\n3,4,1\n", "2 rows of 2 numbers are too few: there must be 10 rows or more"),
        ("a,b,y\n" + "1,2,u\n1,2,\n" * 9, "of 18 targets 9 are missing: the first in row 2, column 'y'"),
        ("a,b,z\n" + GOOD, "--target y is no column: choose from a, b, z"),
        ("a,b,y\n" + GOOD + "1e300,2,0\n", "holds 1e+300, which is more than float32 can hold"),
        ("a,y,y\n" + GOOD, "2 columns are named 'y': the header must name each column differently"),
        ("a,a,y\n" + GOOD, "2 columns are named 'a': the header must name each column differently"),
        (",b,y\n" + GOOD, "column 1 is unnamed: write the table without its index, to_csv(index=False), or name the"),
        ("Unnamed: 0,b,y\n" + GOOD, "column 1 is unnamed: write the table without its index"),
        ("a,b,y\n" + GOOD.replace(".5", "-01-2020"), "row 1, column 'b' holds '0-01-2020', which is no number"),
    ],
)
def test_a_bad_table_is_refused_in_one_line_that_names_the_place(tmp_path, text, words):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    assert words in refused(data=path, target="y")


def test_files_that_are_none_are_refused(tmp_path):
    assert "there is no such file" in refused(data=tmp_path / "none.csv", target="y")
    (tmp_path / "folder.csv").mkdir()
    assert "it is not a file" in refused(data=tmp_path / "folder.csv", target="y")
    (tmp_path / "text.npz").write_text("text")
    assert "it is no .npz file of numbers" in refused(data=tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", A=np.zeros(3))
    assert "it holds A: it must hold X and y" in refused(data=tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", X=np.array([[1, "a"]], object), y=np.zeros(1))
    assert "it is no .npz file of numbers" in refused(data=tmp_path / "objects.npz")
    (tmp_path / "mine.csv").write_text("a,price,y\n" + GOOD)
    assert "--target is needed" in refused(data=tmp_path / "mine.csv")
    assert "did you mean 'price'?" in refused(data=tmp_path / "mine.csv", target="prize")
    assert "'.txt' is no format" in refused(data=tmp_path / "mine.txt", target="y")


def test_bad_options_are_refused():
    data = np.zeros((20, 12)) + np.arange(12), np.arange(20) % 2
    assert "3 x 5 are 15" in refused(data=data, model="cnn:3x5")
    assert "--batch-size 13 is more than the 12 rows for training" in refused(data=data, batch_size=13)
    assert "--batch-size 899 is more than the 898 rows for training" in refused(batch_size=899)
    assert "--standardize is for --data" in refused(standardize=True)
    assert "3 x 5 are 15" in refused(model="cnn:3x5")
    assert "cannot both be given" in refused(data=data, workload="wine")
    for model in ("tree", "mlp:", "mlp:8,x", "cnn:12", "cnn:3x0", "linear:3"):
        assert "is no model: write linear, mlp:64,32" in refused(data=data, model=model)
    assert "they must be (rows, features) and (rows,)" in refused(data=(data[0], data[1][1:]))
    assert "X holds something that is no number" in refused(data=([[1, "a"]] * 20, data[1]))
    assert "neither a path nor a pair" in refused(data=3)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("y", pd.array([True, False, None] * 6, "boolean"), "of 18 targets 6 are missing: the first in row 3, column"),
        ("y", pd.array([1, 2, None] * 6, "Int64"), "of 18 targets 6 are missing: the first in row 3, column 'y'"),
        ("a", pd.array([True, False, None] * 6, "boolean"), "6 numbers are missing, NaN or infinite: the first in row"),
        ("a", [Decimal("1.5"), None] * 9, "9 numbers are missing, NaN or infinite: the first in row 2, column 'a'"),
        ("a", pd.date_range("2020", periods=18), "row 1, column 'a' holds '2020-01-01 00:00:00', which is no number"),
        ("a", pd.date_range("2020", periods=18, tz="UTC"), "row 1, column 'a' holds '2020-01-01 00:00:00+00:00'"),
        ("a", pd.to_timedelta(np.arange(18), unit="h"), "row 1, column 'a' holds '0 days 00:00:00'"),
        ("a", pd.period_range("2020", periods=18, freq="M"), "row 1, column 'a' holds '2020-01', which is no number"),
    ],
)
def test_a_parquet_column_that_is_no_number_is_refused(tmp_path, column, values, words):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": np.arange(18), "b": np.arange(18) % 5, "y": np.arange(18) % 2})
    frame.assign(**{column: values}).to_parquet(tmp_path / "mine.parquet")
    assert words in refused(data=tmp_path / "mine.parquet", target="y")


def test_arrays_that_are_no_real_numbers_are_refused():
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    days, hours = x.astype("M8[D]"), x.astype("m8[h]")
    for bad in (days, hours, x + 1j, np.array(days.tolist(), object)):
        assert "X holds something that is no number: its type is " in refused(data=(bad, y))
    mixed = pd.DataFrame({"a": x[:, 0], "b": pd.date_range("2020", periods=20, tz="UTC")})
    assert "X holds something that is no number: its type is Timestamp" in refused(data=(mixed, y))
    boxed = np.empty((20, 1), object)
    boxed[:, 0] = list(hours[:, 0])  # not as Python's timedelta
    assert "its type is timedelta64" in refused(data=(boxed, y))
    assert "the targets have the types timedelta64" in refused(data=(x, boxed))
    assert "X is a masked array" in refused(data=(np.ma.masked_greater(x, 5), y))
    assert "y is a masked array" in refused(data=(x, np.ma.masked_equal(y, 1)))
    assert "targets of type datetime64[D] are neither real numbers nor text" in refused(data=(x, days[:, 0]))
    for bad, words in (("a", "int, str"), (None, "NoneType, int"), (pd.NA, "NAType, int")):
        assert f"the targets have the types {words}: " in refused(data=(x, np.array([1, bad] * 10, object)))


def test_targets_tell_whether_it_is_a_classification():
    x, many = np.random.default_rng(0).random((300, 2)), MOST_CLASSES + 1
    assert arrays(x, np.arange(300) % 3).classes == ("0", "1", "2")
    assert arrays(x, (np.arange(300) % 3).astype(float)).outputs == 3
    assert arrays(x, np.array(["no", "yes"] * 150)).targets.tolist() == [0, 1] * 150
    assert arrays(x, np.arange(300) % 2 == 1).outputs == 2
    assert arrays(x, np.arange(300) % many).classes == ()
    assert arrays(x, x[:, 0]).targets.dtype == np.float64
    for text in (["a", "b"] * 150, pd.Series(["a", "b"] * 150), np.array(["a", "b"] * 150, object)):
        given = arrays(pd.DataFrame(x), text)
        assert (given.classes, given.targets.tolist()) == (("a", "b"), [0, 1] * 150)
    assert arrays(x, np.array([1, 2] * 150, object)).classes == ("1", "2")
    assert arrays(x, np.arange(300).astype(object)).targets.tolist() == list(range(300))
    assert arrays(x, np.array([Decimal("1.5"), 2] * 150, object)).targets.tolist() == [1.5, 2.0] * 150


def test_a_table_holds_what_was_written(tmp_path):
    frame = pd.DataFrame({"y": ["u", "v"] * 8, "a": np.arange(16), "b": [True, False] * 8})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    given = read_data(Config(data=tmp_path / "mine.csv", target="y"))
    assert np.array_equal(given.inputs, np.column_stack([np.arange(16), [1, 0] * 8]))
    assert given.classes == ("u", "v")
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "mine.parquet")
    assert np.array_equal(read_data(Config(data=tmp_path / "mine.parquet", target="y")).inputs, given.inputs)
    halves = [Decimal(row) / 2 for row in range(16)]
    frame.assign(y=halves, a=halves[::-1]).to_parquet(tmp_path / "mine.parquet")
    given = read_data(Config(data=tmp_path / "mine.parquet", target="y"))
    assert (given.classes, given.targets.tolist(), given.inputs[0, 0]) == ((), list(map(float, halves)), 7.5)


def test_standardization_is_of_the_training_part_and_of_a_regressions_targets():
    generator = np.random.default_rng(1)
    given = arrays(5 + 3 * generator.random((50, 2)), 100 * generator.random(50))
    (inputs, targets), *_ = given.parts(standardized=True)
    for values in (inputs, targets):
        assert np.abs(values.mean(axis=0)).max() < 1e-14
        assert np.abs(values.std(axis=0) - 1).max() < 1e-14
    raw = given.parts(standardized=False)
    assert sorted(np.concatenate([y for _, y in raw])) == sorted(given.targets)


@pytest.mark.parametrize("value", [0.1, 3.7, -1.1, 1e6 + 0.1, 2.0, 0.0])
def test_a_column_that_is_constant_in_training_is_only_shifted(value):
    """The mean of 0.1, taken 30 times, is not 0.1: the deviation is then about 1e-17, and the test row was 1e15."""
    given = arrays(np.column_stack([np.arange(50.0), np.full(50, value)]), np.arange(50) / 7)
    last = np.random.default_rng(0).permutation(50)[-1]
    given.inputs[last, 1] += 1
    (train, _), (validation, _), (test, _) = given.parts(standardized=True)
    assert np.abs(np.concatenate([train, validation])[:, 1]).max() < 1e-8
    assert test[-1, 1] == pytest.approx(1)
    small = 1e-9 * np.arange(50.0)[:, None]
    assert arrays(small, np.arange(50) / 7).parts(standardized=True)[0][0].std() == pytest.approx(1)


def test_a_run_on_arrays_says_what_they_are_and_nothing_of_the_notebook(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 6))
    data = x, x[:, 0] - x[:, 1] + 0.1 * generator.standard_normal(60)
    config = Config(
        data=data, model="mlp:5", standardize=True, batch_size=4, studies=("optimizers",), optimizers=("sgd",),
        dtype="float64", profile="smoke", repeats=2, out=tmp_path / "run",
    )  # fmt: skip
    with workers_here("jax", "torch"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = compare.run(config)
    assert outcome.status == 0, outcome.verdict
    written = " ".join([(tmp_path / "run" / "report.md").read_text(), *map(str, outcome.tables)])
    first, second = outcome.tables[:2]
    facts = dict(first.rows)
    assert (facts["target"], facts["loss"]) == ("y: regression", "a squared loss")
    assert facts["network"] == "dense layers 6-5-1, relu"
    assert "arrays, 2 epochs, 4 rows per step" in second.title
    assert not any(words in written for words in ("digits", "one row", "printed"))
    (row,) = [r for r in outcome.summary["studies"]["optimizers"]["optimizers"] if r["framework"] == "jax"]
    assert row["validation_r2"] < 1
    assert "accuracy" not in json.dumps(row)


def test_the_command_line_refuses_bad_data_in_one_line_and_writes_nothing(tmp_path, compare_here):
    (tmp_path / "mine.csv").write_text("a,b,y\n1,oak,0\n" + GOOD)
    answer = compare_here("--data", tmp_path / "mine.csv", "--target", "y", "--out", tmp_path / "run")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "row 1, column 'b' holds 'oak'" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_goes_on_with_the_same_words(tmp_path):
    from jaxopt_study.compare import _go_on

    words = _go_on(["--data", "my file.csv", "--target", "y", "--model", "mlp:8", "--standardize"], tmp_path)
    assert f"--data 'my file.csv' --target y --model mlp:8 --standardize --resume {tmp_path}" in words


def test_a_study_that_skips_every_method_says_so_once():
    rows = [{"status": "skipped", "reason": "it has no such layer"}] * 3
    table = all_skipped("Loops", rows)
    assert (table.rows, table.reasons) == ([("every one", "skipped")], ("It has no such layer.",))
    assert all_skipped("Loops", [*rows, {"status": "ok", "reason": None}]) is None
    assert all_skipped("Loops", [*rows, {"status": "skipped", "reason": "another"}]) is None
