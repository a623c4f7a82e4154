"""Masked language models: what is hidden, what is learned, and that cuts do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_support import sentences, text
from support import same

import raysplit
from raysplit.config.load_data import load
from raysplit.config.run import check_config
from raysplit.data.inputs import UNNAMED
from raysplit.data.sequences.masking import LEARNED, HideTokens, hide
from raysplit.data.transforms import KeepIds


def test_of_the_chosen_tokens_8_of_10_are_hidden_and_1_is_another() -> None:
    """Within four standard deviations, for a million tokens; only what is valid is chosen."""
    ids = torch.arange(10**6).reshape(1000, 1000) % 50
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[:, 900:] = False
    hidden, targets = hide(ids, valid, 0.15, 50, 50, torch.Generator().manual_seed(0))
    chosen = targets != -100
    assert torch.equal(targets[chosen], ids[chosen])
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert not chosen[:, 900:].any()
    num = int(chosen.sum())
    changed = (hidden != ids) & (hidden != 50)
    for found, total, share in (
        (num, 900_000, 0.15),
        (int((hidden == 50).sum()), num, 0.8),
        (int(changed.sum()), num, 0.1 * 49 / 50),
    ):
        assert abs(found - share * total) <= 4 * (share * (1 - share) * total) ** 0.5


def test_a_transform_hides_by_its_stream_and_gives_the_targets() -> None:
    transform = HideTokens(inner=KeepIds(), name=UNNAMED, share=0.5, mask_token=9, vocabulary=9)
    ids = torch.arange(24, dtype=torch.uint8).reshape(3, 8) % 9
    one, same_stream, other = (transform(ids, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert same(one, same_stream)
    assert not torch.equal(one[LEARNED], other[LEARNED])
    assert one[UNNAMED].dtype == one[LEARNED].dtype == torch.int64


def test_a_split_masked_model_has_the_bits_of_the_whole_one(tmp_path: Path) -> None:
    given = {"masked": 0.3, "length": 8}
    training = {"weight_by": "targets", "accumulate": 2}

    def trained(algorithm: dict[str, Any]) -> raysplit.Result:
        tree = text(tmp_path, algorithm, **given).model_dump(mode="json")
        return raysplit.train(check_config({**tree, "training": {**tree["training"], **training}}))

    whole, split = trained({"name": "fedavg"}), trained({"name": "splitfed_v1", "cut": "block1"})
    assert same(split.states["global"], whole.states["global"])
    assert split.rows[-1]["test_loss"] == whole.rows[-1]["test_loss"]
    assert split.states["global"]["embedding.tokens.weight"].shape[0] == 257


def test_samples_of_different_lengths_are_hidden_within_their_mask(tmp_path: Path) -> None:
    ids = np.load(sentences(tmp_path))
    arrays = {key: ids[key] for key in ("ids", "ids_offsets", "owner")}
    np.savez(tmp_path / "words.npz", **arrays)
    tree = {"data": {"name": str(tmp_path / "words.npz"), "masked": 0.4, "vocabulary": 9}, "task": "language_model"}
    data, again = load(check_config(tree)), load(check_config(tree))
    assert (data.num_classes, data.sizes["vocab_size"]) == (10, 10)
    assert isinstance(data.test.y, torch.Tensor)
    assert isinstance(again.test.y, torch.Tensor)
    assert torch.equal(data.test.y, again.test.y)
    assert 0 < int((data.test.y != -100).sum()) < len(data.test.y)
    batch = data.train.take([0, 1, 2])
    made = data.transform(batch.x, torch.Generator().manual_seed(0))
    padding = ~made["attention_mask"].bool()
    assert padding.any()
    assert (made[LEARNED][padding] == -100).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"masked": 0.1, "next_token": True}, "data.masked is 0.1 and data.next_token is true"),
        ({"mask_token": 3}, "data.mask_token is 3, and data.masked is not set"),
        ({"masked": 0.1, "mask": False}, "samples differ in length and have no attention_mask"),
        ({"masked": 0.1, "mask_token": 99}, "data.mask_token is 99, and the data have the tokens 0..8"),
    ],
)
def test_what_does_not_fit_is_refused(data: dict[str, Any], says: str, tmp_path: Path) -> None:
    tree = {"data": {"name": sentences(tmp_path), "inputs": ["ids"], "vocabulary": 9, **data}, "task": "language_model"}
    with pytest.raises(ValueError, match=says):
        load(check_config(tree))


def test_hidden_tokens_have_no_samples_set_aside(tmp_path: Path) -> None:
    tree = text(tmp_path, {"name": "fedavg"}, masked=0.3, validation=0.2).model_dump(mode="json")
    with pytest.raises(ValueError, match=r"with data\.masked training samples have other targets in every step"):
        raysplit.train(check_config(tree))
