"""Data sets by name: built-in ones, torchvision's, and the files and functions of a user.

``digits`` is scikit-learn's copy of the optical recognition set of handwritten digits (Alpaydin & Kaynak, 1998):
1,797 images of 8x8 pixels with values 0..16, scaled to [0, 1] and normalized with mean and
standard deviation 0.5. A fifth of every class is held out as the test set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raysplit.data.failures import call_own, is_there, naming
from raysplit.data.named.rows import data_set_of_rows, is_hub_set
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.rendered.bundled import load_diabetes, load_digits, load_random
from raysplit.data.rendered.room_masks import load_room_masks
from raysplit.data.rendered.rooms import load_rooms
from raysplit.data.rendered.shapes3d import load_shapes3d
from raysplit.data.rendered.stand_ins import load_faces_like, load_medic_like
from raysplit.data.rendered.wrist import load_wrist
from raysplit.data.samples import DataSet
from raysplit.data.sources.arrays import data_set_of_sides
from raysplit.data.sources.dsprites import load_dsprites
from raysplit.data.sources.files import load_file
from raysplit.data.sources.folder import load_folder
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.map_style import is_array, side_of
from raysplit.data.sources.shards import STREAMED, open_shards
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.sources.taskonomy import load_taskonomy
from raysplit.data.tables.table import load_table
from raysplit.data.text.windows import load_text
from raysplit.given import held, is_given
from raysplit.options import checked_options
from raysplit.paths import FILE_SUFFIXES, FOLDER, PLACES, TEXT, expanded
from raysplit.registry import IMPORT_PATH, imported, known, shown, unknown

TABLE_OPTIONS = {"columns", "encoder", "encode", "min_count", "unseen", "missing"}
"""Options by which a Parquet file is a table of columns, not one of arrays."""
_OTHER_NAMES = ("a path to *.npz, *.parquet or *.csv", "text:PATH", "folder:PATH", IMPORT_PATH)


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
        name: one of ``dataset_names``, a path to ``*.npz``, ``*.parquet`` or ``*.csv``, ``"text:PATH"``, or an import
            path ``"module:function"``.
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
        loader = load_table if is_table(name, options) else load_file
        return loader(Path(root or ".") / name, reading=reading, **options)
    if name not in _own_names():
        from raysplit.data.sources.torchvision_sets import load_torchvision, torchvision_names

        if name in torchvision_names():
            return load_torchvision(name, root, download, augment, reading=reading, **options)
    _refuse_reading(f"data set {name}", reading)
    if name.startswith(TEXT):
        return load_text(name.removeprefix(TEXT), Path(root or "."), **options)
    if name.startswith(FOLDER):
        return load_folder(Path(root or ".") / name.removeprefix(FOLDER), **options)
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
    loader, given = _loader(name, options)
    if loader is None:
        return dict(options)
    own, common = dict(options), {}
    if name in TASK_SETS and "val_fraction" in own:
        fraction = {"val_fraction": own.pop("val_fraction")}
        common = checked_options(_with_tasks, fraction, name=name, section=section, given=("name", "root"))
    return common | checked_options(loader, own, name=name, section=section, given=given)


def takes_option(name: str, options: Mapping[str, Any], option: str) -> bool | None:
    """Return whether the loader of a data set has an option of this name; None for a user's own function."""
    loader, _ = _loader(name, options)
    return None if loader is None else option in inspect.signature(loader).parameters


def is_table(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a file is read as a table of columns."""
    return name.endswith(".csv") or bool(TABLE_OPTIONS & options.keys())


def _loader(name: str, options: Mapping[str, Any]) -> tuple[Callable[..., Any] | None, tuple[str, ...]]:
    """Return the function that takes the options of a data set, and those of its parameters that are no options."""
    if name.startswith(TEXT):
        return load_text, ("place", "root")
    if name.startswith(FOLDER):
        return load_folder, ("folder",)
    if ":" in name:
        return None, ()
    if name.endswith(FILE_SUFFIXES):
        return load_table if is_table(name, options) else load_file, ("path", "reading")
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


BUILT_IN: dict[str, Callable[..., DataSet]] = {
    "digits": load_digits,
    "diabetes": load_diabetes,
    "random": load_random,
    "rooms": load_rooms,
    "room_masks": load_room_masks,
    "wrist": load_wrist,
}
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
    is_pair = isinstance(made, tuple | list) and len(made) == 2
    if is_hub_set(made) or (is_pair and all(map(is_hub_set, made))):
        return data_set_of_rows(made, path, reading)
    if not is_pair or all(map(is_array, made)):
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
