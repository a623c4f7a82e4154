"""Image-classification sets of torchvision by class name, from a local folder.

The names of the sets, and whether a set selects its sides by ``train`` or by ``split``, are read from torchvision's
classes. CIFAR statistics and augmentation are those of public split learning code (arXiv 2308.11953 and its
follow-up): crop of 32 after padding 4, horizontal flip, channel normalization. All other sets are scaled to [-1, 1].
"""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets as tv
from torch import Tensor

from raysplit.data.partition.stratify import stratified_split
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import checked_inputs, checked_labels, data_set, samples_of, unit_and_normalise
from raysplit.data.transforms import Compose, Normalise, RandomCrop, RandomHorizontalFlip, ToUnit

CHANNEL_STATISTICS = {
    "CIFAR10": Normalise(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "CIFAR100": Normalise(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}
CROP_AND_FLIP = (RandomCrop(padding=4), RandomHorizontalFlip())


def torchvision_names() -> list[str]:
    """Return the names of torchvision's sets of (image, label) pairs that are read from a folder."""
    return [name for name in tv.__all__ if _is_pairs_of_image_and_label(getattr(tv, name))]


def load_torchvision(
    name: str,
    root: str | None,
    download: bool,
    augment: bool,
    *,
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
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
        constructor_options: further arguments of the class.

    Raises:
        ValueError: when the files are missing or broken, or the labels are not class indices.
    """
    dataset_class = getattr(tv, name)
    arguments = _parameters(dataset_class)
    if unknown := sorted(set(constructor_options) - arguments):
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {sorted(arguments - _OURS)}")
    if image_size is not None:
        constructor_options["transform"] = _Resize(image_size)

    def side(**which: Any) -> Any:
        return _open(dataset_class, root, download and "download" in arguments, {**constructor_options, **which})

    if "train" in arguments:
        train, test = side(train=True), side(train=False)
    elif "split" in arguments and "split" not in constructor_options:
        train, test = side(split=train_split), side(split=test_split)
    else:
        train, test = side(), None
    return _as_data_set(name, train, test, augment and issubclass(dataset_class, tv.CIFAR10))


def _as_data_set(name: str, train: Any, test: Any, augment: bool) -> DataSet:
    whole = _samples(train, name)
    if test is None:
        assert isinstance(whole.y, Tensor)
        train_side, test_side = (whole.take(side) for side in stratified_split(whole.y.numpy()))
    else:
        train_side, test_side = whole, _samples(test, name)
    normalise = CHANNEL_STATISTICS.get(name, Normalise(mean=(0.5,), std=(0.5,)))
    return data_set(
        train_side,
        test_side,
        transform=Compose(steps=(ToUnit(), *(CROP_AND_FLIP if augment else ()), normalise)),
        eval_transform=unit_and_normalise(normalise.mean, normalise.std),
        num_classes=len(train.classes) if hasattr(train, "classes") else None,
    )


def _samples(dataset: Any, name: str) -> Samples:
    """Take the arrays of sets that keep them in memory, and read the others image by image."""
    images: Any = getattr(dataset, "data", None)
    labels: Any = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if images is None or np.ndim(labels) != 1 or dataset.transform is not None:
        return samples_of(dataset, name)
    x = checked_inputs(np.asarray(images), name)
    return Samples(x=x, y=checked_labels(np.asarray(labels), len(x), name))


def _open(dataset_class: Any, root: str | None, download: bool, options: dict[str, Any]) -> Any:
    name = dataset_class.__name__
    if root is None:
        raise ValueError(
            f"{name} is read from a local folder and no root is given; set root to the folder of its files"
        )
    folders = [Path(root), Path(root) / name]
    failures: list[Exception] = []
    for folder in folders:
        try:
            return _without_checksums(dataset_class)(str(folder), **options)
        except (RuntimeError, FileNotFoundError) as error:  # torchvision raises either for missing files
            failures.append(error)
        except TypeError as error:
            raise ValueError(f"{name}: {error}; give it as an option of the data set") from error
        except (KeyError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{name}: a file under {folder} is broken ({error!r}); unpack or download it again"
            ) from error
    if download:
        return dataset_class(root, download=True, **options)
    raise ValueError(
        f"{name} is not under {folders[0]} nor {folders[1]} ({failures[0]}); put the files there as torchvision lays "
        f"them out, or set download: true"
    ) from failures[0]


def _without_checksums(dataset_class: Any) -> Any:
    if not issubclass(dataset_class, tv.CIFAR10):
        return dataset_class
    # CIFAR files rebuilt from the same pixels have other bytes than the published pickles, so md5 would not match.
    unchecked = {
        side: [[file, None] for file, _ in getattr(dataset_class, side)] for side in ("train_list", "test_list")
    }
    return type(dataset_class.__name__, (dataset_class,), {**unchecked, "meta": {**dataset_class.meta, "md5": None}})


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


_OURS = {"root", "train", "download", "transform", "target_transform", "loader"}
_OF_OTHER_PROBLEMS = {
    "transforms",
    "ann_file",
    "classes",
    "extensions",
    "frames_per_clip",
}  # detection, captions, video
