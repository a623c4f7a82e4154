"""Whose test samples a model is evaluated on: everybody's, and owner by owner."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support import settings, train

import raysplit
from raysplit.actors.evaluation import Evaluation, Ownership, evaluate
from raysplit.actors.parts.losses import Loss, cross_entropy
from raysplit.algorithms.fedavg import LocalOnly
from raysplit.api import train_config
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit
from raysplit.models.spec import ModelSpec
from raysplit.training.controls import majority_accuracies
from raysplit.training.loop import run

OWNERS = 4
LEARNS: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [24]},
    "training": {"rounds": 10, "batch_size": 20, "optimizer": {"lr": 0.3}},
}
DIRICHLET = {"name": "dirichlet", "num_owners": 3, "alpha": 0.3}


@pytest.fixture(scope="module")
def own_labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four owners with the same inputs, each with a labelling of its own; test rows name their owner."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1200, 6)).astype(np.float32)
    owner = np.arange(1200) % OWNERS
    y = ((x[:, 0] > 0) * 2 + (x[:, 1] > 0) + owner) % OWNERS
    path = tmp_path_factory.mktemp("data") / "own.npz"
    np.savez(path, x=x, y=y, owner=owner, split=np.where(draw.random(1200) < 0.25, "test", "train"))
    return {"data": {"name": str(path)}, "partition": {"name": "natural_id", "num_owners": OWNERS}, **LEARNS}


# -- owners' own models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["local", "mtsl"])
def test_models_of_owners_are_tested_on_their_owners_samples(name: str, own_labels: dict[str, Any]) -> None:
    """Each was tested on everybody's samples, whose labels are another owner's: 0.25 where 0.9 is right."""
    row = train(algorithm={"name": name}, **own_labels).rows[-1]
    assert row["tested_on"] == "own"
    assert row["test_accuracy"] > 0.85
    assert row["test_accuracy"] == row["owner_accuracy"]
    assert 0.8 < row["min_accuracy"] <= row["owner_accuracy"]
    assert row["majority_accuracy"] < 0.35


def test_fedem_tests_each_mixture_on_its_owner(own_labels: dict[str, Any]) -> None:
    changes = own_labels | {"training": {**LEARNS["training"], "rounds": 1}}
    result = train(algorithm={"name": "fedem"}, **changes)
    setting = build(check_config(settings(algorithm={"name": "fedem"}, **changes))).begin().setting
    found = []
    for name, data in setting.owners.items():
        assert data.test is not None
        found.append(evaluate(setting.spec, [result.states[name]], data.test, ToUnit(), cross_entropy, seed=0))
    assert result.rows[-1]["test_accuracy"] == pytest.approx(sum(e.accuracy for e in found) / OWNERS)
    assert result.rows[-1]["tested_on"] == "own"


def test_owners_without_tests_count_in_no_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    owner = np.array(["a", "b", "c"])[np.arange(60) % 3]
    split = np.where((np.arange(60) < 15) & (owner != "b"), "test", "train")
    np.savez(tmp_path / "own.npz", x=x, y=y, owner=owner, split=split)
    data = {"data": {"name": str(tmp_path / "own.npz")}, "partition": {"name": "natural_id", "num_owners": 3}}
    for name in ("local", "fedavg"):
        row = train(algorithm={"name": name}, **data).rows[-1]
        assert row["owners_tested"] == 2
    assert "1 of 3 owners have no test samples of their own and count in no mean over owners: owner-1" in caplog.text


def test_where_nobody_knows_whose_samples_they_are_the_row_says_so() -> None:
    row = train(algorithm={"name": "local"}, partition={"name": "iid", "num_owners": 3}).rows[-1]
    assert row["tested_on"] == "all"
    assert "owner_accuracy" not in row
    assert row["min_accuracy"] <= row["test_accuracy"]


# -- models of all owners -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "partition",
    [
        DIRICHLET,
        {"name": "pathological", "num_owners": 3, "num_classes_per_partition": 2},
        {"name": "shard", "num_owners": 3, "num_shards_per_partition": 2},
        {"name": "noniid_ratio", "num_owners": 3, "ratio": 0.9},
    ],
    ids=lambda partition: str(partition["name"]),
)
def test_a_model_of_all_is_tested_on_all_samples_and_divided_by_owner(partition: dict[str, Any]) -> None:
    """The sums over the owners, and over what is nobody's, are those of everybody; one evaluation gives both."""
    experiment = build(check_config(settings(algorithm={"name": "fedavg"}, partition=partition)))
    result = asyncio.run(run(experiment, LocalCluster()))
    row, state = result.rows[-1], result.states["global"]
    setting = experiment.setting
    tests = [spec.arguments["samples"] for spec in setting.evaluators]
    whole = evaluate(setting.spec, [state], Samples.concatenated(tests), ToUnit(), cross_entropy, seed=3)
    assert row["tested_on"] == "all"
    assert row["test_accuracy"] == whole.accuracy
    shares = []
    for data in setting.owners.values():
        assert data.test is not None
        shares.append(evaluate(setting.spec, [state], data.test, ToUnit(), cross_entropy, seed=3))
    accuracies = [share.accuracy for share in shares]
    assert row["owner_accuracy"] == pytest.approx(np.mean(accuracies))
    assert row["min_accuracy"] == min(accuracies)
    assert row["owner_accuracy_sd"] == pytest.approx(np.std(accuracies))
    assert row["majority_accuracy"] == pytest.approx(np.mean([*majority_accuracies(setting.owners).values()]))
    assert local_accuracy(partition) > row["owner_accuracy"]  # the controls are of the same samples


def local_accuracy(partition: dict[str, Any]) -> float:
    row = train(algorithm={"name": "local"}, partition=partition, training__rounds=4).rows[-1]
    assert row["tested_on"] == "own"
    return float(row["test_accuracy"])


def distance(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loss of one's own, which is known for whole batches only."""
    return (output.argmax(1) - y).double().abs().mean()


@pytest.mark.parametrize("loss", [cross_entropy, distance])
def test_dividing_changes_neither_the_batches_nor_the_total(loss: Loss) -> None:
    """700 samples are three batches; a sample with -1 is nobody's."""
    draw = torch.Generator().manual_seed(0)
    samples = Samples(x=torch.randn(700, 4, generator=draw), y=torch.randint(3, (700,), generator=draw))
    spec = ModelSpec(name="mlp", input_shape=(4,), num_classes=3, options={"hidden": [5]}, seed=0)
    index = torch.arange(700) % 4 - 1
    state = spec.build().state_dict()
    plain = evaluate(spec, [state], samples, ToUnit(), loss, seed=0)
    found = evaluate(
        spec, [state], samples, ToUnit(), loss, seed=0, ownership=Ownership(names=("a", "b", "c"), index=index)
    )
    assert (found.num_samples, found.num_correct, found.loss_sum) == (700, plain.num_correct, plain.loss_sum)
    assert list(found.by_owner) == ["a", "b", "c"]
    for owner, name in enumerate("abc"):
        own = evaluate(spec, [state], samples.take((index == owner).nonzero()[:, 0]), ToUnit(), loss, seed=0)
        assert found.by_owner[name].num_correct == own.num_correct
        assert found.by_owner[name].loss_sum == pytest.approx(own.loss_sum, rel=1e-6)


def test_the_run_folder_has_the_last_evaluation_by_owner(tmp_path: Path) -> None:
    config = settings(algorithm={"name": "fedavg"}, partition=DIRICHLET)
    train_config(check_config(config), folder=tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "owners.parquet").to_pylist()
    last = json.loads((tmp_path / "run" / "summary.json").read_text())["last"]
    assert [row["owner"] for row in table] == ["owner-0", "owner-1", "owner-2"]
    assert sum(row["test_samples"] for row in table) == 60
    assert sum(row["train_samples"] for row in table) == 240
    assert sum(row["test_accuracy"] * row["test_samples"] for row in table) / 60 == pytest.approx(last["test_accuracy"])
    assert min(row["test_accuracy"] for row in table) == last["min_accuracy"]


def test_dense_tasks_are_divided_by_their_loss() -> None:
    rooms = {
        "name": "rooms",
        "num_buildings": 3,
        "num_train": 4,
        "num_val": 1,
        "num_test": 2,
        "image_size": 16,
        "tasks": "sd",
    }
    row = train(
        data=rooms,
        model={"name": "mas", "width": 4},
        partition={"name": "natural_id", "num_owners": 3},
        algorithm={"name": "all_in_one"},
        training={"rounds": 1, "batch_size": 4, "loss": "task_sum"},
    ).rows[-1]
    assert row["owners_tested"] == 3
    assert row["owner_loss"] == pytest.approx(row["test_loss"], rel=1e-5)  # as many test pictures at each
    assert row["max_loss"] > row["owner_loss"]
    assert "test_accuracy" not in row


# -- owners whose inputs differ -----------------------------------------------------------------------------------


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


# -- methods of one's own -----------------------------------------------------------------------------------------


class Halves(LocalOnly):
    """A model for each half of the owners: that of the first of them."""

    def models(self) -> dict[str, Any]:
        names = list(self.setting.owners)
        return {f"half-{i}": [self.owner(names[2 * i]).weights()] for i in range(2)}

    def owners_of(self, label: str) -> list[str]:
        first = 2 * int(label.removeprefix("half-"))
        return list(self.setting.owners)[first : first + 2]


def test_an_algorithm_says_whose_its_models_are(own_labels: dict[str, Any]) -> None:
    """Owners 0 and 2 have models of their own labels; 1 and 3 are tested with them, whose labels are others."""
    result = raysplit.train(algorithm=Halves, cluster="local", **own_labels)
    row = result.rows[-1]
    assert (row["tested_on"], row["owners_tested"]) == ("own", OWNERS)
    assert row["test_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert row["min_accuracy"] < 0.1


def test_evaluations_of_owners_add_up() -> None:
    one = Evaluation(num_samples=2, num_correct=1, loss_sum=1.0)
    both = Evaluation(num_samples=4, num_correct=2, loss_sum=2.0, by_owner={"a": one}) + Evaluation(
        num_samples=4, num_correct=3, loss_sum=1.0, by_owner={"a": one, "b": one}
    )
    assert {name: e.num_samples for name, e in both.by_owner.items()} == {"a": 4, "b": 2}


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
