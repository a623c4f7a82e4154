"""Data sets of Hugging Face: columns by name, classes and types from their features."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raysplit.data.datasets import load_dataset
from raysplit.data.samples import DataSet

datasets = pytest.importorskip("datasets", reason="needs the extra datasets")


def load(made: Any, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    module = ModuleType("hubdata")
    module.make = lambda: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hubdata", module)
    return load_dataset("hubdata:make")


def reviews(num_rows: int = 20) -> Any:
    features = datasets.Features(
        {
            "input_ids": datasets.Sequence(datasets.Value("int32")),
            "label": datasets.ClassLabel(names=["bad", "good", "none"]),
            "owner": datasets.Value("string"),
        }
    )
    rows = {
        "input_ids": [list(range(1, 2 + i % 4)) for i in range(num_rows)],
        "label": [i % 2 for i in range(num_rows)],
        "owner": [f"shop-{i % 3}" for i in range(num_rows)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_lists_of_tokens_with_classes_and_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(datasets.DatasetDict({"train": reviews(), "test": reviews(6)}), monkeypatch)
    assert (len(data.train), len(data.test), data.num_classes) == (20, 6, 3)
    assert data.label_names == ("bad", "good", "none")
    batch = data.train.take([0, 2])
    assert batch.x["input_ids"].tolist() == [[1, 0, 0], [1, 2, 3]]  # type: ignore[index]
    assert batch.x["attention_mask"].tolist() == [[True, False, False], [True, True, True]]  # type: ignore[index]
    assert data.natural_owner is not None
    assert data.natural_owner.tolist()[:3] == ["shop-0", "shop-1", "shop-2"]


def test_pictures_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image.fromarray(np.full((4, 4), 10 * i, np.uint8)) for i in range(12)]
    rows = {"image": images, "age": np.linspace(0, 1, 12), "label": [i % 2 for i in range(12)]}
    whole = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    alone = load((whole.remove_columns("age"), whole.remove_columns("age")), monkeypatch)
    assert alone.input_shape == (3, 4, 4)
    both = load(whole, monkeypatch)
    assert both.inputs["image"].shape == (3, 4, 4)
    assert both.inputs["age"].dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"text": ["a", "b"], "label": [0, 1]}, "column 'text' is text, .*remove_columns"),
        ({"x": [[0.1], [0.2]], "z": [0, 1]}, "no column of .* is the target"),
        ({"label": [0, 1]}, "none of them is an input"),
    ],
)
def test_what_is_no_data_of_a_model_is_refused(rows: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=says):
        load(datasets.Dataset.from_dict(rows), monkeypatch)
