"""MTL-Split: training with heads on other nodes is training on one machine, bit for bit; the best state is kept.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import distance, same, weights
from torch import nn

from raysplit.actors.records import NonFiniteLoss, StepId
from raysplit.algorithms.mtl_split.mtl_split import MTLSplit, dealt
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.models.classifier.export import load_meta, load_serving
from raysplit.models.classifier.heads import MultiTaskClassifier
from raysplit.models.cutting.dropout import dropout_stream, seed_dropouts
from raysplit.runs.folder import RunFolder
from raysplit.runs.result import Result
from raysplit.seeding import generator
from raysplit.training.loop import run

TASKS = ["scale", "shape", "floor_hue"]
ADAMW = {"name": "adamw", "lr": 1e-3}


def settings(**changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "seed": 3,
        "model": {"name": "multi_task", "backbone": "small", "hidden": 16},
        "data": {"name": "shapes3d", "grid": "reduced", "tasks": TASKS, "num_train": 40, "num_test": 16},
        "partition": {"num_owners": 1},
        "algorithm": {"name": "mtl_split"},
        "training": {
            "rounds": 3,
            "batch_size": 16,
            "optimizer": ADAMW,
            "owner_optimizer_state": "keep",
            "lr_schedule": "step",
        },
        "cluster": {"kind": "local"},
    }
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        tree[section] = {**tree[section], leaf: value} if leaf else value
    return tree


def train(folder: Path | None = None, **changes: Any) -> Result:
    config = check_config(settings(**changes))
    written = RunFolder(folder) if folder is not None else None
    return asyncio.run(run(build(config), LocalCluster(), folder=written))


def joint(**changes: Any) -> Result:
    """The whole model at one owner, who knows nothing of splitting."""
    return train(**{"algorithm": {"name": "centralised"}, **changes})


@pytest.fixture(scope="module")
def on_one_machine() -> Result:
    torch.set_num_threads(1)  # as in every place; fixtures of a module come before those of its tests
    return joint(training__optimizer={**ADAMW, "weight_decay": 1e-5})


# --- split = joint -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_nodes", [None, 1, 2])
def test_split_training_gives_the_bits_of_joint_training(num_nodes: int | None, on_one_machine: Result) -> None:
    split = train(algorithm={"name": "mtl_split", "num_nodes": num_nodes})
    assert same(split, on_one_machine)
    assert split.rows[-1]["test_loss"] == on_one_machine.rows[-1]["test_loss"]


def test_joint_training_is_a_plain_loop_of_torch(on_one_machine: Result) -> None:
    """Written out with torch's own AdamW and StepLR; batches and dropout masks come from the run's streams."""
    config = check_config(settings())
    setting = build(config).setting
    shard, spec = setting.owners["owner-0"].shard, setting.spec
    model = spec.build().train()
    seed_dropouts(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    for epoch in range(3):
        order = generator(3, "owner-0", "round", epoch, "epoch", 0, "order").permutation(len(shard))
        for step, rows in enumerate(torch.from_numpy(order).split(16)):
            batch = shard.take(rows)
            with dropout_stream(StepId(owner="owner-0", round=epoch, step=step).stream(3, "dropout")):
                logits = model(batch.x.float() / 255)
            loss = sum(nn.functional.cross_entropy(logits[task], batch.y[task]) for task in TASKS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    assert same(model.state_dict(), weights(on_one_machine))


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [("mobilenet_v3_small", "pooled"), pytest.param("efficientnet_b0", "flat", marks=pytest.mark.slow)],
)
def test_batch_norm_and_stochastic_depth_stay_where_the_backbone_is(backbone: str, cut: str) -> None:
    changes: dict[str, Any] = {
        "model": {"name": "multi_task", "backbone": backbone, "hidden": 16, "cut": cut},
        "data": {"name": "shapes3d", "grid": "reduced", "num_train": 16, "num_test": 4, "val_fraction": 0.0},
        "training__batch_size": 8,
        "training__rounds": 2,
        "training__optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    }
    split = train(**changes)
    assert same(split, joint(**changes))
    assert any("running_mean" in key for key in weights(split))


def test_noise_is_the_same_on_one_machine_and_on_several() -> None:
    changes = {"data__noise": "gauss_0.08", "training__optimizer": {**ADAMW, "weight_decay": 0.0}}
    assert same(train(**changes), joint(**changes))


def test_with_one_task_it_is_single_task_training() -> None:
    """The network of one task, in a data set of three: the others' labels stay at the owner."""
    alone = train(model__tasks=["shape"])
    narrow = train(data__tasks=["shape"], training__optimizer={**ADAMW, "weight_decay": 1e-5})
    assert same(alone, narrow)
    assert sorted({key.split(".")[1] for key in weights(alone) if key.startswith("heads.")}) == ["shape"]
    up = next(link for link in alone.links if (link.source, link.destination) == ("owner-0", "heads-0"))
    assert up.num_bytes == 3 * 36 * (2048 * 4 + 4)


def test_a_bad_loss_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NonFiniteLoss, match=r"owner-0 sent heads-\d smashed data with NaN in round 1"):
        train(training__optimizer={"name": "sgd", "lr": 1e6})
    assert "never retrieved" not in capfd.readouterr().err


def test_a_frozen_backbone_stays_and_gets_no_gradients(tmp_path: Path) -> None:
    donor = build(check_config(settings(seed=8))).setting.spec.build()
    assert isinstance(donor, MultiTaskClassifier)
    torch.save(donor.backbone.state_dict(), tmp_path / "trunk.pt")
    model = {"name": "multi_task", "backbone": "small", "hidden": 16, "weights": str(tmp_path / "trunk.pt")}
    tuned = train(model=model)
    frozen = train(model={**model, "frozen": True})
    before = {f"backbone.{key}": value for key, value in donor.backbone.state_dict().items()}
    assert all(weights(frozen)[key].equal(value) for key, value in before.items())
    assert not any(weights(tuned)[key].equal(value) for key, value in before.items())
    back = [t for t in frozen.links if t.source.startswith("heads-") and t.destination == "owner-0"]
    assert back == []
    assert same(frozen, joint(model={**model, "frozen": True}, training__optimizer={**ADAMW, "weight_decay": 1e-5}))


def test_a_head_learns_from_its_own_task_alone() -> None:
    """With the backbone's rate at zero, nothing but its own labels reaches a head."""
    still = {"server_optimizer": ADAMW, "optimizer": {"name": "sgd", "lr": 0.0}}
    all_tasks, one_task = (
        train(model__tasks=tasks, training={**settings()["training"], **still}) for tasks in (TASKS, ["shape"])
    )
    head = [key for key in weights(all_tasks) if key.startswith("heads.shape.")]
    assert all(weights(all_tasks)[key].equal(weights(one_task)[key]) for key in head)
    assert distance({k: weights(all_tasks)[k] for k in head}, {k: weights(one_task)[k] for k in head}) == 0


def test_traffic_is_features_out_to_every_node_and_one_gradient_back() -> None:
    """36 training pictures per epoch, features of 2,048 floats; a node passes its sum on to the next."""
    links = {(t.source, t.destination): t for t in train(training__rounds=1).links}
    z = 36 * 2048 * 4
    for k in range(3):
        assert links["owner-0", f"heads-{k}"].num_bytes == z + 36 * 4
    assert links["heads-0", "heads-1"].num_bytes == links["heads-1", "heads-2"].num_bytes == z
    assert links["heads-2", "owner-0"].num_bytes == z
    assert ("heads-0", "owner-0") not in links


# --- the checkpoint ----------------------------------------------------------------------------------------------


def test_the_folder_holds_the_best_state_to_serve_and_the_last(tmp_path: Path) -> None:
    """A rate that is far too high makes an earlier epoch the best one."""
    training = {**settings()["training"], "optimizer": {"name": "adamw", "lr": 0.03}, "lr_schedule": "constant"}
    result = train(tmp_path / "run", training=training, data__val_fraction=0.3)
    losses = [row["val_loss"] for row in result.rows]
    best = losses.index(min(losses))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best"] == {"round": best + 1, "val_loss": min(losses)}
    assert summary["heads"] == {"heads-0": ["scale"], "heads-1": ["shape"], "heads-2": ["floor_hue"]}
    assert best < 2, "the case is that the last epoch is not the best"
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert same(last, result)
    serving = load_serving(tmp_path / "run")
    shorter = train(training={**training, "rounds": best + 1}, data__val_fraction=0.3)
    assert same(serving.model.state_dict(), weights(shorter))
    meta = load_meta(tmp_path / "run")
    assert meta.tasks == tuple(TASKS)
    assert meta.classes["shape"] == ("box", "cylinder", "sphere", "capsule")
    assert (meta.backbone, meta.hidden, meta.image_size, meta.cut) == ("small", 16, 64, "flat")


def test_without_validation_pictures_the_last_state_is_kept(tmp_path: Path) -> None:
    result = train(tmp_path / "run", data__val_fraction=0.0, model__cut="pooled")
    assert not (tmp_path / "run" / "last.pt").exists()
    assert same(load_serving(tmp_path / "run").model.state_dict(), weights(result))
    assert load_meta(tmp_path / "run").cut == "pooled"
    assert "val_loss" not in result.rows[0]


def test_what_is_remembered_of_the_best_state_can_be_recalled() -> None:
    config = check_config(settings())
    setting = build(config).setting
    first, second = (MTLSplit(setting, config.algorithm.resolved_options()) for _ in range(2))
    assert first.state_dict() == {}
    second.load_state_dict({"best": [0.5, 1, {"a": torch.ones(1)}]})
    assert second.chosen()["global"]["a"].item() == 1.0
    assert second.summary()["best"] == {"round": 2, "val_loss": 0.5}
    first.load_state_dict(second.state_dict())
    assert first.summary() == second.summary()


# --- figures -----------------------------------------------------------------------------------------------------


def test_every_task_has_its_own_figures() -> None:
    row = train().rows[-1]
    shares = [row[f"test_accuracy_{task}"] for task in TASKS]
    assert row["test_accuracy"] == pytest.approx(sum(shares) / 3)
    assert row["test_loss"] == pytest.approx(sum(row[f"test_loss_{task}"] for task in TASKS))
    assert {f"val_accuracy_{task}" for task in TASKS} <= row.keys()
    assert all(round(16 * share) == pytest.approx(16 * share) for share in shares)


def test_it_learns() -> None:
    """Hues are easy: a few epochs tell the floor's colour in rooms whose pairs of hues were never shown."""
    result = train(data__num_train=300, data__tasks=["floor_hue"], training__rounds=6)
    assert result.rows[-1]["train_loss"] < 0.5 * result.rows[0]["train_loss"]


def test_other_methods_train_the_same_model() -> None:
    """FedAvg keeps it whole; SplitFed V1 cuts it at 0, between backbone and heads, and is FedAvg."""
    changes = {"partition": {"num_owners": 2}, "training": {"rounds": 1, "batch_size": 8, "optimizer": {"lr": 0.05}}}
    fedavg = train(algorithm={"name": "fedavg"}, **changes)
    assert same(train(algorithm={"name": "splitfed_v1", "cut": 0}, **changes), fedavg)


def test_tasks_are_dealt_in_their_order() -> None:
    six = list("abcdef")
    assert dealt(six, 6) == (("a",), ("b",), ("c",), ("d",), ("e",), ("f",))
    assert dealt(six, 4) == (("a", "b"), ("c", "d"), ("e",), ("f",))
    assert dealt(six, 1) == (tuple(six),)


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition__num_owners": 2}, "one backbone at one data owner, and there are 2 owners"),
        ({"model__tasks": ["colour"]}, "have a class label for each of the tasks scale, shape, floor_hue"),
        ({"model": {"name": "cnn8"}}, "set model.name to multi_task"),
        ({"model__frozen": True}, "a frozen backbone without weights would stay random"),
        ({"model__cut": "middle"}, "model.cut: must be 'flat' or 'pooled'"),
        ({"model__backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"model__depth": 3}, "multi_task has no such option"),
        ({"data": {"name": "digits"}, "model": {"name": "cnn8"}}, "use data with several labels per image"),
        ({"data": {"name": "digits"}}, "use data with several labels per image"),
        ({"data__val_fraction": 1.0}, "set aside a share from 0 to less than 1"),
        ({"data__colour": "red"}, "shapes3d has no such option"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**changes)
