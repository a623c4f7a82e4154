"""What a served head says: a class, labels, or an estimate in the units of its targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raysplit.models.classifier.export import ServingMeta, Units, load_meta, load_serving, save_serving
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.answers import answer_of, in_words

KINDS = {"tags": "multi_label", "size": "regression"}
META = ServingMeta(
    backbone="small",
    image_size=16,
    hidden=4,
    cut="pooled",
    classes={"shape": ("disc", "square"), "tags": ("dark", "large"), "size": ("0",)},
    kinds={"tags": "multi_label", "size": "regression"},
    units={"size": Units(mean=(5.0,), std=(2.0,))},
)


def test_answers_by_hand() -> None:
    assert answer_of("size", torch.tensor([1.5]), META) == {"estimate": [8.0]}
    shape = answer_of("shape", torch.tensor([0.0, 0.0]), META)
    assert shape == {"class": "disc", "probability": 0.5}
    tags = answer_of("tags", torch.tensor([-1.0, 3.0]), META)
    assert tags["labels"] == ["large"]
    assert [in_words(each) for each in (shape, tags, {"estimate": [8.0]}, {"labels": []})] == [
        "disc 50%",
        "large",
        "8",
        "none",
    ]


def test_an_export_keeps_kinds_and_units(tmp_path: Path) -> None:
    counts = {task: len(names) for task, names in META.classes.items()}
    model = build_classifier("small", counts, image_size=16, seed=0, hidden=4, cut="pooled", kinds=KINDS)
    save_serving(tmp_path, model, META)
    assert load_meta(tmp_path).units == META.units
    assert load_serving(tmp_path).model.heads["size"](torch.zeros(1, 128)).shape == (1, 1)


def test_classes_alone_are_described_as_before(tmp_path: Path) -> None:
    """Earlier versions refuse unknown fields."""
    meta = META.model_copy(update={"kinds": {}, "units": {}, "classes": {"shape": ("disc", "square")}})
    save_serving(tmp_path, build_classifier("small", {"shape": 2}, image_size=16, seed=0, hidden=4, cut="pooled"), meta)
    assert not {"kinds", "units"} & json.loads((tmp_path / "serving.json").read_text()).keys()


def test_units_that_do_not_fit_are_refused() -> None:
    plain = META.model_dump()
    with pytest.raises(ValueError, match="regression 'size', and classes and units do not describe its outputs"):
        ServingMeta.model_validate(plain | {"units": {}})
    with pytest.raises(ValueError, match="regression 'size'"):
        ServingMeta.model_validate(plain | {"units": {"size": {"mean": (1.0, 2.0), "std": (1.0, 2.0)}}})
