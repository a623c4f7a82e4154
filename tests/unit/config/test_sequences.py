"""Samples of different lengths from a file to a trained model: padding, masks, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_support import sentences, text

import raysplit
from raysplit.config.build import build
from raysplit.config.run import RunConfig, check_config
from raysplit.data.datasets import load_dataset


def settings(path: str, **sections: Any) -> RunConfig:
    tree: dict[str, Any] = {
        "data": {"name": path},
        "model": {"name": "sequence_support:Reader"},
        "partition": {"name": "natural_id", "num_owners": 3},
        "algorithm": {"name": "splitfed_v1", "cut": "inner"},
        "training": {"rounds": 2, "batch_size": 8, "optimizer": {"name": "adam", "lr": 0.1}},
        "cluster": {"kind": "local"},
    }
    for key, value in sections.items():
        tree[key] = {**tree[key], **value}
    return check_config(tree)


def test_words_of_different_lengths_train_split_as_unsplit(tmp_path: Path) -> None:
    path = sentences(tmp_path)
    split = raysplit.train(settings(path))
    whole = raysplit.train(check_config(settings(path).model_dump(mode="json") | {"algorithm": {"name": "fedavg"}}))
    assert split.accuracy > 0.8
    for key, value in whole.model().state_dict().items():
        assert torch.equal(value, split.model().state_dict()[key]), key


def test_padding_follows_the_settings(tmp_path: Path) -> None:
    path = sentences(tmp_path)
    data = load_dataset(path)
    assert data.sizes == {"vocab_size": 9}
    assert data.inputs["ids"].shape == (None,)
    assert data.inputs["attention_mask"].role == "side"
    longest = build(settings(path)).setting.owners["owner-0"].shard
    fixed = build(settings(path, data={"pad_to": "max", "pad_multiple": 4})).setting
    assert longest.take([0]).x["ids"].shape[1] == int(longest.ragged["ids"].lengths[0])  # type: ignore[index]
    assert fixed.owners["owner-0"].shard.take([0]).x["ids"].shape[1] == 8  # type: ignore[index]
    assert dict(fixed.spec.inputs)["ids"].shape == (8,)
    cut = build(settings(path, data={"pad_to": 3, "truncate": True})).setting.owners["owner-1"].shard
    assert cut.take(range(5)).x["ids"].shape == (5, 3)  # type: ignore[index]


def test_methods_that_join_rows_of_owners_get_one_length(tmp_path: Path) -> None:
    path, joined = sentences(tmp_path), {"name": "minibatch_sfl", "cut": "inner"}
    assert dict(build(settings(path, algorithm=joined)).setting.spec.inputs)["ids"].shape == (7,)
    with pytest.raises(ValueError, match=r"minibatch_sfl joins their rows in one forward pass; set data\.pad_to: max"):
        build(settings(path, algorithm=joined, data={"pad_to": "longest"}))


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"data": {"pad_to": 3}}, "of owner .* has the length 7 and data.pad_to is 3; set data.truncate: true"),
        (
            {"model": {"max_positions": 5}},
            r"ids of train sample \d+ of owner-\d has the length 7, padding included, and the model .* has 5 pos",
        ),
        (
            {"model": {"vocab_size": 7}},
            r"ids of train sample \d+ of owner-0, position \d, is the token [78] and the model",
        ),
        ({"model": {"name": "sequence_support:Blind"}}, "ids has tokens up to 8 and the model .* fails on that one"),
        ({"data": {"truncate": True}}, "does not say how many positions it has; set data.pad_to to a number"),
        ({"data": {"vocabulary": 6}}, r"ids of row \d+ of owner a, position \d, is the token \d; .* has 6, so give"),
        (
            {"data": {"vocabulary": 20}, "model": {"vocab_size": 9}},
            "the data have a vocabulary of 20 tokens and the model .* has 9; set its",
        ),
        ({"data": {"targets": ["z"]}}, "and no 'z'; name arrays that are there"),
    ],
)
def test_what_does_not_fit_is_refused(sections: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        build(settings(sentences(tmp_path), **sections))


def test_samples_are_cut_to_the_positions_of_the_model(tmp_path: Path) -> None:
    model, data = {"max_positions": 5}, {"truncate": True}
    shard = build(settings(sentences(tmp_path), model=model, data=data)).setting.owners["owner-0"].shard
    assert shard.ragged["ids"].longest == 5
    assert shard.ragged["attention_mask"].longest == 5


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ids_offsets": np.array([0, 5, 3])}, "ids_offsets: offsets fall from 5 to 3"),
        ({"ids_offsets": np.array([0, 5])}, "ids_offsets ends with 5 and ids has"),
        ({"ids": np.array([1, 2, -4]), "ids_offsets": np.array([0, 1, 3]), "y": np.array([0, 1]), "owner": None},
         "ids of row 1, position 1, is the token -4"),
        ({"ids": np.full(360, 0.5), "ids_offsets": np.arange(91) * 4}, "ids holds float64 values, and tokens are"),
        ({"attention_mask": np.ones((90, 7))}, "attention_mask of .* has the shape .* and ids has the shape"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = sentences(tmp_path, **changed)
    if changed.get("owner", "") is None:
        arrays = {key: value for key, value in np.load(path, allow_pickle=True).items() if key != "owner"}
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=says):
        load_dataset(path, **({"next_token": True} if "float64" in says else {}))


def test_a_wrong_mask_is_named_by_its_row_in_the_file_and_its_owner(tmp_path: Path) -> None:
    """A row was counted among the training samples, and its owner was not said."""
    path = tmp_path / "masked.npz"
    mask = np.ones((20, 4), bool)
    mask[17] = False
    arrays = {"ids": np.ones((20, 4), np.int64), "attention_mask": mask, "y": np.arange(20) % 2}
    np.savez(path, owner=np.repeat(["a", "b"], 10), **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attention_mask of row 17 of owner b has no 1"):
        load_dataset(str(path))


def test_tokens_for_another_model_are_refused(tmp_path: Path) -> None:
    config = text(tmp_path, {"name": "fedavg"})
    tree = config.model_dump(mode="json")
    tree["model"] = {"name": "cnn8"}
    with pytest.raises(ValueError, match="takes one floating input of a fixed shape and the data have x"):
        build(check_config(tree))


@pytest.mark.parametrize("tail", [{"tail": "drop"}, {"tail": "keep"}])
def test_a_split_language_model_has_the_bits_of_the_whole_one(tail: dict[str, Any], tmp_path: Path) -> None:
    """With windows of several lengths the model was tried on 16 tokens, which it refused with 8 positions."""
    split = raysplit.train(text(tmp_path, {"name": "splitfed_v1", "cut": "block1"}, **tail))
    whole = raysplit.train(text(tmp_path, {"name": "fedavg"}, **tail))
    assert split.rows[-1]["test_loss"] == whole.rows[-1]["test_loss"]
    for key, value in whole.model().state_dict().items():
        assert torch.equal(value, split.model().state_dict()[key]), key


def test_a_language_model_learns_from_joint_steps(tmp_path: Path) -> None:
    joined = raysplit.train(text(tmp_path, {"name": "minibatch_sfl", "cut": "block1"}, tail="keep"))
    losses = [row["train_loss"] for row in joined.rows if "train_loss" in row]
    assert losses[-1] < losses[0]
