"""Folders of pictures by side and class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysplit.data.datasets import load_dataset
from raysplit.data.samples import DataSet


def picture(path: Path, value: int, size: tuple[int, int] = (6, 4)) -> None:
    """A picture of one value, with its left half black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    pixels[:, : size[0] // 2] = 0
    Image.fromarray(pixels).save(path)


def load(folder: Path, **options: Any) -> DataSet:
    return load_dataset(f"folder:{folder}", **options)


def pets(folder: Path) -> None:
    for i in range(3):
        picture(folder / "train" / "cat" / f"{i}.png", 10 * i + 10)
        picture(folder / "train" / "dog" / f"{i}.png", 10 * i + 100)
    picture(folder / "test" / "dog" / "0.png", 200)


def test_sides_and_classes_are_folders(tmp_path: Path) -> None:
    pets(tmp_path)
    picture(tmp_path / "val" / "cat" / "0.png", 50)
    data = load(tmp_path)
    assert data.label_names == ("cat", "dog")
    assert data.train.y.tolist() == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]
    assert data.test.y.tolist() == [1]  # type: ignore[union-attr]
    assert data.val is not None
    assert data.input_shape == (3, 4, 6)
    assert data.train.x[3, 0, 0].tolist() == [0, 0, 0, 100, 100, 100]  # type: ignore[index, call-overload]


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path: Path) -> None:
    pets(tmp_path)
    picture(tmp_path / "train" / "cat" / "tall.png", 255, size=(4, 8))
    data = load(tmp_path, image_size=4)
    assert data.input_shape == (3, 4, 4)
    assert data.train.x[4, 0, 0].tolist() == [0, 0, 100, 100]  # type: ignore[index, call-overload]


def test_without_sides_a_share_is_held_out(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "cat" / f"{i}.png", i)
        picture(tmp_path / "dog" / f"{i}.png", i)
    data = load(tmp_path, test_fraction=0.5)
    assert (len(data.train), len(data.test)) == (4, 4)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load(tmp_path / "nothing")
    pets(tmp_path)
    picture(tmp_path / "train" / "cat" / "odd.png", 1, size=(5, 5))
    with pytest.raises(ValueError, match=r"has 6x4 pixels and .*odd\.png has 5x5 pixels; set data\.image_size"):
        load(tmp_path)
    picture(tmp_path / "test" / "cow" / "0.png", 1)
    with pytest.raises(ValueError, match="has the class 'cow', of which there are no training pictures"):
        load(tmp_path, image_size=4)
