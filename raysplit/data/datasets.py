"""Data sets by name: built-in ones, torchvision's, and the files and functions of a user.

``digits`` is scikit-learn's copy of the optical recognition set of handwritten digits (Alpaydin & Kaynak, 1998):
1,797 images of 8x8 pixels with values 0..16, scaled to [0, 1] and normalized with mean and
standard deviation 0.5. A fifth of every class is held out as the test set.
"""

from __future__ import annotations

import gzip
import inspect
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.failures import call_own, is_there, naming, refuse_too_large
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.rendered.rooms import load_rooms
from raysplit.data.rendered.shapes3d import load_shapes3d
from raysplit.data.rendered.stand_ins import load_faces_like, load_medic_like
from raysplit.data.samples import DataSet
from raysplit.data.sources.arrays import data_set_from_arrays, data_set_of_sides
from raysplit.data.sources.dsprites import load_dsprites
from raysplit.data.sources.files import load_file
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.map_style import is_array, side_of
from raysplit.data.sources.shards import STREAMED, open_shards
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.sources.taskonomy import load_taskonomy
from raysplit.data.text.windows import load_text
from raysplit.given import held, is_given
from raysplit.options import Count, checked_options
from raysplit.paths import FILE_SUFFIXES, expanded
from raysplit.registry import IMPORT_PATH, imported, known, shown, unknown
from raysplit.seeding import generator

TEXT = "text:"
"""Beginning of the name of a text; behind it are the paths of its files, or ``python_topics``."""
PLACES = (TEXT,)
"""Beginnings of names that are followed by a path."""
_OTHER_NAMES = ("a path to *.npz or *.parquet", "text:PATH", IMPORT_PATH)


def dataset_names() -> list[str]:
    """Return the names that ``load_dataset`` knows; file paths and import paths come on top of these."""
    from raysplit.data.sources.torchvision_sets import torchvision_names  # torchvision takes a second

    return [*_own_names(), *torchvision_names()]


def _own_names() -> list[str]:
    return [*BUILT_IN, *IN_FOLDERS, *TASK_SETS, STREAMED]


def known_dataset(name: str) -> str:
    """Return a name of `dataset_names`, an import path, or a place behind one of `PLACES`, with its variables.

    Raises ``ValueError``, with the closest name, for another.
    """
    if name.startswith(PLACES):
        kind, _, place = name.partition(":")
        return f"{kind}:{expanded(place)}"
    if name in _own_names():
        return name
    if ":" in name or name in dataset_names():
        return known("data set", name, dataset_names())
    if is_there(Path(name)) and Path(name).is_dir():
        raise ValueError(
            f"{shown(name)} is a folder; for pictures in a folder per class set data.name=ImageFolder and "
            f"data.root={name}, for a Parquet file per owner data.name=shards and data.root={name}"
        )
    if "/" in name or is_there(Path(name)):  # no set is called so
        there = "is a file of a kind that is not read" if is_there(Path(name)) else "is no file"
        raise ValueError(
            f"{shown(name)} {there}; data.name takes the path of an .npz with x and y (numpy.savez) or of a Parquet "
            f"file, text:PATH, module:function, or the name of a set"
        )
    return known("data set", name, dataset_names())


def load_dataset(
    name: str,
    *,
    root: str | None = None,
    download: bool = False,
    augment: bool = True,
    reading: Reading = AS_FOUND,
    **options: Any,
) -> DataSet:
    """Load a data set by name.

    Args:
        name: one of ``dataset_names``, a path to ``*.npz`` or ``*.parquet``, ``"text:PATH"``, or an import path
            ``"module:function"``.
        root: folder of the files of torchvision's sets and of relative paths.
        download: let torchvision fetch files that are not in ``root``; nothing else is ever fetched.
        augment: apply random crops and flips to the training images of CIFAR.
        reading: what arrays are, where their types do not say it.
        options: further arguments of the loader of this data set, such as ``num_classes`` of ``random``.

    Raises:
        ValueError: for an unknown name or option (with the nearest and all names), and for missing or invalid data.

    Example:
        >>> load_dataset("random", num_classes=4, num_samples=200, dim=16).input_shape
        (16,)
    """
    if ":" in name and not name.startswith(PLACES):
        return _from_function(name, options, reading)
    is_file = name.endswith(FILE_SUFFIXES) and not name.startswith(PLACES)
    with naming(str(Path(root or ".") / name) if is_file else name if name.startswith(PLACES) else root or name):
        return _by_name(name, root, download, augment, reading, checked_data_options(name, options))


def _by_name(
    name: str, root: str | None, download: bool, augment: bool, reading: Reading, options: dict[str, Any]
) -> DataSet:
    if name.endswith(FILE_SUFFIXES):
        return load_file(Path(root or ".") / name, reading=reading, **options)
    if name not in _own_names():
        from raysplit.data.sources.torchvision_sets import load_torchvision, torchvision_names

        if name in torchvision_names():
            return load_torchvision(name, root, download, augment, reading=reading, **options)
    _refuse_reading(f"data set {name}", reading)
    if name.startswith(TEXT):
        return load_text(name.removeprefix(TEXT), Path(root or "."), **options)
    if name in BUILT_IN:
        return BUILT_IN[name](**options)
    if name in IN_FOLDERS:
        return IN_FOLDERS[name](Path(root or "."), **options)
    if name in TASK_SETS:
        return _with_tasks(name, Path(root or "."), **options)
    raise ValueError(unknown("data set", name, [*dataset_names(), *_OTHER_NAMES]))


def checked_data_options(name: str, options: Mapping[str, Any], section: str = "data") -> dict[str, Any]:
    """Return the options of a data set in the types of its loader; those of a user's own function stay as they are.

    Raises `OptionsRefused` for an option that is unknown, missing or of another type.
    """
    loader, given = _loader(name)
    if loader is None:
        return dict(options)
    own, common = dict(options), {}
    if name in TASK_SETS and "val_fraction" in own:
        fraction = {"val_fraction": own.pop("val_fraction")}
        common = checked_options(_with_tasks, fraction, name=name, section=section, given=("name", "root"))
    return common | checked_options(loader, own, name=name, section=section, given=given)


def _loader(name: str) -> tuple[Callable[..., Any] | None, tuple[str, ...]]:
    """Return the function that takes the options of a data set, and those of its parameters that are no options."""
    if name.startswith(TEXT):
        return load_text, ("place", "root")
    if ":" in name:
        return None, ()
    if name.endswith(FILE_SUFFIXES):
        return load_file, ("path", "reading")
    if name == STREAMED:
        return open_shards, ("root", "reading")
    if name in BUILT_IN or name in DRAWN:
        return (BUILT_IN | TASK_SETS)[name], ()
    if name in IN_FOLDERS or name in TASK_SETS:
        loader = (IN_FOLDERS | TASK_SETS)[name]
        return loader, (next(iter(inspect.signature(loader).parameters)),)
    from raysplit.data.sources.torchvision_sets import load_torchvision, torchvision_names

    fixed = ("name", "root", "download", "augment", "reading")
    return (load_torchvision if name in torchvision_names() else None), fixed


def load_digits() -> DataSet:
    """Load scikit-learn's handwritten digits: ten classes, inputs of shape (1, 8, 8)."""
    table = _bundled_digits()
    x = (table[:, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32)  # [N, 1, 8, 8]
    return data_set_from_arrays(x, table[:, -1].astype(int), "digits", mean=(0.5,), std=(0.5,))


def _bundled_digits() -> npt.NDArray[np.float64]:
    """Read the file beside the installed scikit-learn, whose import loads SciPy and pandas and takes seconds."""
    found = find_spec("sklearn")
    assert found is not None, "scikit-learn is a dependency"
    assert found.origin is not None, "scikit-learn is a package with files"
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():  # in a release that keeps it elsewhere
        from sklearn.datasets import load_digits as bundled

        digits = bundled()
        return np.column_stack([digits.data, digits.target]).astype(np.float64)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return np.loadtxt(file, delimiter=",")


def load_random(
    *,
    num_classes: Count = 10,
    num_samples: Count = 1000,
    input_shape: tuple[Count, ...] = (1, 8, 8),
    dim: Count | None = None,
    seed: int = 0,
) -> DataSet:
    """Draw a Gaussian mixture for tests: balanced classes, standard normal class means, unit variance around them.

    Args:
        num_classes: number of classes C.
        num_samples: training and test samples together; a fifth of every class becomes the test set.
        input_shape: shape of one sample.
        dim: short for ``input_shape=(dim,)``.
        seed: seed of the random stream.

    Raises:
        ValueError: when the samples are too few to hold out a test set.
    """
    shape = tuple(input_shape) if dim is None else (dim,)
    refuse_too_large("the samples of data set random", 2 * (num_classes + num_samples) * math.prod(shape))
    draw = generator(seed, "random-dataset")
    means = draw.standard_normal((num_classes, *shape), dtype=np.float32)
    y = np.arange(num_samples) % num_classes
    x = means[y] + draw.standard_normal((num_samples, *shape), dtype=np.float32)
    return data_set_from_arrays(x, y, "random", reading=Reading(layout="channels_first"))


BUILT_IN: dict[str, Callable[..., DataSet]] = {"digits": load_digits, "random": load_random, "rooms": load_rooms}
IN_FOLDERS: dict[str, Callable[..., DataSet]] = {"taskonomy": load_taskonomy}  # read from the root


TASK_SETS: dict[str, Callable[..., TaskSet]] = {
    "shapes3d": load_shapes3d,
    "dsprites": load_dsprites,
    "image_table": load_image_table,
    "medic_like": load_medic_like,
    "faces_like": load_faces_like,
}
DRAWN = ("medic_like", "faces_like")  # these read no files, so they take no root


def _with_tasks(name: str, root: Path, *, val_fraction: float = 0.1, **options: Any) -> DataSet:
    """Load pictures with one class label per task and set a share of them aside for validation."""
    place = () if name in DRAWN else (root,)
    return TASK_SETS[name](*place, **options).data_set(val_fraction)


def _refuse_reading(what: str, reading: Reading) -> None:
    if given := reading.named():
        key, value = next(iter(given.items()))
        raise ValueError(f"{key} is {value}, and {what} already says what its inputs and labels are; leave it out")


def _from_function(path: str, options: dict[str, Any], reading: Reading) -> DataSet:
    made = held(path) if is_given(path) else _called(imported("data set", path), path, options)
    if isinstance(made, DataSet):
        if not is_given(path) or made.reading.named() != reading.named():  # given arrays were read by these settings
            _refuse_reading(f"the DataSet of {path}", reading)
        return made
    if not isinstance(made, tuple | list) or len(made) != 2 or all(map(is_array, made)):
        is_pair = isinstance(made, tuple | list) and len(made) == 2
        shown = (
            "two arrays" if is_pair else f"{len(made)} values" if isinstance(made, tuple | list) else f"{made!r:.60}"
        )
        raise ValueError(
            f"{path} returned {shown}; it must return a DataSet or (train, test), each a map-style set or a pair of "
            f"arrays (x, y)"
        )
    train, test = (
        side_of(side, f"{path}, {which}", reading) for side, which in zip(made, ("train", "test"), strict=True)
    )
    return data_set_of_sides(train, test, path, reading)


def _called(loader: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    try:
        inspect.signature(loader).bind(**options)
    except TypeError as error:
        raise ValueError(f"data set {name}: {error}; its options are in {inspect.signature(loader)}") from error
    return call_own("data set", name, loader, **options)
