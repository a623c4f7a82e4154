"""Files of CIFAR, which are pickles, read without running what a pickle can name.

A pickle is a program: it may import and call anything. The published files build dictionaries, lists, numbers, texts
and arrays of numbers, and this reader knows nothing else.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torchvision.datasets as tv

from raysplit.registry import shown

_MAX_BYTES = 2**30  # the largest published file has 155 MB
_SIDE = 32
_OPCODES = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT,
    pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8,
    pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
    pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.LIST,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS,
    pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD,
)  # fmt: skip


class NotCifar(ValueError):
    """Exception for a file that is not what CIFAR's are; the message names it."""


class _Kind:
    """The type of an array's numbers, in the place of ``numpy.dtype``."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or code not in ("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8"):
            raise ValueError(f"it has an array of the type {shown(code)}, where whole numbers are expected")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("|", "<", ">"):
            raise ValueError(f"it has numbers in the byte order {shown(state[1])}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Numbers:
    """An array in the place of ``numpy.ndarray``, whose memory numpy itself fills from bytes."""

    values: npt.NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_first, content = state
        if isinstance(content, str):  # bytes of Python 2
            content = content.encode("latin1")
        self.values = np.frombuffer(content, _dtype(kind)).reshape(shape, order="F" if column_first else "C")


def _dtype(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Kind):
        raise ValueError("it has an array without a type")
    return kind.dtype


def _empty_array(*_: Any) -> _Numbers:
    return _Numbers()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> _Numbers:
    array = _Numbers()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def _scalar(kind: Any, content: Any) -> int:
    return int(np.frombuffer(content, _dtype(kind))[0])


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode({"latin1": "latin1", "latin-1": "latin1"}[encoding])


_KNOWN: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Numbers,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Reader(pickle._Unpickler):
    """Unpickler of the opcodes and names above; the one in C would take a memo of any size."""

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def load_build(self: Any) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if not isinstance(built, _Kind | _Numbers):
            raise ValueError(f"it sets the state of a {type(built).__name__}")
        built.__setstate__(state)

    def load_bytes(self: Any) -> None:  # pickle's own makes a bytearray of the announced length before it reads
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(length))

    dispatch |= {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytes}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise ValueError(f"it names {shown(f'{module}.{name}')}, which no file of CIFAR does") from None


def read_plain(path: Path) -> dict[str, Any]:
    """Read a pickle of entries by name: numbers, texts, lists and arrays of whole numbers; nothing is imported.

    Raises:
        FileNotFoundError: there is no such file.
        NotCifar: it holds something else or is damaged; the message names the file.
    """
    way_out = "take the files from https://www.cs.toronto.edu/~kriz/cifar.html, or write them again"
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise NotCifar(f"{path} has {size:,} bytes, and files of CIFAR at most {_MAX_BYTES:,}; {way_out}")
    try:
        found = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # bytes of anybody raise errors of any kind
        said = f"it has the instruction {error}" if isinstance(error, KeyError) else str(error) or "it ends too early"
        raise NotCifar(f"{path} is not a file of CIFAR: {said:.300}; {way_out}") from error
    if not isinstance(found, dict):
        raise NotCifar(f"{path} is not a file of CIFAR: it holds no entries by name; {way_out}")
    return {str(key): value.values if isinstance(value, _Numbers) else value for key, value in found.items()}


def plainly_read(dataset_class: type[tv.CIFAR10]) -> Any:
    """Return a class of torchvision's CIFAR sets that reads its files with `read_plain` and asks for no checksums.

    Files rebuilt from the same pixels have other bytes than the published ones, so that checksums would not match.
    """
    unchecked = {
        side: [[file, None] for file, _ in getattr(dataset_class, side)] for side in ("train_list", "test_list")
    }

    def read(self: Any, root: str, train: bool = True, transform: Any = None, target_transform: Any = None) -> None:
        tv.VisionDataset.__init__(self, root, transform=transform, target_transform=target_transform)
        if not self._check_integrity():
            raise FileNotFoundError("Dataset not found")
        folder = Path(root) / self.base_folder
        sides = [_images(folder / file) for file, _ in (self.train_list if train else self.test_list)]
        self.train = train
        self.data = np.concatenate([images for images, _ in sides])
        self.targets = [label for _, labels in sides for label in labels]
        self.classes = _names(folder / self.meta["filename"], self.meta["key"])

    parts = {**unchecked, "meta": {**dataset_class.meta, "md5": None}, "__init__": read}
    return type(dataset_class.__name__, (dataset_class,), parts)


def _images(path: Path) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Return images [N, 32, 32, 3] and labels."""
    entries = read_plain(path)
    images = entries.get("data")
    labels = entries.get("labels", entries.get("fine_labels"))
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.size % (3 * _SIDE**2):
        raise NotCifar(f"{path}: data must be an array [N, 3072] of uint8, got {_outline(images)}")
    images = images.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if not isinstance(labels, list) or len(labels) != len(images) or not all(type(each) is int for each in labels):
        raise NotCifar(f"{path}: labels must be {len(images)} whole numbers, got {_outline(labels)}")
    return images, labels


def _names(path: Path, key: str) -> list[str]:
    names = read_plain(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NotCifar(f"{path}: {key} must be a list of names, got {_outline(names)}")
    return names


def _outline(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"{len(value)} values" if isinstance(value, list) else type(value).__name__
