"""The record of a data set: what it holds, what is done with it, and problems that used to pass without a word."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from raysplit.data.labels import NO_LABEL
from raysplit.data.reading import Reading
from raysplit.data.record import MAX_OWNERS, data_record
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import data_set_from_arrays
from raysplit.data.transforms import ToUnit

Y = np.arange(40) % 4


def made(x: Any, y: Any = Y, **settings: Any) -> DataSet:
    return data_set_from_arrays(np.asarray(x), np.asarray(y), "mine", reading=Reading(**settings))


def problems(data: DataSet) -> list[str]:
    return list(data_record(data, "mine")["problems"])


def test_a_record_is_plain_and_says_what_is_done() -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
    x[0, 0, 0], x[1, 0, 0] = 0, 255
    data = made(x)
    owners = {"owner-0": np.arange(10), "owner-1": np.arange(10, 32)}
    record = json.loads(json.dumps(data_record(data, "mine", owners)))
    assert record["samples"] == {"train": 32, "test": 8}
    assert record["inputs"]["x"]["stored"] == "uint8"
    assert record["inputs"]["x"]["to_model"]["type"] == "float32"
    assert record["inputs"]["x"]["to_model"]["shape"] == [3, 6, 6]
    assert record["done"] == [
        "x: uint8 [6, 6, 3], pixels, divided by 255, channels moved from the last dimension to the first"
    ]
    assert record["targets"]["y"]["counts"] == {"train": [8, 8, 8, 8], "test": [2, 2, 2, 2]}
    assert record["owners"]["samples"] == {"owner-0": 10, "owner-1": 22}
    assert sum(record["owners"]["classes"]["owner-1"].values()) == 22
    assert record["problems"] == []


def test_of_many_owners_the_record_is_a_summary() -> None:
    data = made(np.zeros((40, 2)) + np.arange(40)[:, None] / 100)
    record = data_record(data, "mine", {f"owner-{i}": np.array([0]) for i in range(MAX_OWNERS + 1)})
    assert record["owners"] == {"num": MAX_OWNERS + 1, "smallest": 1, "largest": 1}


def test_a_class_that_never_occurs_is_told() -> None:
    """Labels 1..C made C + 1 classes, one of them dead, without a word."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    (problem,) = problems(made(x, Y + 1))
    assert "no sample of class 0, so that 1 of 5 outputs can never be right; set data.renumber_labels: true" in problem
    renumbered = made(x, Y + 1, renumber_labels=True)
    assert problems(renumbered) == []
    assert renumbered.num_classes == 4
    assert data_record(renumbered, "mine")["targets"]["y"]["names"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint16])
def test_pixels_that_are_not_scaled_are_told(dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(dtype)
    x[:, 0, 0] = 255
    (problem,) = problems(made(x))
    assert "whole numbers from 0 to 255, not scaled; set data.max_value (such as 255)" in problem
    assert problems(made(x, max_value=255)) == []
    assert problems(made(x, values="numbers")) == []


def test_labels_that_are_one_written_in_two_ways_are_a_problem() -> None:
    """A blank behind a label made it a class of its own, without a word."""
    names = np.array(["cat", "dog", "Dog "] * 10)
    data = data_set_from_arrays(
        np.random.default_rng(0).random((30, 2)), names, "x", reading=Reading(renumber_labels=True)
    )
    (problem,) = [text for text in data_record(data, "mine")["problems"] if "labels" in text]
    assert problem == "labels 'Dog ' and 'dog' differ in blanks or capitals alone; give both one name"


def test_inputs_that_say_nothing_are_told() -> None:
    white = np.full((40, 6, 6), 255, np.uint8)
    assert "every value of x is 255; look at the files" in problems(made(white))[0]
    dark = np.arange(40 * 36).reshape(40, 6, 6).astype(np.uint8) % 17
    assert "largest pixel of x is 16 of 255, so that inputs are 0.0627 at most" in problems(made(dark))[0]
    assert problems(made(dark, max_value=16)) == []


def test_missing_labels_are_counted_by_task() -> None:
    y = {"a": torch.tensor([0, 1, NO_LABEL]), "b": torch.tensor([1, 0, 1])}
    side = Samples(x=torch.rand(3, 2), y=y)
    data = DataSet(
        train=side,
        test=side.take([0, 1]),
        num_classes=2,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        classes={"a": ("n", "y"), "b": ("n", "y")},
    )
    record = data_record(data, "mine")
    assert record["targets"]["a"]["without_label"] == {"train": 1, "test": 0}
    assert record["problems"] == ["1 of 3 train samples have no label of task a; its loss and metrics leave them out"]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda x, gen: None, "returned NoneType; it must return a tensor"),
        (lambda x, gen: x[:1], r"made x of shape \(1, 2\) from 2 samples"),
        (lambda x, gen: {}["far"], r"failed: KeyError: 'far' \(test_record.py, line \d+\)"),
        (lambda x: x, "failed: TypeError"),
    ],
)
def test_what_a_transform_returns_is_checked(transform: Any, message: str) -> None:
    side = Samples(x=torch.rand(4, 2), y=torch.tensor([0, 1, 0, 1]))
    data = DataSet(train=side, test=side, num_classes=2, input_shape=(2,), transform=transform, eval_transform=ToUnit())
    with pytest.raises(ValueError, match=f"the training transform of the data {message}"):
        data_record(data, "mine")


def test_a_transform_that_makes_infinity_is_told() -> None:
    side = Samples(x=torch.rand(4, 2) + 1, y=torch.tensor([0, 1, 0, 1]))
    data = DataSet(
        train=side, test=side, num_classes=2, input_shape=(2,), transform=ToUnit(), eval_transform=lambda x, gen: x / 0
    )
    assert problems(data)[0] == "x reaches the model with NaN or infinity; look at the data and their transform"
    json.dumps(data_record(data, "mine"), allow_nan=False)


def test_labels_beyond_the_classes_are_refused_by_the_data_set() -> None:
    side = Samples(x=torch.rand(3, 2), y=torch.tensor([0, 5, 1]))
    with pytest.raises(ValueError, match="y of training sample 1 is 5 and there are 2 classes"):
        DataSet(train=side, test=side, num_classes=2, transform=ToUnit(), eval_transform=ToUnit())


def test_labels_that_are_learned_as_numbers_are_shown_as_numbers() -> None:
    """``raysplit inspect`` had a table of classes for the sizes of drawn objects."""
    side = Samples(x=torch.rand(3, 3), y={"scale": torch.tensor([0, 7, 2])})
    sides: dict[str, Any] = {"train": side, "test": side, "transform": ToUnit(), "eval_transform": ToUnit()}
    data = DataSet(**sides, num_classes=8, classes={"scale": tuple("abcdefgh")})
    assert data_record(data, "mine")["targets"]["scale"]["type"] == "class"
    assert data_record(data, "mine", kinds={"scale": "regression"})["targets"]["scale"]["range"] == {"test": [0, 7]}


def test_labels_of_a_task_that_is_said_are_missing_where_it_says_so() -> None:
    """Rows of two labels that are both 0 were told to have none, as the pixels of class 0 of a dense target have."""
    y = {
        "marks": torch.tensor([[0, 0], [1, 0]]),
        "shape": torch.tensor([1, NO_LABEL]),
        "size": torch.tensor([torch.nan, 1]),
    }
    side = Samples(x=torch.rand(2, 3), y=y)
    data = DataSet(
        train=side, test=side, num_classes=2, transform=ToUnit(), eval_transform=ToUnit(), classes={"shape": ("a", "b")}
    )
    kinds = {"marks": "multi_label", "shape": "classification", "size": "regression"}
    targets = data_record(data, "mine", kinds=kinds)["targets"]
    assert {name: record.get("without_label") for name, record in targets.items()} == {
        "marks": None,
        "shape": {"test": 1},
        "size": {"test": 1},
    }
