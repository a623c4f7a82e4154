"""Files of CIFAR are pickles of anybody: plain content is read, and nothing in them is imported or called."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysplit.data.datasets import load_dataset
from raysplit.data.sources.cifar import NotCifar, read_plain

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)


class Calls:
    """Whatever it is unpickled by calls a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "data_batch_1"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [[3, 9], np.array([3, 9]), [np.int64(3), np.uint8(9)]], ids=["ints", "array", "own"])
def test_plain_content_of_every_protocol_is_read(protocol: int, labels: Any, tmp_path: Path) -> None:
    content = {"data": IMAGES, "labels": labels, "batch_label": b"one", "filenames": ["a.png", "b.png"]}
    found = read_plain(written(tmp_path, pickle.dumps(content, protocol)))
    assert np.array_equal(found["data"], IMAGES)
    assert list(found["labels"]) == [3, 9]
    assert found["filenames"] == ["a.png", "b.png"]


def test_columns_first_and_other_byte_orders_are_read(tmp_path: Path) -> None:
    content = {"data": np.asfortranarray(IMAGES), "labels": np.array([3, 9], ">i4")}
    found = read_plain(written(tmp_path, pickle.dumps(content)))
    assert np.array_equal(found["data"], IMAGES)
    assert found["labels"].tolist() == [3, 9]


def test_the_published_form_of_python_2_is_read(tmp_path: Path) -> None:
    """The published files were written by Python 2: keys, names and the bytes of arrays are its strings."""
    raw = IMAGES.tobytes()
    text = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
    )
    text += b"\x87Rq\x05(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff"
    text += (
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"tbU\x06labels](K\x03K\x09eu."
    )
    found = read_plain(written(tmp_path, text))
    assert np.array_equal(found["data"], IMAGES)
    assert found["labels"] == [3, 9]


HOSTILE: dict[str, Any] = {
    "a command": pickle.dumps({"data": Calls(os.system, "echo hostile > here")}),
    "eval": pickle.dumps({"data": Calls(eval, "open('here', 'w')")}),
    "another name of numpy": pickle.dumps({"data": Calls(np.memmap, "here", "u1", "w+", 0, (1,))}),
    "an attribute of a known name": b"\x80\x04}(\x8c\x04data\x8c\x05numpy\x8c\x10ndarray.__init__\x93u.",
    "an object of a module": b"(inumpy\nndarray\no.",
    "a class by its number": b"\x82\x01.",
    "a persistent id": b"Phere\n.",
    "a state of a function": b"c_codecs\nencode\n}b.",
    "a state of a type": b"cnumpy\nndarray\n}b.",
    "objects in an array": pickle.dumps({"data": np.array([[], {}], object)}),
    "an array without a type": pickle.dumps({"data": Calls(np.frombuffer, b"abc")}),
    "a memo without end": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytes without end": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "text without end": b"\x80\x05\x8d" + struct.pack("<Q", 2**40) + b".",
    "no pickle": b"\x00\x01",
    "nothing": b"",
    "half of one": pickle.dumps({"data": IMAGES})[:100],
    "a list": pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `data_batch_1` that was a program ran when a folder of CIFAR10 was trained on."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, HOSTILE[name])
    with pytest.raises(NotCifar, match=f"{path} is not a file of CIFAR: .+; take the files from .*write them again"):
        read_plain(path)
    assert sorted(os.listdir()) == ["data_batch_1"]


@settings(max_examples=150)
@given(st.binary(max_size=40), st.integers(0, 200), st.booleans())
def test_any_bytes_are_entries_or_a_named_mistake(tmp_path_factory: Any, noise: bytes, at: int, inserted: bool) -> None:
    whole = pickle.dumps({"data": IMAGES[:, :9], "labels": [3, 9]}, protocol=at % 6)
    content = whole[:at] + noise + whole[at + (0 if inserted else len(noise)) :]
    path = written(tmp_path_factory.getbasetemp(), content)
    with suppress(NotCifar):
        assert isinstance(read_plain(path), dict)


@pytest.mark.parametrize(
    ("batch", "names", "message"),
    [
        ({"data": IMAGES, "labels": [3]}, ["a"], "data_batch_1: labels must be 2 whole numbers, got 1 values"),
        ({"data": IMAGES, "labels": [3, "x"]}, ["a"], "data_batch_1: labels must be 2 whole numbers, got 2 values"),
        ({"data": IMAGES[:, 1:], "labels": [3, 9]}, ["a"], r"data must be an array .* an array \[2, 3071\] of uint8"),
        ({"data": IMAGES.astype("i4"), "labels": [3, 9]}, ["a"], r"data must be an array .* of int32"),
        ({"data": IMAGES, "labels": [3, 9]}, [1], "batches.meta: label_names must be a list of names, got 1 values"),
        (Calls(os.system, "echo hostile"), ["a"], "data_batch_1 is not a file of CIFAR: it names 'posix.system'"),
    ],
)
def test_a_set_names_the_file_that_is_wrong(batch: Any, names: Any, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(ValueError, match=rf"CIFAR10, .*{message}"):
        load_dataset("CIFAR10", root=str(tmp_path))
