"""Drawn movements: the same for a seed, and read as a file of recordings is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raysplit.data.datasets import load_dataset
from raysplit.data.rendered.wrist import wrist_arrays


def test_the_drawing_is_what_its_file_would_be(tmp_path: Path) -> None:
    drawn = load_dataset("wrist", num_persons=3, num_held_out=1, num_windows=14)
    np.savez(tmp_path / "wrist.npz", **wrist_arrays(num_persons=3, num_held_out=1, num_windows=14))  # type: ignore[arg-type]
    read = load_dataset(str(tmp_path / "wrist.npz"))
    assert torch.equal(drawn.train.x, read.train.x)  # type: ignore[arg-type]
    assert drawn.input_shape == (6, 128)
    assert (len(drawn.train), len(drawn.test), drawn.num_classes) == (28, 14, 7)
    assert drawn.natural_owner is not None
    assert sorted(set(drawn.natural_owner.tolist())) == ["person-00", "person-01"]
    assert torch.bincount(drawn.test.y).tolist() == [2] * 7  # type: ignore[arg-type]


def test_persons_differ_and_seeds_too() -> None:
    one = wrist_arrays(num_persons=2, num_held_out=1, num_windows=7)
    assert not np.allclose(one["x"], one["x_test"])
    assert not np.allclose(one["x"], wrist_arrays(num_persons=2, num_held_out=1, num_windows=7, seed=1)["x"])


def test_somebody_is_left_to_train_on() -> None:
    with pytest.raises(ValueError, match="num_held_out is 2 and there are 2 persons; leave at least one"):
        load_dataset("wrist", num_persons=2, num_held_out=2)
