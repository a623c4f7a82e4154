"""A user's .npz and Parquet files: what they may hold, and what is said about those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raysplit.data.datasets import load_dataset
from raysplit.data.reading import Reading

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])
SPLIT = np.array(["train", "train", "train", "train", "test", "test"])
OWNER = np.array(["b", "b", "a", "a", "c", "c"])


def _npz(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def _parquet(folder: Path, **columns: Any) -> str:
    path = folder / "data.parquet"
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    return str(path)


@pytest.mark.parametrize("write", [_npz, _parquet])
def test_both_formats_give_the_same_samples_owners_and_sides(write: Any, tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path, x=X, y=Y, split=SPLIT, owner=OWNER))
    assert torch.equal(data.train.x, torch.arange(8.0).view(4, 2))
    assert data.train.y.tolist() == [0, 1, 0, 1]  # type: ignore[union-attr]
    assert torch.equal(data.test.x, torch.tensor([[8.0, 9.0], [10.0, 11.0]]))
    assert data.natural_owner is not None
    assert data.natural_owner.tolist() == ["b", "b", "a", "a"]
    assert (data.num_classes, data.input_shape) == (2, (2,))


def test_relative_paths_start_at_the_root(tmp_path: Path) -> None:
    _npz(tmp_path, x=X, y=Y, split=SPLIT)
    assert len(load_dataset("data.npz", root=str(tmp_path)).train) == 4


def test_without_split_a_fifth_of_each_class_is_held_out_and_owners_follow(tmp_path: Path) -> None:
    x, y = np.arange(100.0)[:, None], np.repeat([0, 1], 50)
    data = load_dataset(_npz(tmp_path, x=x, y=y, owner=np.arange(100) % 7))
    assert (len(data.train), len(data.test)) == (80, 20)
    assert torch.bincount(data.test.y).tolist() == [10, 10]  # type: ignore[arg-type]
    assert data.natural_owner is not None
    assert data.natural_owner.tolist() == [int(value) % 7 for value in data.train.x[:, 0]]


@pytest.mark.parametrize(
    ("shape", "input_shape"),
    [((20, 5, 7), (1, 5, 7)), ((20, 5, 7, 3), (3, 5, 7)), ((20, 3, 5, 7), (3, 5, 7)), ((20, 5, 7, 1), (1, 5, 7))],
)
def test_byte_images_become_channels_first(
    shape: tuple[int, ...], input_shape: tuple[int, ...], tmp_path: Path
) -> None:
    x = np.full(shape, 255, np.uint8)
    data = load_dataset(_npz(tmp_path, x=x, y=np.arange(20) % 2))
    assert (data.input_shape, data.train.x.dtype) == (input_shape, torch.uint8)
    assert data.transform(data.train.x, torch.Generator()).unique().tolist() == [1.0]


def test_nested_lists_and_input_shape_give_images(tmp_path: Path) -> None:
    images = np.arange(6 * 4, dtype=np.float64).reshape(6, 2, 2).tolist()
    data = load_dataset(_parquet(tmp_path, x=images, y=Y, split=SPLIT), input_shape=(1, 2, 2))
    assert data.train.x[1].tolist() == [[[4, 5], [6, 7]]]


def test_byte_images_in_parquet_are_writable_copies(tmp_path: Path) -> None:
    """Arrow's own memory is read-only, and torch warns of a tensor over such memory."""
    table = pa.table({"x": pa.array([[1, 2]] * 6, pa.list_(pa.uint8())), "y": Y, "split": SPLIT.tolist()})
    pq.write_table(table, tmp_path / "bytes.parquet")
    data = load_dataset("bytes.parquet", root=str(tmp_path), reading=Reading(values="pixels"))
    assert data.train.x.dtype == torch.uint8  # type: ignore[union-attr]


def test_mean_and_std_normalise(tmp_path: Path) -> None:
    data = load_dataset(_npz(tmp_path, x=X, y=Y, split=SPLIT), mean=(1.0,), std=(2.0,))
    assert data.transform(data.train.x[:1], torch.Generator()).tolist() == [[-0.5, 0.0]]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"y": Y}, r"has \['y'\] and no 'x'"),
    ({"x": X}, r"has \['x'\] and no 'y'"),
    ({"x": X, "y": Y[:5]}, r"y has shape \(5,\) and x has 6 samples"),
    ({"x": np.where(X == 3, np.nan, X), "y": Y}, "x has NaN or infinity in 1 of 6 samples"),
    ({"x": np.where(X == 3, np.inf, X), "y": Y}, "x has NaN or infinity in 1 of 6 samples"),
    ({"x": X, "y": Y[:, None]}, r"y has shape \(6, 1\), and without a task .* set task to"),
    ({"x": X, "y": np.where(Y == 1, np.nan, 0)}, "y is nan in row 1, and 2 more like it; give every sample a label"),
    ({"x": X, "y": np.array(list("ababab"))}, "y holds text such as 'a'; set data.renumber_labels: true"),
    ({"x": X, "y": Y - 1}, "y is -1 in row 0, and 2 more like it; .* set data.renumber_labels: true"),
    ({"x": X, "y": Y, "split": np.array(["train", "dev"] * 3)}, r"split has \['dev'\]"),
    ({"x": X, "y": Y, "split": np.array(["train"] * 6)}, "6 training and 0 test samples"),
    ({"x": X, "y": Y, "split": SPLIT[:5]}, r"split has shape \(5,\)"),
    ({"x": X, "y": Y, "split": SPLIT, "owner": OWNER[:2]}, r"owner has shape \(2,\)"),
    ({"x": np.arange(6.0), "y": Y}, r"x is float64 of shape \(6,\)"),
    ({"x": np.array([list("ab")] * 6), "y": Y}, "x is <U1"),
]


@pytest.mark.parametrize(("arrays", "says"), WRONG)
def test_wrong_arrays_are_refused_by_name(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"data.npz.*{says}"):
        load_dataset(_npz(tmp_path, **arrays))


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    data = load_dataset(_npz(tmp_path, x=X, y=Y.astype(np.float32), split=SPLIT))
    assert data.train.y.tolist() == [0, 1, 0, 1]  # type: ignore[union-attr]


def test_missing_values_and_ragged_lists_in_parquet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column x: lists have lengths"):
        load_dataset(_parquet(tmp_path, x=[[1.0], [1.0, 2.0]], y=[0, 1]))
    with pytest.raises(ValueError, match="column y: 1 value is missing"):
        load_dataset(_parquet(tmp_path, x=[[1.0], [2.0]], y=[0, None]))


def test_files_that_are_missing_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none\.npz"):
        load_dataset("none.npz", root=str(tmp_path))
    for name in ("bad.npz", "bad.parquet"):
        (tmp_path / name).write_bytes(b"not a file of this kind")
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_dataset(name, root=str(tmp_path))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    path = _npz(tmp_path, x=X, y=Y, split=SPLIT)
    with pytest.raises(ValueError, match=r"data.shape: .* has no such option; did you mean 'input_shape'"):
        load_dataset(path, shape=(1, 2))
    with pytest.raises(ValueError, match="an input has 2 values and input_shape is"):
        load_dataset(path, input_shape=(3, 3))
    with pytest.raises(ValueError, match="give both or neither"):
        load_dataset(path, mean=(0.5,))
