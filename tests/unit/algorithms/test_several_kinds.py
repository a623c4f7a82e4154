"""Several tasks of different kinds on the same samples: classes and numbers, over cuts, on nodes and by owner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from disturbed import Killed, Killer
from support import distance, same
from torch import Tensor, nn

import raysplit
from raysplit.actors.parts.joint_step import JointRule, joint_gradients
from raysplit.actors.parts.losses import LOSSES
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.actors.records import StepId
from raysplit.actors.steps.micro import by_step
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit
from raysplit.models.classifier.heads import Heads
from raysplit.runs.result import Result
from raysplit.seeding import keyed_draws
from raysplit.tasks import ElementTask, SeveralTasks, make_task

WEIGHTED = {"shape": "classification", "size": {"kind": "regression", "weight": 0.25}}
HEADS = {"name": "multi_task", "backbone": "small", "cut": "pooled", "hidden": 8}
ADAMW = {"name": "adamw", "lr": 1e-2, "weight_decay": 1e-4}


class TwoAnswers(nn.Module):
    """An entry for each task, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * 16 * 16, 6)
        self.shape, self.size = nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = torch.relu(self.hidden(x.flatten(1)))
        return {"shape": self.shape(z), "size": self.size(z)}


def arrays(num: int = 40) -> dict[str, np.ndarray]:
    """Noise with a class and a number; every fifth sample has no number."""
    draws = np.random.default_rng(0)
    size = np.where(np.arange(num) % 5 == 4, np.nan, np.arange(num) / 7)
    x = draws.random((num, 3, 16, 16), np.float32)
    return {"x": x, "shape": np.arange(num) % 3, "size": size.astype(np.float32), "owner": np.arange(num) % 2}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    file = tmp_path_factory.mktemp("data") / "two.npz"
    np.savez(file, **arrays())
    return str(file)


def train(path: str, algorithm: Any, *, num_owners: int = 1, tasks: Any = WEIGHTED, **more: Any) -> Result:
    arguments: dict[str, Any] = {
        "seed": 1,
        "data": {"name": path, "tasks": tasks},
        "model": HEADS,
        "partition": {"name": "iid", "num_owners": num_owners},
        "algorithm": algorithm,
        "training": {"rounds": 2, "batch_size": 10, "optimizer": ADAMW, "owner_optimizer_state": "keep"},
        "cluster": "local",
    }
    return raysplit.train(**arguments | more)


@pytest.fixture(scope="module")
def whole(path: str) -> Result:
    return train(path, "centralised")


# -- equal bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_nodes", [None, 1])
def test_heads_of_different_kinds_on_nodes_are_the_whole_model(num_nodes: int | None, path: str, whole: Result) -> None:
    """A class and a number for each sample were told to set training.loss to task_sum, which knows neither."""
    split = train(path, {"name": "mtl_split", "num_nodes": num_nodes})
    assert same(split, whole)
    assert split.rows[-1]["test_loss"] == whole.rows[-1]["test_loss"]


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [6]}, TwoAnswers], ids=["side by side", "by name"])
def test_models_without_heads_are_cut_as_others(model: Any, path: str) -> None:
    """One tensor [N, 4] holds the logits of three classes and the estimate; a model may also name its answers."""
    cut = 1 if isinstance(model, dict) else "hidden"
    split = train(path, {"name": "splitfed_v1", "cut": cut}, num_owners=2, model=model)
    assert same(split, train(path, "fedavg", num_owners=2, model=model))
    assert {"test_accuracy_shape", "test_rmse_size"} <= split.rows[-1].keys()


def test_with_one_owner_joint_steps_are_centralized_training(path: str, whole: Result) -> None:
    assert same(train(path, {"name": "minibatch_sfl", "cut": 0}), whole)
    (own,) = train(path, {"name": "mtsl", "cut": 0}).states.values()
    assert same(own, whole.states["global"])


def test_kinds_that_are_said_leave_class_labels_their_bits(path: str, tmp_path: Path) -> None:
    """Labels alone need no kinds; with them they train to the same weights, and to the same figures of the tasks."""
    both = arrays() | {"size": np.arange(40) % 2}
    np.savez(tmp_path / "labels.npz", **both)
    data = {"name": str(tmp_path / "labels.npz"), "targets": ["shape", "size"]}
    plain = train("", "mtl_split", data=data)
    said = train(data["name"], "mtl_split", tasks=dict.fromkeys(("shape", "size"), "classification"))
    assert same(plain, said)
    assert plain.rows[-1]["test_accuracy"] == said.rows[-1]["test_accuracy"] == said.rows[-1]["primary"]
    assert said.rows[-1]["primary_metric"] == "accuracy"


def test_a_killed_run_goes_on_to_the_same_bits(path: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(path, "mtl_split", folder=tmp_path / "cut", callbacks=[Killer(1)])
    found, undisturbed = raysplit.resume(tmp_path / "cut"), train(path, "mtl_split")
    assert same(found, undisturbed)
    assert found.rows[-1]["test_rmse_size"] == undisturbed.rows[-1]["test_rmse_size"]


# -- micro-batches -----------------------------------------------------------------------------------------------------

MICRO = {"rounds": 2, "batch_size": 7, "accumulate": 3, "optimizer": ADAMW, "owner_optimizer_state": "keep"}


@pytest.mark.parametrize("num_nodes", [None, 1])
def test_heads_on_nodes_add_micro_batches_up_as_the_whole_model_does(num_nodes: int | None, path: str) -> None:
    """Accumulating was refused for several targets, whose batches have different numbers of each."""
    split = train(path, {"name": "mtl_split", "num_nodes": num_nodes}, training=MICRO)
    assert same(split, train(path, "centralised", training=MICRO))


@pytest.mark.parametrize(
    ("method", "model"),
    [
        ({"name": "splitfed_v1", "cut": "hidden"}, TwoAnswers),
        ({"name": "mpsl", "cuts": [1, 2]}, {"name": "mlp", "hidden": [6, 5]}),
    ],
    ids=["by name", "side by side"],
)
def test_cut_models_add_micro_batches_up_as_whole_ones_do(method: Any, model: Any, path: str) -> None:
    split = train(path, method, num_owners=2, model=model, training=MICRO)
    assert same(split, train(path, "fedavg", num_owners=2, model=model, training=MICRO))


def test_micro_batches_are_one_batch_of_all_their_rows(path: str) -> None:
    """Batches of 7 have 5 or 6 numbers: each task's loss is one mean over its targets in the step, no mean of means."""
    once: dict[str, Any] = {"rounds": 1, "local_epochs": 1, "shuffle": False, "optimizer": {"lr": 0.1}, "batch_size": 7}
    model = {"name": "mlp", "hidden": [6], "dtype": "float64"}
    small = train(path, "centralised", training=once | {"accumulate": 5}, model=model)
    large = train(path, "centralised", training=once | {"batch_size": 40}, model=model)
    assert distance(small, large) < 1e-12
    assert distance(train(path, "centralised", training=once, model=model), large) > 1e-6


def test_missing_labels_count_in_micro_batches_as_those_of_kinds_that_are_said(tmp_path: Path) -> None:
    both = arrays() | {"size": np.where(np.arange(40) % 5 == 4, -100, np.arange(40) % 2)}
    np.savez(tmp_path / "labels.npz", **both)
    data = {"name": str(tmp_path / "labels.npz")}
    plain = train("", "mtl_split", data=data | {"targets": ["shape", "size"]}, training=MICRO)
    kinds = dict.fromkeys(("shape", "size"), "classification")
    assert same(plain, train("", "mtl_split", data=data | {"tasks": kinds}, training=MICRO))


def test_a_loss_that_is_one_number_for_all_targets_does_not_add_up() -> None:
    step = StepId(owner="owner-0", round=0, step=0, num_micro=2)
    batch = SimpleNamespace(y={"s": torch.zeros(2), "d": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"training.accumulate .* is one number for the targets s, d together"):
        next(by_step([(step, batch)], LOSSES["task_sum"]))


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_the_tasks_own_means(path: str, whole: Result) -> None:
    """One full-batch step of SGD, written out: a missing number counts in neither sum."""
    once = {"rounds": 1, "local_epochs": 1, "batch_size": 40, "optimizer": {"name": "sgd", "lr": 0.1}, "shuffle": False}
    found = train(path, "centralised", training=once, model={"name": "mlp", "hidden": [6]}, folder=None)
    setting = build(check_config(_settings(path, once))).setting
    shard, model = setting.owners["owner-0"].shard, setting.spec.build()
    assert isinstance(shard.x, Tensor)
    assert isinstance(shard.y, Mapping)
    known = ~shard.y["size"].isnan()
    size = shard.y["size"][known].double()
    outputs = model(shard.x)
    standard = ((size - size.mean()) / size.std(correction=0)).float()
    loss = F.cross_entropy(outputs[:, :3], shard.y["shape"]) + 0.25 * F.mse_loss(outputs[known, 3], standard)
    loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(found.states["global"][name], weight.detach() - 0.1 * weight.grad)
    assert found.rows[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)


def _settings(path: str, training: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": 1,
        "data": {"name": path, "tasks": WEIGHTED},
        "model": {"name": "mlp", "hidden": [6]},
        "partition": {"num_owners": 1},
        "algorithm": {"name": "centralised"},
        "training": training,
        "cluster": {"kind": "local"},
    }


def test_owners_with_a_task_each_send_the_sum_of_their_own_losses() -> None:
    """MTSL: the shared part follows L_0 + L_1; each owner gets the gradient of its own loss alone."""
    with keyed_draws(1):
        heads = Heads(nn.ModuleDict({"shape": nn.Linear(4, 3), "size": nn.Linear(4, 1)})).double()
        zs = [torch.randn(n, 4, dtype=torch.float64) for n in (3, 5)]
    shape, size = torch.arange(3) % 3, torch.arange(5.0)
    ys = [
        {"shape": shape, "size": torch.full((3,), torch.nan)},
        {"shape": torch.full((5,), -100), "size": size},
    ]
    each: tuple[tuple[str, ElementTask], ...] = (
        ("shape", make_task("classification", 3)),
        ("size", make_task("regression", 1)),
    )
    part = TrainablePart(heads, OptimizerSpec())
    rule = JointRule(reduction="client_sum")
    found = joint_gradients(part, zs, ys, SeveralTasks(each=each, weights=(1.0, 1.0)), rule, stream=0)
    got = [weight.grad.clone() for weight in heads.parameters() if weight.grad is not None]
    heads.zero_grad()
    leaves = [z.clone().requires_grad_() for z in zs]
    own = [
        F.cross_entropy(heads(leaves[0])["shape"], shape),
        F.mse_loss(heads(leaves[1])["size"][:, 0], size.double()),
    ]
    (own[0] + own[1]).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(got, [weight.grad for weight in heads.parameters()])
    torch.testing.assert_close(found.gradients, tuple(leaf.grad for leaf in leaves))
    assert found.losses == pytest.approx([loss.item() for loss in own])


# -- tasks of owners ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", ["iid", "natural_id"])
def test_an_owner_learns_and_is_tested_on_its_own_task(partition: str, path: str, tmp_path: Path) -> None:
    found = train(
        path,
        {"name": "mtsl", "cut": 0, "reduction": "sum"},
        partition={"name": partition, "num_owners": 2},
        owners={"tasks": ["shape", "size"]},
        folder=tmp_path / "run",
    )
    assert found.rows[-1]["tested_on"] == "own"
    shapes, sizes = pq.read_table(tmp_path / "run" / "owners.parquet").to_pylist()
    assert shapes["test_loss_size"] is sizes["test_loss_shape"] is None
    assert found.rows[-1]["test_loss"] == pytest.approx(shapes["test_loss"] + sizes["test_loss"], rel=1e-12)


@pytest.mark.parametrize("name", ["minibatch_sfl", "splitfed_v1"])
def test_owners_with_a_task_each_train_one_model(name: str, path: str) -> None:
    found = train(path, {"name": name, "cut": 0}, num_owners=2, owners={"tasks": {"owner-1": "size"}})
    assert np.isfinite(found.rows[-1]["train_loss"])
    if name == "splitfed_v1":
        assert same(found, train(path, "fedavg", num_owners=2, owners={"tasks": {"owner-1": "size"}}))


def test_data_in_hand_say_their_tasks_by_their_types() -> None:
    """Whole numbers are classes and others numbers; a target that may be several things has to be said."""
    made = arrays()
    y = {"shape": torch.from_numpy(made["shape"]), "size": torch.from_numpy(made["size"])}
    unit = ToUnit()

    def data(**more: Tensor) -> DataSet:
        side = Samples(x=torch.from_numpy(made["x"]), y=y | more)
        return DataSet(train=side, test=side, num_classes=3, transform=unit, eval_transform=unit)

    found = train("", "centralised", data=data(), model=TwoAnswers)
    assert found.rows[-1]["task_metric_size"] == "rmse"
    with pytest.raises(ValueError, match=r"'place' of data .* is float32 of shape .1, 2.*data.tasks: \{place: regr"):
        train("", "centralised", data=data(place=torch.rand(40, 2)), model=TwoAnswers)
