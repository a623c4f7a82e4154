"""What must be exactly true of the split and federated methods, on the in-process cluster.

Statements of the form "this complicated thing equals that simple thing" for the methods around MiniBatch-SFL
(Huang, Tian, Tang 2023, arXiv 2308.11953) and SplitFed (Thapa et al. 2022, arXiv 2004.12088).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import BASE, distance, same, settings, train, weights

from raysplit.actors.parts.joint_step import JointRule, joint_gradients
from raysplit.actors.parts.losses import cross_entropy
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.seeding import generator

MOMENTUM = {
    "rounds": 2,
    "batch_size": 16,
    "local_epochs": 2,
    "owner_optimizer_state": "keep",
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
}
CNN = {"name": "resnet18", "dtype": "float32"}
SMALL_IMAGES = {"name": "random", "num_classes": 4, "num_samples": 50, "input_shape": [3, 32, 32], "seed": 2}
NUM_UNITS = 3  # of the base settings' network: 10-16-12-5


SENDING = {**BASE["model"], "send_inputs": ["x"]}  # what cut 0 needs, which leaves the owners nothing


def options(name: str, cut: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "cut": cut, **more}


@pytest.mark.parametrize("cut", [0, 1, 2, NUM_UNITS])
@pytest.mark.parametrize("name", ["fedavg", "splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl"])
def test_with_one_owner_every_method_is_centralised_training(name: str, cut: int) -> None:
    central = train(algorithm={"name": "centralised"}, partition__num_owners=1, training=MOMENTUM)
    split = train(algorithm=options(name, cut), model=SENDING, partition__num_owners=1, training=MOMENTUM)
    assert same(split, central)


@pytest.mark.parametrize("cut", ["layer1.0.bn1", "layer2.0.downsample.0", "layer4.1.conv1"])
def test_split_equals_unsplit_with_batch_norm_inside_residual_blocks(cut: str) -> None:
    """The named cuts lie inside blocks, so the shortcut's tensor crosses beside the main one."""
    changes: dict[str, Any] = {
        "model": CNN,
        "data": SMALL_IMAGES,
        "partition__num_owners": 1,
        "training": {**MOMENTUM, "rounds": 1, "local_epochs": 1},
    }
    central = train(algorithm={"name": "centralised"}, **changes)
    assert same(train(algorithm={"name": "minibatch_sfl", "cut": cut}, **changes), central)
    assert any("running_mean" in key for key in weights(central))


@pytest.mark.parametrize("cut", range(NUM_UNITS + 1))
def test_splitfed_v1_is_fedavg_at_every_cut(cut: int) -> None:
    """Momentum and weight decay included, optimisers restarting each round on both sides."""
    training = {**MOMENTUM, "owner_optimizer_state": "restart"}
    fedavg = train(algorithm={"name": "fedavg"}, training=training)
    assert same(train(algorithm=options("splitfed_v1", cut), model=SENDING, training=training), fedavg)


def test_concat_and_averaged_gradients_agree_without_batch_norm() -> None:
    concat = train(algorithm=options("minibatch_sfl", 1, server_forward="concat"))
    averaged = train(algorithm=options("minibatch_sfl", 1, server_forward="grad_avg"))
    assert 0 < distance(concat, averaged) < 1e-12


def test_concat_and_averaged_gradients_differ_with_batch_norm() -> None:
    """Statistics over the giant batch are not those of each owner's batch: the switch must be honoured."""
    changes: dict[str, Any] = {"model": CNN, "data": SMALL_IMAGES, "training__rounds": 1}
    concat = train(algorithm={"name": "minibatch_sfl", "cut": "layer1", "server_forward": "concat"}, **changes)
    averaged = train(algorithm={"name": "minibatch_sfl", "cut": "layer1", "server_forward": "grad_avg"}, **changes)
    assert distance(concat, averaged) > 1e-3


def test_gradients_of_each_client_equal_the_joint_ones_without_batch_norm() -> None:
    joint = train(algorithm=options("minibatch_sfl", 1))
    own = train(algorithm=options("minibatch_sfl", 1, grad_source="per_client"))
    assert distance(joint, own) < 1e-12


def test_giant_gradient_scale_is_the_owner_share_of_it() -> None:
    """With equal batches 'giant' is per-client-mean divided by the number of owners: multiply the rate back."""
    training = {"rounds": 1, "batch_size": 16, "optimizer": {"lr": 0.1}, "server_optimizer": {"lr": 0.1}}
    mean = train(algorithm=options("minibatch_sfl", 1), training=training)
    scaled = {**training, "optimizer": {"lr": 0.3}}
    giant = train(algorithm=options("minibatch_sfl", 1, client_grad_scale="giant"), training=scaled)
    assert distance(mean, giant) < 1e-12


@pytest.mark.parametrize("optimizer", [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}])
def test_synchronising_every_step_is_centralised_training_on_the_joined_batch(optimizer: dict[str, Any]) -> None:
    training = {"rounds": 1, "batch_size": 80, "shuffle": False, "optimizer": optimizer, "local_epochs": 3}
    split = train(algorithm=options("minibatch_sfl", 1, sync_every=1), training=training)
    joined = train(algorithm={"name": "centralised", "batch_factor": 3}, training=training)
    assert distance(split, joined) < 1e-12


@pytest.mark.parametrize("sync_every", [None, 2])
def test_with_an_empty_client_part_minibatch_sfl_is_centralised_large_batch_sgd(sync_every: int | None) -> None:
    """No owner part means nothing drifts: the server sees plain large-batch SGD however skewed the owners are."""
    training = {"rounds": 2, "batch_size": 80, "shuffle": False, "optimizer": {"lr": 0.1}}
    skewed = {"name": "noniid_ratio", "num_owners": 3, "ratio": 0.9}
    owners = {"algorithm": options("minibatch_sfl", 0, sync_every=sync_every), "model": SENDING}
    split = train(**owners, training=training, partition=skewed)
    joined = train(algorithm={"name": "centralised", "batch_factor": 3}, training=training, partition=skewed)
    assert distance(split, joined) < 1e-12


@pytest.mark.parametrize("name", ["minibatch_sfl", "splitfed_v1"])
def test_with_an_empty_server_part_it_is_fedavg(name: str) -> None:
    fedavg = train(algorithm={"name": "fedavg"})
    empty = train(algorithm=options(name, NUM_UNITS))
    assert same(empty, fedavg) if name == "splitfed_v1" else distance(empty, fedavg) < 1e-12


def test_identical_owners_stay_identical(tmp_path: Path) -> None:
    """Same data in the same order everywhere: averaging changes nothing and the run is that of one owner."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 10)).astype(np.float32), np.arange(48) % 5
    for copies in (1, 3):
        split = np.repeat(["train"] * copies + ["test"], 48)
        owner = np.repeat([*range(copies), 0], 48)
        np.savez(
            tmp_path / f"{copies}.npz",
            x=np.tile(x, (copies + 1, 1)),
            y=np.tile(y, copies + 1),
            owner=owner,
            split=split,
        )
    runs = {
        copies: train(
            algorithm=options("minibatch_sfl", 1),
            data={"name": str(tmp_path / f"{copies}.npz")},
            partition={"name": "natural_id", "num_owners": copies},
            training={"rounds": 2, "batch_size": 16, "shuffle": False, "optimizer": {"lr": 0.1}},
            evaluation={"divergence_every": 1},
        )
        for copies in (1, 3)
    }
    assert distance(runs[1], runs[3]) < 1e-12
    assert all(row["divergence_raw"] < 1e-24 for row in runs[3].rows)


@pytest.mark.parametrize(("name", "changes_with_order"), [("minibatch_sfl", False), ("splitfed_v2", True)])
def test_order_of_owners(name: str, changes_with_order: bool, tmp_path: Path) -> None:
    """Renaming owners permutes who comes first: sums must not care, sequential updates must."""
    rng = np.random.default_rng(1)
    x, y, owner = rng.normal(size=(96, 10)).astype(np.float32), np.arange(96) % 5, np.arange(96) % 3
    split = np.where(np.arange(96) < 84, "train", "test")
    results = []
    for permutation in ([0, 1, 2], [2, 0, 1]):
        path = tmp_path / f"{permutation[0]}.npz"
        np.savez(path, x=x, y=y, owner=np.array(permutation)[owner], split=split)
        results.append(
            train(
                algorithm=options(name, 1),
                data={"name": str(path), "mean": [0.0], "std": [1.0]},
                partition={"name": "natural_id", "num_owners": 3},
                training={"rounds": 1, "batch_size": 14, "shuffle": False, "optimizer": {"lr": 0.5}},
            )
        )
    assert (distance(*results) > 1e-6) is changes_with_order


def test_counters() -> None:
    """80 samples in batches of 16 are 5 steps: one per step for MiniBatch-SFL, one per owner and step otherwise."""
    steps = {
        name: train(algorithm=options(name, 1)).rows[0]["server_steps"]
        for name in ("minibatch_sfl", "splitfed_v1", "splitfed_v2", "splitnn")
    }
    assert steps == {"minibatch_sfl": 5, "splitfed_v1": 15, "splitfed_v2": 15, "splitnn": 15}


def test_traffic_of_a_round_is_what_the_method_says() -> None:
    """Per owner: activations and labels up, gradients down, and one exchange of the owner's part."""
    result = train(algorithm=options("minibatch_sfl", 1), training__rounds=1)
    link = {(t.source, t.destination): t for t in result.links}
    rows, width, part = 80, 16, 10 * 16 + 16  # 80 training samples per owner; part 0 is Linear(10, 16)
    assert link["owner-0", "server"].num_bytes == rows * width * 8 + rows * 4
    assert link["server", "owner-0"].num_bytes == rows * width * 8
    assert link["owner-0", "aggregator"].num_bytes == link["aggregator", "owner-0"].num_bytes == part * 8
    assert link["owner-0", "server"].num_messages == 2 * 5  # (z, y) is two values, five steps
    assert len(link) == 3 * 4


def test_dropout_is_the_same_wherever_the_model_is_cut() -> None:
    """Masks come from (owner, round, step, module), so a cut moves no mask."""
    model = {"name": "support:dropout_net", "dtype": "float64", "send_inputs": ["x"]}  # cut 1 has no weights in front
    whole = train(algorithm={"name": "centralised"}, partition__num_owners=1, model=model)
    for cut in (1, 2, 3, 4):
        split = train(algorithm={"name": "minibatch_sfl", "cut": cut}, partition__num_owners=1, model=model)
        assert same(split, whole)


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    assert same(train(), train())
    assert not same(train(), train(seed=4))


@pytest.mark.parametrize(
    "name", ["centralised", "local", "fedavg", "fedprox", "splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl"]
)
def test_every_method_learns(name: str) -> None:
    result = train(algorithm={"name": name}, training={"rounds": 6, "batch_size": 16, "optimizer": {"lr": 0.5}})
    assert result.rows[-1]["train_loss"] < 0.7 * result.rows[0]["train_loss"]


def test_fedprox_without_its_term_is_fedavg() -> None:
    assert same(train(algorithm={"name": "fedprox", "proximal_mu": 0.0}), train(algorithm={"name": "fedavg"}))
    assert not same(train(algorithm={"name": "fedprox", "proximal_mu": 1.0}), train(algorithm={"name": "fedavg"}))


def test_interleaved_order_differs_from_blockwise() -> None:
    blockwise = train(algorithm=options("splitfed_v2", 1, order="blockwise"))
    assert not same(train(algorithm=options("splitfed_v2", 1, order="interleaved")), blockwise)


@pytest.mark.parametrize("ratio", [0.0, 0.95])
def test_server_gradient_estimate_does_not_depend_on_skew(ratio: float) -> None:
    """Over one epoch of equal batches the server's joint gradients average to the gradient over all data, exactly.

    The owners' prefixes are equal here, as at the first step of a round; then skew leaves no trace at the server.
    """
    config = check_config(settings(partition={"name": "noniid_ratio", "num_owners": 3, "ratio": ratio}))
    setting = build(config).setting
    front, back = (TrainablePart(part, OptimizerSpec()) for part in setting.spec.parts((1,)))
    shards = [owner.shard for owner in setting.owners.values()]
    orders = [torch.from_numpy(generator(0, i).permutation(80)).split(16) for i in range(3)]
    for step in range(5):
        batches = [shard.take(order[step]) for shard, order in zip(shards, orders, strict=True)]
        zs = [front.predict(batch.x.double()) for batch in batches]
        joint_gradients(back, zs, [batch.y for batch in batches], cross_entropy, JointRule(), stream=0)
    estimate = [p.grad / 5 for p in back.module.parameters()]
    whole = setting.spec.parts((1,))[1]
    x, y = torch.cat([s.x for s in shards]).double(), torch.cat([s.y for s in shards])
    cross_entropy(whole(front.predict(x)), y).backward()
    for found, expected in zip(estimate, whole.parameters(), strict=True):
        torch.testing.assert_close(found, expected.grad, rtol=0, atol=1e-12)


def test_settings_are_what_they_say() -> None:
    """The base network has the units that the tests above count on."""
    assert settings()["model"]["hidden"] == [16, 12]
    assert {key.split(".")[0] for key in weights(train())} == {"hidden1", "hidden2", "output"}
    assert all(value.dtype == torch.float64 for value in weights(train()).values())


@pytest.mark.parametrize("num_servers", [2, 3])
def test_several_servers_act_as_one(num_servers: int) -> None:
    """MiniBatch-SFL up to rounding (gradients are summed in another order); SplitFed V1 to the last bit."""
    training = {**MOMENTUM, "owner_optimizer_state": "restart"}
    one, many = (
        train(algorithm=options("minibatch_sfl", 1, num_servers=n), training=training) for n in (1, num_servers)
    )
    assert 0 < distance(one, many) < 1e-12
    assert one.rows[0]["server_steps"] == many.rows[0]["server_steps"] == 10
    one, many = (train(algorithm=options("splitfed_v1", 1, num_servers=n), training=training) for n in (1, num_servers))
    assert same(one, many)


def test_servers_without_owners_in_the_cohort_sit_the_round_out() -> None:
    training = {"rounds": 3, "batch_size": 16, "cohort_size": 1, "optimizer": {"lr": 0.1}}
    for name in ("minibatch_sfl", "splitfed_v1"):
        one, many = (train(algorithm=options(name, 1, num_servers=n), training=training) for n in (1, 3))
        assert distance(one, many) < 1e-12


def with_a_small_owner(folder: Path, *sizes: int) -> dict[str, Any]:
    """Inputs that are zero, and a class that the last owner alone has: all that can be learned is how common it is."""
    total = sum(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x, y = np.zeros((total + 2, 10), np.float32), np.concatenate([owner == len(sizes) - 1, [0, 1]]).astype(np.int64)
    split = np.where(np.arange(total + 2) < total, "train", "test")
    path = folder / "small_owner.npz"
    np.savez(path, x=x, y=y, owner=np.concatenate([owner, [0, 0]]), split=split)
    return {"data": {"name": str(path)}, "partition": {"name": "natural_id", "num_owners": len(sizes)}}


@pytest.mark.parametrize(
    "options_", [{}, {"unequal": "proportional"}, {"server_forward": "grad_avg"}, {"num_servers": 2}], ids=str
)
def test_minibatch_sfl_weighs_every_sample_the_same(options_: dict[str, Any], tmp_path: Path) -> None:
    """Owners of 180 and 20 samples weighed the same at the server: it learned that every other sample is of class 1."""
    training = {"rounds": 40, "batch_size": 32, "optimizer": {"lr": 0.5}}
    algorithm = options("minibatch_sfl", 0, **options_)
    result = train(
        algorithm=algorithm, training=training, model__send_inputs=["x"], **with_a_small_owner(tmp_path, 180, 20)
    )
    learned = result.model()(torch.zeros(1, 10, dtype=torch.float64)).softmax(1)
    assert learned.detach()[0, 1].item() == pytest.approx(0.1, abs=0.012)


def test_rows_weigh_the_same_where_owners_visit_their_samples_equally_often(tmp_path: Path) -> None:
    """Then the giant batch has one mean over all rows, with the same bits as ever."""
    for sizes, alike in (((100, 100), True), ((100, 99), True), ((180, 20), False)):
        algorithm = build(
            check_config(settings(algorithm={"name": "minibatch_sfl"}, **with_a_small_owner(tmp_path, *sizes)))
        ).begin()
        context = algorithm.context(0, ["owner-0", "owner-1"])
        assert (context.row_weights == ()) is alike
    rows = [algorithm.local_training(n).num_rows(s, context.steps(n)) for n, s in (("owner-0", 180), ("owner-1", 20))]
    assert [w * r for w, r in zip(context.row_weights, rows, strict=True)] == pytest.approx([180, 20])


@pytest.mark.parametrize("num_servers", [2, 3])
def test_several_servers_act_as_one_for_unequal_owners(num_servers: int) -> None:
    unequal = {"name": "quantity", "num_owners": 3}
    one, many = (
        train(algorithm=options("minibatch_sfl", 1, num_servers=n), partition=unequal) for n in (1, num_servers)
    )
    assert 0 < distance(one, many) < 1e-12
