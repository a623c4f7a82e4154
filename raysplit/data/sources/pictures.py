"""Picture files of 8 and of 16 bits, and folders of them with one folder per class.

Pillow cuts pictures of 16 bits off at 255 when it converts them to RGB; here they keep their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysplit.data.failures import reading
from raysplit.data.reading import Inputs, Reading, read_inputs

Pixels = npt.NDArray[Any]

DEPTH = 65535
"""Largest value of a pixel of 16 bits."""

_SIDES = {"train", "training", "test", "val", "valid", "validation"}
_REPAIR = "repair the picture, or take it away"


def read_picture(path: str | Path, size: int | None = None, resample: Any = Image.Resampling.BICUBIC) -> Pixels:
    """Read a picture as RGB [H, W, 3] of ``uint8``, or ``uint16`` where the file has 16 bits, resized to a square.

    Raises:
        ValueError: for a file that cannot be read, and pixels without a range (floating or of more than 16 bits).
    """
    with reading(path, _REPAIR), Image.open(path) as image:
        image.load()
        picture = image.copy()
    return picture_array(picture, str(path), size, resample)


def picture_array(image: Image.Image, source: str, size: int | None, resample: Any) -> Pixels:
    """Return an open picture as `read_picture` does."""
    if not image.mode.startswith(("I", "F")):
        rgb = image.convert("RGB")
        return np.asarray(rgb if size is None else rgb.resize((size, size), resample))
    deep = image.convert("F")
    pixels = np.asarray(deep)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > DEPTH:
        raise ValueError(
            f"{source} has pixels from {pixels.min():g} to {pixels.max():g} (mode {image.mode}) and no range "
            f"to scale by; store it with 8 or 16 bits, or give arrays and data.max_value"
        )
    if size is not None:
        pixels = np.asarray(deep.resize((size, size), resample)).clip(0, DEPTH).round()
    return np.repeat(pixels.astype(np.uint16)[..., None], 3, axis=2)


def eight_bits(picture: Pixels) -> npt.NDArray[np.uint8]:
    """Return a picture of `read_picture` with 8 bits."""
    return picture if picture.dtype == np.uint8 else (picture // 257).astype(np.uint8)


def stacked_pictures(pictures: Sequence[Pixels], source: str, rules: Reading) -> Inputs:
    """Convert pictures [H, W, 3] to inputs [N, 3, H, W]; where any has 16 bits, all become floats from 0 to 1.

    Raises ``ValueError`` for unequal sizes, and for settings that cannot hold for 8 and 16 bits alike.
    """
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) > 1:
        raise ValueError(
            f"{source}: inputs differ in shape, for example {shapes[0]} and {shapes[-1]}; "
            f"resize them to one shape (option image_size)"
        )
    rules = replace(rules, layout="channels_last")
    kinds = sorted({picture.dtype.name for picture in pictures})
    if kinds == ["uint16"] and rules.values is None:
        rules = replace(rules, values="pixels")
    if len(kinds) < 2:
        return read_inputs(np.stack(pictures), source, rules)
    if rules.max_value is not None or rules.values not in (None, "pixels"):
        key = "data.max_value" if rules.max_value is not None else "data.values"
        raise ValueError(f"{source} has pictures of 8 and of 16 bits, to which {key} cannot apply alike; leave it out")
    unit = [picture.astype(np.float32) / (255 if picture.dtype == np.uint8 else DEPTH) for picture in pictures]
    found = read_inputs(np.stack(unit), source, rules)
    return Inputs(
        values=found.values,
        done=f"x: pictures of 8 and of 16 bits, divided by 255 and {DEPTH}, channels moved to the front",
    )


def is_hidden(path: str | Path, below: str | Path) -> bool:
    """Return whether a file or folder below a folder belongs to another program, such as ``.ipynb_checkpoints``."""
    return any(part.startswith((".", "__")) for part in Path(path).relative_to(below).parts)


def class_folders(root: Path) -> list[str]:
    """Return the folders of classes, sorted, without hidden ones.

    Raises ``ValueError`` where there are none, or where they are named as sides are.
    """
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry, root))
    if not names:
        raise ValueError(f"{root} has no folders; put the pictures of each class into a folder of its own")
    if len(names) > 1 and {name.lower() for name in names} <= _SIDES:
        raise ValueError(
            f"{root} has the folders {', '.join(names)}, which are sides and no classes; set data.root to one of them "
            f"(a fifth is held out), or list all pictures in a table with a split column (data set image_table)"
        )
    return names
