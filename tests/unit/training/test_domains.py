"""Evaluation of owners whose inputs differ: every model on the samples as their owners see them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import settings

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit


def pictures() -> DataSet:
    """Four classes, each a bright corner of a 4x4 picture: easy for all once the pixels are in their places."""
    draw = torch.Generator().manual_seed(1)
    y = torch.arange(600) % 4
    x = 0.2 * torch.rand(600, 1, 4, 4, generator=draw)
    x[torch.arange(600), 0, 3 * (y // 2), 3 * (y % 2)] = 1
    every = Samples(x=x, y=y)
    sides = every.take(range(400)), every.take(range(400, 600))
    return DataSet(train=sides[0], test=sides[1], num_classes=4, transform=ToUnit(), eval_transform=ToUnit())


DOMAINS: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [32]},
    "partition": {"name": "iid", "num_owners": 4},
    "owners": {"domain": "permutation"},
    "training": {"rounds": 8, "batch_size": 20, "optimizer": {"lr": 0.2}},
    "cluster": "local",
}


def test_the_centralised_reference_sees_what_its_neighbours_see() -> None:
    """It saw all samples in the domain of owner 0 and was tested without any: 0.06, where local training has 0.9.

    With half of the owners in the negative, one model can learn both, if it sees both.
    """
    negatives = DOMAINS | {"owners": {"domain": "invert"}}
    central, alone = (
        raysplit.train(data=pictures(), algorithm={"name": name}, **negatives).rows[-1]
        for name in ("centralised", "local")
    )
    assert {row["tested_on"] for row in (central, alone)} == {"own"}
    assert {row["owners_tested"] for row in (central, alone)} == {4}
    assert alone["min_accuracy"] > 0.9
    assert central["min_accuracy"] > 0.9


def test_pooled_samples_are_transformed_as_their_owners_do() -> None:
    """Batches of 20 of 400 samples, shuffled; the third owner adds noise of its own."""
    config = settings(data={"name": "digits"}, owners={"domain": "invert", "noisy": 1, "pixel_noise": 0.5})
    original = build(check_config(config | {"algorithm": {"name": "centralised"}})).setting.owners
    algorithm = build(check_config(config | {"algorithm": {"name": "centralised"}})).begin()
    (party,) = algorithm.parties()
    owner = party.build(name=party.name, **party.arguments)
    shard = party.arguments["shard"]
    ends = np.cumsum([len(data.shard) for data in original.values()])
    seen = set()
    for _, batch in owner.batches(algorithm.context(0, [party.name])):
        for x, index in zip(batch.x, batch.indices.tolist(), strict=True):
            origin = int(np.searchsorted(ends, index, side="right"))
            expected = [*original.values()][origin].transform(shard.x[index : index + 1], torch.Generator())[0]
            assert torch.allclose(x, expected.double()) == (origin < 2)
            seen.add(origin)
    assert seen == {0, 1, 2}


def test_noise_of_some_owners_is_in_the_reference_too() -> None:
    noisy = DOMAINS | {"owners": {"noisy": 2, "pixel_noise": 2.0}}
    row = raysplit.train(data=pictures(), algorithm={"name": "centralised"}, **noisy).rows[-1]
    assert row["min_accuracy"] < 0.6
    assert row["owner_accuracy_sd"] > 0.1  # half of the owners see clean pictures


def test_a_division_by_class_holds_within_domains() -> None:
    """Everybody's samples as each owner sees them, and beside it each owner's own."""
    divided = DOMAINS | {"partition": {"name": "pathological", "num_owners": 4, "num_classes_per_partition": 2}}
    average = raysplit.train(data=pictures(), algorithm={"name": "fedavg"}, **divided).rows[-1]
    alone = raysplit.train(data=pictures(), algorithm={"name": "local"}, **divided)
    assert average["tested_on"] == "all"
    assert average["owner_accuracy"] != average["test_accuracy"]
    assert alone.rows[-1]["tested_on"] == "own"
    assert alone.rows[-1]["test_accuracy"] > 0.9


def test_objects_in_hand_may_say_whose_their_tests_are() -> None:
    """Owner ids of both sides are of one kind, one per sample."""
    data, owners = pictures(), np.array(["a", "b"])
    named = {"natural_owner": owners[np.arange(400) % 2], "test_owner": owners[(np.arange(200) > 0).astype(int)]}
    small = {**DOMAINS, "owners": {}, "partition": {"name": "natural_id", "num_owners": 2}}
    result = raysplit.train(data=replace(data, **named), algorithm="local", **small)
    assert (result.rows[-1]["tested_on"], result.rows[-1]["owners_tested"]) == ("own", 2)
    with pytest.raises(ValueError, match="owners of test samples are numbers and those of training samples are names"):
        replace(data, **named | {"test_owner": np.arange(200)})
    with pytest.raises(ValueError, match="3 owner ids for 200 test samples"):
        replace(data, **named | {"test_owner": np.arange(3)})
