"""What the locator takes: any tree, any type of number, and files from anybody."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxopt_study import parity
from jaxopt_study.parity import files
from jaxopt_study.parity.trees import flatten

ROOT = Path(__file__).parents[1]
Pair = namedtuple("Pair", ["weight", "bias"])


@dataclass
class Layer:
    weight: np.ndarray
    parts: list


def test_any_nesting_is_a_tree():
    tree = {"layers": [np.ones(2), (np.zeros(3), None)], "pair": Pair(np.ones(1), 2), "one": Layer(np.ones(2), [True])}
    assert list(flatten(tree)) == ["layers/0", "layers/1/0", "one/parts/0", "one/weight", "pair/bias", "pair/weight"]
    other = {**tree, "layers": [np.ones(2), (np.full(3, 1e-3), None)]}
    assert parity.locate([tree, tree], [tree, other]).difference.leaf == "layers/1/0"
    assert parity.locate([[np.ones(2)]], [[np.ones(2)]]).same


def test_what_is_no_tree_is_refused_in_one_line():
    loop, deep = {"a": [np.ones(2)]}, [np.ones(1)]
    loop["a"].append(loop)
    for _ in range(3000):
        deep = [deep]
    for tree, words in (
        (loop, "the first training, step 0 holds itself, at a/1"),
        (deep, "nested more than 100 times"),
        ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, "two leaves have the name a/b"),
        ({"a": 1j}, "a holds complex128 and not real numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            parity.locate([tree], [tree])


def test_a_leaf_that_is_there_twice_is_no_loop():
    shared = {"w": np.ones(2)}
    assert list(flatten({"a": shared, "b": shared})) == ["a/w", "b/w"]


@pytest.mark.parametrize(("value", "other"), [(True, False), (3, 4), (np.uint8(1), np.uint8(2))])
def test_booleans_and_whole_numbers_must_be_equal(value, other):
    def path(last):
        return [{"w": np.ones(3), "n": np.array(n)} for n in (value, last)]

    assert parity.locate(path(value), path(value)).same
    assert parity.locate(path(value), path(other)).difference.leaf == "n"


def short(steps=4, share=1.0):
    draw = np.random.default_rng(0).standard_normal((steps, 40)).cumsum(0)
    return [{"w": (row * share).astype(ml_dtypes.bfloat16)} for row in draw]


def test_bfloat16_goes_through_a_file(tmp_path):
    parity.save_trajectory(tmp_path / "a", short())
    read = list(parity.load_trajectory(tmp_path / "a.npz"))
    for tree, old in zip(read, short(), strict=True):
        assert np.array_equal(tree["w"], old["w"].astype(np.float32))
    rounded = [{"w": tree["w"].astype(np.float32) * np.float32(1.003)} for tree in short()]
    report = parity.locate(tmp_path / "a.npz", rounded)
    assert report.same
    assert "The first training's numbers are all numbers of bfloat16" in str(report)
    assert not parity.locate(tmp_path / "a.npz", short(share=1.1)).same
    np.savez(tmp_path / "b.npz", w=np.stack([tree["w"] for tree in short()]))
    assert parity.locate(tmp_path / "a.npz", tmp_path / "b.npz").same


def test_a_torch_module_of_bfloat16_is_walked():
    import torch

    leaf = torch.nn.Parameter(torch.arange(6, dtype=torch.bfloat16))
    (tree,) = parity.walk(lambda s, _: s, leaf, [], lambda leaf: {"w": leaf})
    assert np.array_equal(tree["w"], np.arange(6, dtype=np.float32))


def test_control_characters_are_shown_escaped(tmp_path):
    name = "w\x1b[2J\n"
    start, end = ({name: np.full(6, x)} for x in (0.0, 1.0))
    report = parity.locate([start, start], [start, end])
    assert report.leaves == (name,)
    for words in (str(report), str(report.difference), str(parity.compare(start, end)).replace("\n", "")):
        assert "w\\x1b[2J\\n" in words
        assert words.isprintable()
    parity.save_trajectory(tmp_path / "a.npz", [start, start])
    parity.save_trajectory(tmp_path / "b.npz", [{"v": np.zeros(6)}] * 2)
    said = shell(tmp_path / "a.npz", tmp_path / "b.npz")
    assert (said.returncode, said.stderr.count("\n"), "\x1b" in said.stderr) == (2, 1, False)


def shell(*paths):
    command = [sys.executable, "-m", "jaxopt_study.parity", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def array(shape=(2, 3), header=None, data=None):
    """Return a member of an .npz file, with any header."""
    file = io.BytesIO()
    np.save(file, np.ones(shape))
    if header is None:
        return file.getvalue()
    text = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) % 65536) + text + (b"" if data is None else data)


HOSTILE = {
    "no array": lambda z: z.writestr("a.txt", "hello"),
    "no array, named as one": lambda z: z.writestr("a.npy", "hello"),
    "empty member": lambda z: z.writestr("a.npy", b""),
    "bad header": lambda z: z.writestr("a.npy", array(header="{'descr': '<f8', 'shape': (2,")),
    "code in the header": lambda z: z.writestr("a.npy", array(header="__import__('os').system('true')\n")),
    "huge header": lambda z: z.writestr("a.npy", array(header=b" " * 60_000)),
    "huge array": lambda z: z.writestr(
        "a.npy", array(header="{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}\n")
    ),
    "negative shape": lambda z: z.writestr(
        "a.npy", array(header="{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8)}\n", data=b"0" * 64)
    ),
    "cut array": lambda z: z.writestr("a.npy", array((200, 3))[:-100]),
    "pickle": lambda z: z.writestr(
        "a.npy",
        array(header="{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", data=b"cos\nsystem\n(S'x'\ntR."),
    ),
    "version 9": lambda z: z.writestr("a.npy", b"\x93NUMPY\x09\x00" + array()[8:]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        HOSTILE[kind](file)
    with pytest.raises(ValueError, match=r"is no trajectory: .") as caught:
        parity.load_trajectory(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def changed(path, offset, value):
    """Change a field of 16 bits in both headers of the only member."""
    raw = bytearray(path.read_bytes())
    for begin, place in ((raw.index(b"PK\x03\x04"), offset), (raw.index(b"PK\x01\x02"), offset + 2)):
        raw[begin + place : begin + place + 2] = struct.pack("<H", value)
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(("offset", "value", "words"), [(6, 1, "encrypted"), (8, 99, "compression")])
def test_encryption_and_unknown_compression_are_refused(offset, value, words, tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((2, 3)))
    changed(tmp_path / "a.npz", offset, value)
    said = shell(tmp_path / "a.npz", tmp_path / "a.npz")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert words in said.stderr


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A file of 10 kB that holds 8 MB; the limit is lowered to 1 MB, so that the test is quick."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000))
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    monkeypatch.setattr(np, "empty", None)
    with pytest.raises(ValueError, match=r"its arrays take 8e\+06 bytes, and at most 1.05e\+06 are read"):
        parity.load_trajectory(tmp_path / "a.npz")


def test_a_file_appears_once_it_is_complete(tmp_path, monkeypatch):
    trees = [{"w": np.ones(3)}] * 2
    parity.save_trajectory(tmp_path / "a.npz", trees)
    before = (tmp_path / "a.npz").read_bytes()

    def broken(stream, *_, **__):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", broken)
    with pytest.raises(OSError, match="No space"):
        parity.save_trajectory(tmp_path / "a.npz", trees)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def test_two_trees_are_compared_once():
    first = {"a": np.float32([1, 2]), "b": [np.arange(3)], "c": np.ones(2)}
    assert str(parity.compare(first, first)) == "the same in 3 leaves"
    second = {"a": np.float32([1, 2.01]), "b": [np.arange(3)], "c": np.array([1, 1.5])}
    found = parity.compare(first, second)
    assert [d.leaf for d in found.differences] == ["c", "a"]
    assert found.differences[0].index == (1,)
    assert parity.compare(first, second, tolerance=0.5).same
    assert not parity.compare(first, {**first, "b": [np.array([0, 1, 3])]}).same
    for wrong, words in (({"a": first["a"]}, "only the first tree has b/0, c"), ({}, "only the first tree")):
        with pytest.raises(ValueError, match=words):
            parity.compare(first, wrong)
    with pytest.raises(ValueError, match="nothing to compare"):
        parity.compare({}, {})
    with pytest.raises(ValueError, match="tolerance must be a finite number"):
        parity.compare(first, first, tolerance=np.inf)


SIZE = 50_000


def large(steps, drift=0.0):
    """Yield steps of 0.4 MB."""
    draw = np.random.default_rng(0).standard_normal(SIZE)
    for step in range(steps):
        yield {"w": draw + step * (0.1 + drift), "n": step}


def test_files_are_written_and_compared_in_bounded_memory(tmp_path):
    """200 steps of 0.4 MB are 80 MB; the locator keeps 25 steps of both, in the end as updates in float64 too."""
    tracemalloc.start()
    try:
        for name, drift in (("a", 0.0), ("b", 1e-3)):
            parity.save_trajectory(tmp_path / name, large(200, drift if name == "b" else 0.0))
        assert tracemalloc.get_traced_memory()[1] < 8e6
        assert parity.locate(tmp_path / "a.npz", tmp_path / "a.npz").same
        assert parity.locate(tmp_path / "a.npz", tmp_path / "b.npz").difference.step == 1
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_numpy_reads_what_was_written(tmp_path):
    """Each leaf is one array; types that change on the way become one that holds both."""
    trees = [{"a/b": np.float32([[1, 2]]), "n": 0}, {"a/b": np.array([[3, 1e-20]]), "n": np.int32(1)}]
    parity.save_trajectory(tmp_path / "a.npz", iter(trees))
    with np.load(tmp_path / "a.npz") as read:
        assert sorted(read.files) == ["__trajectory__", "a/b", "n"]
        assert read["a/b"].tolist() == [[[1, 2]], [[3, 1e-20]]]
        assert (read["n"].tolist(), read["n"].dtype) == ([0, 1], np.int64)
    assert [tree["n"] for tree in parity.load_trajectory(tmp_path / "a.npz")] == [0, 1]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_of_numpy_are_read_in_parts(save, order, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "AT_ONCE", 600)  # three steps
    arrays = {"w": np.arange(240.0).reshape(10, 6, 4), "n": np.arange(10), "none": np.zeros((10, 0))}
    save(tmp_path / "a.npz", **{name: np.asarray(value, order=order) for name, value in arrays.items()})
    read = list(parity.load_trajectory(tmp_path / "a.npz"))
    assert len(read) == 10
    for name, value in arrays.items():
        assert np.array_equal([tree[name] for tree in read], value)


def test_a_file_without_the_mark_is_said_to_be_none_of_ours(tmp_path):
    """The state dict of one model, whose arrays happen to have equal first axes, would be read as 3 steps."""
    state = {"weight": np.ones((3, 2)), "bias": np.ones(3)}
    np.savez(tmp_path / "model.npz", **state)
    parity.save_trajectory(tmp_path / "ours.npz", [{"weight": np.ones(2), "bias": 1.0}] * 3)
    note = (
        f"save_trajectory did not write {tmp_path / 'model.npz'}: the first axis of its arrays is taken for the steps."
    )
    assert parity.locate(tmp_path / "model.npz", tmp_path / "model.npz").notes == (note,)
    assert parity.locate(tmp_path / "ours.npz", tmp_path / "model.npz").notes == (note,)
    assert parity.locate(tmp_path / "ours.npz", tmp_path / "ours.npz").notes == ()


def test_a_byte_that_changed_is_found_by_the_checksum(tmp_path):
    parity.save_trajectory(tmp_path / "a.npz", large(3))
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.npz is no trajectory: Bad CRC-32"):
        list(parity.load_trajectory(tmp_path / "a.npz"))


def test_two_arrays_of_one_name_and_one_number_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", array())
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.npy", array())
    np.savez(tmp_path / "b.npz", a=np.ones(2), b=1.0)
    for name, words in (("a", "it has two arrays of the name a"), ("b", "its arrays must share their first axis")):
        with pytest.raises(ValueError, match=words):
            parity.load_trajectory(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match="no leaf may have the name __trajectory__"):
        parity.save_trajectory(tmp_path / "c.npz", [{"__trajectory__": 1.0}])
