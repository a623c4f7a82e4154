"""Streamed files with targets of any task, one or several: the bits of the same samples in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import same
from torch import Tensor

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.reading import Reading
from raysplit.data.sources.shards import open_shards
from raysplit.runs.result import Result

SIZES = (21, 13, 9)
"""Training samples of each owner."""
KINDS = {"shape": "classification", "size": {"kind": "regression", "weight": 0.5}, "marks": "multi_label"}


def drawn(index: int, size: int) -> dict[str, Any]:
    """Samples that lack some classes and numbers; the last class is in training files alone."""
    draw = np.random.default_rng(index)
    x = draw.normal(size=(size, 4)).astype(np.float32)
    shape = draw.integers(0, 3 if index < 9 else 2, size)
    shape[::6] = -100
    number = np.where(np.arange(size) % 5 == 3, np.nan, x.sum(1))
    return {"x": x, "shape": shape, "size": number, "marks": (x[:, :2] > 0).astype(np.int64)}


def write(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path, row_group_size=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each owner, a folder of its own for each, and all samples in one archive."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    sides = [drawn(index, size) for index, size in enumerate(SIZES)]
    test = drawn(9, 12)
    for index, columns in enumerate(sides):
        write(folder / "train" / f"{index}.parquet", columns)
        write(folder / str(index) / "train" / "own.parquet", columns)
        write(folder / str(index) / "test.parquet", test)
    write(folder / "test.parquet", test)
    whole = {name: np.concatenate([columns[name] for columns in sides]) for name in test}
    whole |= {f"{name}_test": values for name, values in test.items()}
    np.savez(folder / "all.npz", **whole, owner=np.repeat(np.arange(3), SIZES))
    return folder


def train(data: dict[str, Any], **changes: Any) -> Result:
    settings: dict[str, Any] = {
        "data": data,
        "partition": {"name": "natural_id", "num_owners": 3},
        "model": {"name": "mlp", "hidden": [5]},
        "algorithm": {"name": "splitfed_v1", "cut": 1},
        "training": {"rounds": 2, "batch_size": 4, "shuffle": False, "optimizer": {"lr": 0.1}, "accumulate": 2},
        "cluster": "local",
    }
    return raysplit.train(**settings | changes)


def test_several_tasks_train_to_the_bits_of_the_same_samples_in_memory(root: Path) -> None:
    """Streamed files had one class label for each sample, and everything else was refused."""
    streamed = train({"name": "shards", "root": str(root), "tasks": KINDS})
    loaded = train({"name": str(root / "all.npz"), "inputs": ["x"], "tasks": KINDS})
    assert same(streamed, loaded)
    assert streamed.rows[-1]["test_loss"] == loaded.rows[-1]["test_loss"]
    assert streamed.rows[-1]["test_macro_f1_marks"] == loaded.rows[-1]["test_macro_f1_marks"]


def test_so_do_owners_that_open_a_folder_each(root: Path) -> None:
    sources = {f"clinic-{index}": {"name": "shards", "root": str(root / str(index))} for index in range(3)}
    own = train({"by_owner": sources, "tasks": KINDS})
    assert same(own, train({"name": "shards", "root": str(root), "tasks": KINDS}))


@pytest.mark.parametrize(
    ("target", "task"), [("size", "regression"), ("size", None), ("marks", "multi_label"), ("shape", "classification")]
)
def test_one_target_of_any_kind_does(target: str, task: str | None, root: Path, tmp_path: Path) -> None:
    for index in range(3):
        columns = drawn(index, SIZES[index])
        write(tmp_path / "train" / f"{index}.parquet", {"x": columns["x"], "y": columns[target]})
    test = drawn(9, 12)
    write(tmp_path / "test.parquet", {"x": test["x"], "y": test[target]})
    with np.load(root / "all.npz") as whole:
        named = {"x": "x", "y": target, "x_test": "x_test", "y_test": f"{target}_test", "owner": "owner"}
        np.savez(tmp_path / "all.npz", **{key: whole[name] for key, name in named.items()})
    more = {} if task is None else {"task": task}
    streamed = train({"name": "shards", "root": str(tmp_path)}, **more)
    loaded = train({"name": str(tmp_path / "all.npz")}, **more)
    assert same(streamed, loaded)
    assert streamed.rows[-1]["primary"] == loaded.rows[-1]["primary"]


def test_masks_have_the_classes_of_the_footers(tmp_path: Path) -> None:
    """The largest class of a mask stands in the footer; 255, which does not count, hides it."""
    masks = np.zeros((4, 2, 2), np.int64)
    for name, largest in (("test", 1), ("train/a", 6), ("train/b", 255)):
        masks[0, 0, 0] = largest
        write(tmp_path / f"{name}.parquet", {"x": np.zeros((4, 4)), "y": [mask.tolist() for mask in masks]})
    options: dict[str, Any] = {"input_shape": (1, 2, 2), "reading": Reading(task="segmentation")}
    found = open_shards(str(tmp_path), **options)
    assert found.outline.num_classes == 7
    taken = found.shards[1].take([0]).y
    assert isinstance(taken, Tensor)
    assert taken.tolist() == [[[255, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["shape", "seize"]}, r"test.parquet has the columns .* and lacks \['seize'\]; give x, shape and"),
        (
            {"tasks": {"shape": "classification"}, "num_classes": 3},
            r"num_classes is 3, and there are the targets shape",
        ),
        ({"tasks": {"shape": "classification"}, "num_classes": {"shap": 3}}, r"num_classes names 'shap'"),
        (
            {"tasks": {"shape": "classification"}, "num_classes": {"shape": 2}},
            r"0.parquet: column shape has the label 2 and there are 2 classes",
        ),
        ({"tasks": {"size": "classification"}}, r"test.parquet: size is nan in row 3, and 1 more like it; give every"),
        (
            {"tasks": {"shape": "multi_label", "size": "regression"}},
            r"test.parquet: shape is int64 of shape .* would fit",
        ),
    ],
)
def test_targets_that_do_not_fit_are_named(changes: dict[str, Any], message: str, root: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train({"name": "shards", "root": str(root), **changes})


def test_a_wrong_target_of_a_training_file_is_found_as_it_is_read(root: Path, tmp_path: Path) -> None:
    """The coordinator reads none of them; the message has the file, the row group, the row and the value."""
    for name in ("test", "train/a"):
        columns = drawn(0, 12)
        if name == "train/a":
            columns["marks"][7, 1] = 3
        write(tmp_path / f"{name}.parquet", columns)
    data = {"name": "shards", "root": str(tmp_path), "tasks": {"shape": "classification", "marks": "multi_label"}}
    with pytest.raises(ValueError, match=r"a.parquet, row group 1: marks, row 2, position 1: 3; labels are 0 or 1"):
        train(data, partition={"name": "natural_id", "num_owners": 1})


def test_the_sums_of_a_regression_are_checked_first(tmp_path: Path) -> None:
    for name in ("test", "train/a"):
        number = np.ones(12)
        number[5] = np.inf if name == "train/a" else 1.5
        write(tmp_path / f"{name}.parquet", {"x": drawn(0, 12)["x"], "y": number})
    data = {"name": "shards", "root": str(tmp_path)}
    settings = {"data": data, "partition": {"name": "natural_id", "num_owners": 1}, "model": {"name": "mlp"}}
    with pytest.raises(ValueError, match=r"a.parquet, row group 1: y, row 0: inf"):
        build(check_config(settings | {"task": "regression", "cluster": {"kind": "local"}}))
