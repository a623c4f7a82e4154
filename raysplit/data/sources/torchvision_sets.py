"""Image-classification sets of torchvision by class name, from a local folder.

The names of the sets, and whether a set selects its sides by ``train`` or by ``split``, are read from torchvision's
classes. CIFAR statistics and augmentation are those of public split learning code (arXiv 2308.11953 and its
follow-up): crop of 32 after padding 4, horizontal flip, channel normalization. All other sets are scaled to [-1, 1].
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets as tv
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension
from torchvision.datasets.utils import check_md5

from raysplit.data.failures import file_of
from raysplit.data.labels import numbered
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.reading import AS_FOUND, Reading, read_inputs
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import data_set, unit_and_normalise
from raysplit.data.sources.cifar import NotCifar, plainly_read
from raysplit.data.sources.map_style import Side, side_of
from raysplit.data.sources.pictures import class_folders, is_hidden, read_picture, stacked_pictures
from raysplit.data.transforms import Compose, Normalise, RandomCrop, RandomHorizontalFlip, ToUnit
from raysplit.options import SideLength

CHANNEL_STATISTICS = {
    "CIFAR10": Normalise(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "CIFAR100": Normalise(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}
CROP_AND_FLIP = (RandomCrop(padding=4), RandomHorizontalFlip())


def torchvision_names() -> list[str]:
    """Return the names of torchvision's sets of (image, label) pairs that are read from a folder."""
    return [name for name in tv.__all__ if name not in _LEFT_OUT and _is_pairs_of_image_and_label(getattr(tv, name))]


def load_torchvision(
    name: str,
    root: str | None,
    download: bool,
    augment: bool,
    *,
    train_split: str = "train",
    test_split: str = "test",
    image_size: SideLength | None = None,
    reading: Reading = AS_FOUND,
    **constructor_options: Any,
) -> DataSet:
    """Load a set of torchvision; a set without a test side is split 80/20 by class.

    Args:
        name: name of the class in ``torchvision.datasets``.
        root: folder of the files, which may also be in ``root/name``.
        download: let torchvision fetch missing files.
        augment: apply random crops and flips to the training images of CIFAR.
        train_split: ``split`` of the training side, for classes that have this argument.
        test_split: ``split`` of the test side.
        image_size: side in pixels to which images are resized; needed for images of unequal size.
        reading: what the arrays are, where their types do not say it.
        constructor_options: further arguments of the class.

    Raises:
        ValueError: when the files are missing or broken, or the labels are not class indices.
    """
    dataset_class = getattr(tv, name)
    arguments = _parameters(dataset_class)
    if unknown := sorted(set(constructor_options) - arguments):
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {sorted(arguments - _OURS)}")
    if issubclass(dataset_class, tv.ImageFolder):
        constructor_options |= {"loader": partial(read_picture, size=image_size)}
        dataset_class = _VisibleFolder
    elif image_size is not None:
        constructor_options["transform"] = _Resize(image_size)

    def side(**which: Any) -> Any:
        return _open(dataset_class, root, download and "download" in arguments, {**constructor_options, **which})

    if "train" in arguments:
        train, test = side(train=True), side(train=False)
    elif "split" in arguments and "split" not in constructor_options:
        train, test = side(split=train_split), side(split=test_split)
    else:
        train, test = side(), None
    return _as_data_set(name, train, test, augment and issubclass(dataset_class, tv.CIFAR10), reading)


def _as_data_set(name: str, train: Any, test: Any, augment: bool, reading: Reading) -> DataSet:
    sides = [_side(train, name, reading), *([] if test is None else [_side(test, name, reading)])]
    for which, side in zip(("training", "test"), sides, strict=False):
        if not len(side):
            raise ValueError(f"{name}: the {which} set is empty; give both sets at least one sample")
    renumber = reading.renumber_labels
    labels = numbered([side.y for side in sides], [len(side) for side in sides], name, renumber=renumber)
    samples = [Samples(x=side.x, y=y) for side, y in zip(sides, labels.sides, strict=True)]
    if test is None:
        samples = [samples[0].take(rows) for rows in stratified_split(labels.sides[0].numpy())]
    classes = labels.names or getattr(train, "classes", None)
    normalise = CHANNEL_STATISTICS.get(name, Normalise(mean=(0.5,), std=(0.5,)))
    return data_set(
        *samples,
        transform=Compose(steps=(ToUnit(), *(CROP_AND_FLIP if augment else ()), normalise)),
        eval_transform=unit_and_normalise(normalise.mean, normalise.std),
        num_classes=len(classes) if classes else None,
        label_names=labels.names,
        done=sides[0].done,
        reading=reading,
    )


def _side(dataset: Any, name: str, reading: Reading) -> Side:
    """Take the arrays of sets that keep them in memory, and read the others image by image."""
    if isinstance(dataset, _VisibleFolder):
        inputs = stacked_pictures([dataset.loader(path) for path, _ in dataset.samples], name, reading)
        return Side(x=inputs.values, y=np.asarray(dataset.targets), done=(inputs.done,))
    images: Any = getattr(dataset, "data", None)
    labels: Any = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if images is None or np.ndim(labels) != 1 or dataset.transform is not None:
        return side_of(dataset, name, reading)
    inputs = read_inputs(np.asarray(images), name, reading)
    return Side(x=inputs.values, y=np.asarray(labels), done=(inputs.done,))


class _VisibleFolder(tv.ImageFolder):  # type: ignore[misc]  # torchvision has no types
    """A folder of pictures per class, without hidden files and folders."""

    def __init__(self, root: str, **options: Any) -> None:
        def visible(path: str) -> bool:
            return not is_hidden(path, root) and has_file_allowed_extension(path, IMG_EXTENSIONS)

        super().__init__(root, is_valid_file=visible, **options)

    def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
        names = class_folders(Path(directory))
        return names, {name: number for number, name in enumerate(names)}


def _open(dataset_class: Any, root: str | None, download: bool, options: dict[str, Any]) -> Any:
    name = dataset_class.__name__.replace(_VisibleFolder.__name__, "ImageFolder")
    if root is None:
        raise ValueError(
            f"{name} is read from a local folder and no root is given; set root to the folder of its files"
        )
    folders = [Path(root), Path(root) / name]
    opened = plainly_read(dataset_class) if issubclass(dataset_class, tv.CIFAR10) else dataset_class
    failures: list[Exception] = []
    for folder in folders:
        try:
            return opened(str(folder), **options)
        except TypeError as error:
            raise ValueError(f"{name}: {error}; give it as an option of the data set") from error
        except (RuntimeError, FileNotFoundError) as error:  # torchvision raises either for missing files
            if issubclass(dataset_class, tv.ImageFolder) and folder.is_dir():
                raise ValueError(f"{name}, {folder}: {error}; put at least one picture into each folder") from error
            failures.append(error)
        except Exception as error:
            is_folder, is_option = issubclass(dataset_class, tv.ImageFolder), str(error).startswith("Unknown value")
            is_told = is_folder or is_option or isinstance(error, NotCifar)
            if isinstance(error, ValueError) and is_told:
                raise ValueError(f"{name}, {folder}: {error}") from error
            which = file_of(error, folder) or f"a file under {folder}"
            raise ValueError(
                f"{name}: {which} is broken or may not be read ({error!r}); unpack or download it again, or change its "
                f"permissions"
            ) from error
    if download:
        return dataset_class(root, download=True, **options)
    for folder in folders:
        if partly := _partly_there(dataset_class, folder):
            raise ValueError(
                f"{name}: {partly}; unpack the files again, or download them with download: true"
            ) from failures[0]
    there = "" if folders[0].is_dir() else f"; there is no folder {folders[0]}"
    fetch = ", or set download: true" if "download" in _parameters(dataset_class) else ""
    raise ValueError(
        f"{name} is not under {folders[0]} nor {folders[1]} ({failures[0]}{there}); put the files there as torchvision "
        f"lays them out{fetch}"
    ) from failures[0]


def _partly_there(dataset_class: Any, folder: Path) -> str:
    """Say which file of a set is missing or changed; nothing where none is there, or its class does not list them."""
    listed = getattr(dataset_class, "split_list", None)  # of SVHN: by side, with the address in front
    files = [(entry[1], entry[2]) for entry in listed.values()] if listed else []
    for side in ("train_list", "test_list"):  # of CIFAR
        files += [(f"{dataset_class.base_folder}/{entry[0]}", None) for entry in getattr(dataset_class, side, ())]
    there = [file for file, _ in files if (folder / file).is_file()]
    for file, checksum in files if there else ():
        if file not in there and not listed:  # the sides of SVHN are read one by one
            return f"{folder / file} is missing"
        if file in there and checksum and not check_md5(str(folder / file), checksum):
            return f"{folder / file} is broken: it is not the published file, by its checksum"
    return ""


def _is_pairs_of_image_and_label(candidate: Any) -> bool:
    if not inspect.isclass(candidate) or not issubclass(candidate, tv.VisionDataset):
        return False
    parameters = _parameters(candidate)
    return {"root", "transform", "target_transform"} <= parameters and not parameters & _OF_OTHER_PROBLEMS


def _parameters(dataset_class: Any) -> set[str]:
    """Return the names of a constructor's arguments, including those it passes to base classes by ``**kwargs``."""
    names: set[str] = set()
    for base in dataset_class.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}


class _Resize:
    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Any) -> Any:
        return image.convert("RGB").resize((self.side, self.side))


_LEFT_OUT = {"LSUNClass"}  # it has no labels, and unpickles a file of the working directory
_OURS = {"root", "train", "download", "transform", "target_transform", "loader"}
_OF_OTHER_PROBLEMS = {
    "transforms",
    "ann_file",
    "classes",
    "extensions",
    "frames_per_clip",
}  # detection, captions, video
