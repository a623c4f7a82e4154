"""Every data set by name: digits offline, torchvision's sets, the user's files and functions, a random mixture.

``digits`` is scikit-learn's copy of the optical recognition set of handwritten digits (Alpaydin & Kaynak, 1998):
1,797 images of 8x8 pixels with values 0..16, held out by class, scaled to [0, 1] and normalised with (0.5, 0.5).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from raysplit.data.rendered.rooms import load_rooms
from raysplit.data.rendered.shapes3d import load_shapes3d
from raysplit.data.rendered.stand_ins import load_faces_like, load_medic_like
from raysplit.data.samples import DataSet
from raysplit.data.sources.arrays import data_set, data_set_from_arrays, samples_of, unit_and_normalise
from raysplit.data.sources.dsprites import load_dsprites
from raysplit.data.sources.files import SUFFIXES, load_file
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.shards import STREAMED
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.sources.taskonomy import load_taskonomy
from raysplit.data.sources.torchvision_sets import load_torchvision, torchvision_names
from raysplit.given import held, is_given
from raysplit.registry import IMPORT_PATH, imported, unknown
from raysplit.seeding import generator


def dataset_names() -> list[str]:
    """The names that ``load_dataset`` knows, beside file paths and import paths."""
    return [*BUILT_IN, *IN_FOLDERS, *TASK_SETS, STREAMED, *torchvision_names()]


def load_dataset(
    name: str, *, root: str | None = None, download: bool = False, augment: bool = True, **options: Any
) -> DataSet:
    """``digits``, ``random``, a torchvision class, a path to ``*.npz`` or ``*.parquet``, or ``"module:function"``.

    ``root`` is the local folder of torchvision's sets (and of relative file paths); nothing is fetched unless
    ``download``. ``augment`` turns the random crops and flips of CIFAR on. ``options`` go to the one loader.
    Raises ``ValueError`` for an unknown name or option (the nearest and all are listed), missing or bad data.
    """
    if ":" in name:
        return _from_function(name, options)
    if name.endswith(SUFFIXES):
        return _call(load_file, name, Path(root or ".") / name, **options)
    if name in BUILT_IN:
        return _call(BUILT_IN[name], name, **options)
    if name in IN_FOLDERS:
        return _call(IN_FOLDERS[name], name, Path(root or "."), **options)
    if name in TASK_SETS:
        return _with_tasks(name, Path(root or ".").expanduser(), **options)
    if name in torchvision_names():
        return load_torchvision(name, root, download, augment, **options)
    raise ValueError(unknown("data set", name, [*dataset_names(), "a path to *.npz or *.parquet", IMPORT_PATH]))


def load_digits() -> DataSet:
    """Scikit-learn's handwritten digits, ten classes, inputs (1, 8, 8)."""
    from sklearn.datasets import load_digits as bundled

    digits = bundled()
    x = (digits.images / 16).astype(np.float32)[:, None]  # [N, 1, 8, 8]
    return data_set_from_arrays(x, digits.target, "digits", mean=(0.5,), std=(0.5,))


def load_random(
    *,
    num_classes: int = 10,
    num_samples: int = 1000,
    input_shape: tuple[int, ...] = (1, 8, 8),
    dim: int | None = None,
    seed: int = 0,
) -> DataSet:
    """A Gaussian mixture for tests: balanced classes, standard normal class means, unit noise around them.

    ``dim`` is short for ``input_shape=(dim,)``. Raises ``ValueError`` when there are fewer samples than classes need.
    """
    shape = tuple(input_shape) if dim is None else (dim,)
    draw = generator(seed, "random-dataset")
    means = draw.standard_normal((num_classes, *shape), dtype=np.float32)
    y = np.arange(num_samples) % num_classes
    x = means[y] + draw.standard_normal((num_samples, *shape), dtype=np.float32)
    return data_set_from_arrays(x, y, "random")


Made = TypeVar("Made")
BUILT_IN: dict[str, Callable[..., DataSet]] = {"digits": load_digits, "random": load_random, "rooms": load_rooms}
IN_FOLDERS: dict[str, Callable[..., DataSet]] = {"taskonomy": load_taskonomy}  # read from the root


TASK_SETS: dict[str, Callable[..., TaskSet]] = {
    "shapes3d": load_shapes3d,
    "dsprites": load_dsprites,
    "image_table": load_image_table,
    "medic_like": load_medic_like,
    "faces_like": load_faces_like,
}
DRAWN = ("medic_like", "faces_like")  # from nothing: the others look into the root


def _with_tasks(name: str, root: Path, *, val_fraction: float = 0.1, **options: Any) -> DataSet:
    """Pictures with a class label per task, a share of them set aside for validation."""
    place = () if name in DRAWN else (root,)
    return _call(TASK_SETS[name], name, *place, **options).data_set(val_fraction)


def _from_function(path: str, options: dict[str, Any]) -> DataSet:
    made = held(path) if is_given(path) else _call(imported("data set", path), path, **options)
    if isinstance(made, DataSet):
        return made
    if not isinstance(made, tuple) or len(made) != 2:
        raise ValueError(f"{path} returned {type(made).__name__}; it returns (train, test) map-style sets or a DataSet")
    train, test = (samples_of(side, path) for side in made)
    return data_set(train, test, transform=unit_and_normalise(None, None))


def _call(loader: Callable[..., Made], name: str, *fixed: Any, **options: Any) -> Made:
    try:
        inspect.signature(loader).bind(*fixed, **options)
    except TypeError as error:
        raise ValueError(f"data set {name}: {error}; its options are in {inspect.signature(loader)}") from error
    return loader(*fixed, **options)
