"""A folder of pictures by side and class: ``train/CLASS/*.png``, ``test/CLASS/*.png`` and, if wanted, ``val``.

Pictures are decoded once and kept as bytes, all in one size. A folder of classes without sides is the training side, of
which a share is held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from raysplit.data.failures import refuse_too_large
from raysplit.data.partition.stratify import TEST_FRACTION, stratified_split
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.pictures import class_folders, eight_bits, is_hidden, read_picture
from raysplit.data.transforms import Compose, Normalise, ToUnit
from raysplit.options import SideLength

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Ends of the names of pictures; other files are left out."""


def load_folder(
    folder: Path,
    *,
    image_size: SideLength | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = TEST_FRACTION,
) -> DataSet:
    """Load RGB pictures from folders of classes.

    Args:
        folder: folder with ``train`` and ``test``, or with the folders of the classes.
        image_size: side in pixels: the shorter side of a picture is scaled to it, and the middle is kept. None keeps
            pictures as they are, which must then have one size.
        test_fraction: share of every class that is held out where there is no folder ``test``.

    Raises:
        ValueError: for a folder that is not there or empty, pictures that cannot be read or differ in size, and classes
            of the test side without training pictures.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give the path of a folder with train/CLASS/ and test/CLASS/")
    has_sides = (folder / "train").is_dir()
    classes = class_folders(folder / "train" if has_sides else folder)
    train = _side(folder / "train" if has_sides else folder, classes, image_size)
    test = _side(folder / "test", classes, image_size) if has_sides and (folder / "test").is_dir() else None
    if test is None:
        assert isinstance(train.y, Tensor)
        kept, held_out = stratified_split(train.y.numpy(), fraction=test_fraction)
        train, test = train.take(kept), train.take(held_out)
    assert isinstance(train.x, Tensor)
    size = "" if image_size is None else f", shorter side scaled to {image_size}, the middle kept"
    transform = Compose(steps=(ToUnit(), Normalise(mean=(0.5,), std=(0.5,))))
    return DataSet(
        train=train,
        test=test,
        val=_side(folder / "val", classes, image_size) if has_sides and (folder / "val").is_dir() else None,
        num_classes=len(classes),
        input_shape=tuple(train.x.shape[1:]),
        transform=transform,
        eval_transform=transform,
        label_names=tuple(classes),
        done=(f"x: pictures of {len(classes)} classes{size}, divided by 255",),
    )


def _side(folder: Path, classes: list[str], image_size: int | None) -> Samples:
    if strange := [name for name in class_folders(folder) if name not in classes]:
        raise ValueError(
            f"{folder} has the class {strange[0]!r}, of which there are no training pictures (classes: "
            f"{', '.join(classes)}); add some, or take the folder away"
        )
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_hidden(path, folder)
    ]
    if empty := [name for label, name in enumerate(classes) if (folder / name).is_dir() and label not in _of(found)]:
        raise ValueError(f"{folder / empty[0]} has no picture ({', '.join(SUFFIXES)}); put one there, or remove it")
    if not found:
        raise ValueError(f"{folder} has no picture ({', '.join(SUFFIXES)}); put some into the folders of its classes")
    if image_size is not None:
        refuse_too_large(f"the {len(found):,} pictures of {folder}", len(found) * 3 * image_size**2, 1)
    pictures = [_picture(path, image_size) for path, _ in found]
    odd = next((i for i, picture in enumerate(pictures) if picture.shape != pictures[0].shape), None)
    if odd is not None:
        sizes = [f"{found[i][0]} has {pictures[i].shape[1]}x{pictures[i].shape[0]} pixels" for i in (0, odd)]
        raise ValueError(f"{' and '.join(sizes)}; set data.image_size to bring all to one size")
    x = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())  # [N, 3, H, W]
    return Samples(x=x, y=torch.tensor([label for _, label in found]))


def _of(found: list[tuple[Path, int]]) -> set[int]:
    return {label for _, label in found}


def _picture(path: Path, size: int | None) -> npt.NDArray[np.uint8]:
    """Read a picture as [H, W, 3], with its shorter side scaled and its middle kept."""
    pixels = eight_bits(read_picture(path))
    if size is None:
        return pixels
    image = Image.fromarray(pixels)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))
