"""MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208): what must be exactly true of the trained weights."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from support import same, settings, train, weights

from raysplit.actors.records import StaleCall, StepId
from raysplit.cluster.links.tensors import num_bytes
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config

MODEL = {"name": "mlp", "hidden": [16, 14, 12, 10, 8], "dtype": "float64"}  # six units
TRAINING = {
    "rounds": 2,
    "batch_size": 16,
    "local_epochs": 2,
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
}
IMAGES = {"name": "random", "num_classes": 4, "num_samples": 48, "input_shape": [3, 32, 32], "seed": 2}


def mpsl(*cuts: int | str, **options: Any) -> dict[str, Any]:
    return {"name": "mpsl", "cuts": list(cuts), **options}


def run(algorithm: dict[str, Any], **changes: Any) -> Any:
    return train(**{"model": MODEL, "training": TRAINING, "algorithm": algorithm, **changes})


@pytest.fixture(scope="module")
def fedavg() -> Any:
    return run({"name": "fedavg"})


@pytest.mark.parametrize("cuts", [(1, 5), (2, 3), (1, 3, 5), (1, 2, 6), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6)])
def test_it_is_fedavg_for_every_number_of_nodes_and_cut_list(fedavg: Any, cuts: tuple[int, ...]) -> None:
    """Momentum, weight decay, two local epochs; a last cut behind unit 6 leaves the owner the loss alone."""
    assert same(run(mpsl(*cuts)), fedavg)


@pytest.mark.parametrize("nodes", [["c", "a", "b"], ["b", "c", "a"]])
def test_it_is_fedavg_for_every_order_of_nodes(fedavg: Any, nodes: list[str]) -> None:
    assert same(run(mpsl(1, 2, 4, 5, nodes=nodes)), fedavg)


@pytest.mark.parametrize("queue", ["fifo", "backward_first", "fair"])
def test_it_is_fedavg_for_every_queue(fedavg: Any, queue: str) -> None:
    assert same(run(mpsl(1, 3, 5, queue=queue)), fedavg)


def test_it_is_fedavg_when_owners_cut_and_hop_in_their_own_ways(fedavg: Any) -> None:
    routes = {
        "owner-1": {"cuts": [2, 4]},  # one hop
        "owner-2": {"cuts": [1, 2, 4, 6], "nodes": ["node-2", "spare", "node-1"]},
    }
    assert same(run(mpsl(1, 3, 5, owner_routes=routes)), fedavg)


def test_it_is_fedavg_with_cohorts_and_unequal_owners() -> None:
    changes: dict[str, Any] = {
        "partition": {"name": "dirichlet", "alpha": 0.5, "num_owners": 4},
        "training": {**TRAINING, "cohort_size": 2, "rounds": 3},
    }
    assert same(run(mpsl(1, 3, 5), **changes), run({"name": "fedavg"}, **changes))


@pytest.mark.parametrize("optimizer", [{"name": "adam", "lr": 0.01}, {"name": "rmsprop", "lr": 0.01}])
@pytest.mark.parametrize("state", ["restart", "keep"])
def test_it_is_fedavg_with_optimisers_that_have_state(optimizer: dict[str, Any], state: str) -> None:
    training = {**TRAINING, "optimizer": optimizer, "owner_optimizer_state": state}
    assert same(run(mpsl(1, 3, 5), training=training), run({"name": "fedavg"}, training=training))


@pytest.mark.parametrize("cuts", [("layer1", "layer3"), ("layer1.0.bn1", "layer2.0.downsample.0", "layer4.1.conv1")])
def test_it_is_fedavg_with_batch_norm_inside_residual_blocks(cuts: tuple[str, ...]) -> None:
    """Two tensors cross where a cut lies inside a block, from node to node as well."""
    changes: dict[str, Any] = {
        "model": {"name": "resnet18", "dtype": "float32"},
        "data": IMAGES,
        "partition__num_owners": 2,
        "training": {**TRAINING, "rounds": 1, "local_epochs": 1, "max_steps": 1, "batch_size": 8},
    }
    whole = run({"name": "fedavg"}, **changes)
    assert same(run(mpsl(*cuts), **changes), whole)
    assert any("running_mean" in key for key in weights(whole))


def test_one_owner_is_centralised_training_over_all_local_epochs() -> None:
    alone: dict[str, Any] = {"partition__num_owners": 1, "training__owner_optimizer_state": "restart"}
    assert same(run(mpsl(1, 2, 4), **alone), run({"name": "centralised"}, **alone))


def test_averaging_identical_replicas_changes_nothing() -> None:
    """Nobody learns at rate zero: three rounds of averaging leave the initial weights."""
    still = {**TRAINING, "optimizer": {"lr": 0.0}}
    once, thrice = (run(mpsl(1, 3, 5), training={**still, "rounds": rounds}) for rounds in (1, 3))
    assert same(once, thrice)


def test_traffic_of_a_batch() -> None:
    """Four transfers on the owner's link and two between the nodes; an activation and its gradient weigh the same.

    Units are 10-16-14-12-10-8-5, cuts after 16, 12 and 8; an owner has 80 samples in 5 batches of 8-byte numbers.
    """
    result = run(mpsl(1, 3, 5), training={**TRAINING, "rounds": 1, "local_epochs": 1})
    link = {(t.source, t.destination): (t.num_messages, t.num_bytes) for t in result.links}
    assert link["owner-0", "node-1"] == link["node-1", "owner-0"] == (5, 80 * 16 * 8)
    assert link["owner-0", "node-2"] == link["node-2", "owner-0"] == (5, 80 * 8 * 8)
    assert link["node-1", "node-2"] == link["node-2", "node-1"] == (3 * 5, 3 * 80 * 12 * 8)
    ends = 8 * (10 * 16 + 16 + 8 * 5 + 5)  # the owner's two parts travel once each way, the nodes' never
    assert link["owner-0", "aggregator"] == link["aggregator", "owner-0"] == (1, ends)
    assert len(link) == 3 * 6 + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cuts": [4]}, r"needs at least 2 cuts, got \[4\]; cuts: \[1, 3\] gives"),
        ({"cuts": [0, 2]}, r"cuts \[0, 2\] must rise and start at 1 or later"),
        ({"cuts": [1, 2, 2, 4]}, r"every node runs at least one unit; use fewer nodes or other cuts"),
        ({"cuts": [1, 3], "nodes": ["a", "b", "c"]}, r"3 compute nodes \['a', 'b', 'c'\] need 4 cuts"),
        ({"cuts": [1, 3, 4], "nodes": ["a", "a"]}, r"different names"),
        ({"cuts": [1, 9]}, r"no place to cut 9; "),
        (
            {"cuts": [1, 3], "owner_routes": {"owner-9": {"cuts": [1, 2]}}},
            r"names 'owner-9', which is not an owner; the 3 owners are owner-0",
        ),
        ({"cuts": [1, 3], "queue": "lifo"}, r"queue"),
        ({"cuts": "auto"}, r"cuts: auto is planned from topology"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run({"name": "mpsl", **options})


def deployed(algorithm: dict[str, Any], program: Any, **changes: Any) -> None:
    """Run ``program(algorithm, parties by name)`` with the algorithm deployed in this process."""
    config = check_config(settings(**{"model": MODEL, "training": TRAINING, "algorithm": algorithm, **changes}))

    async def main() -> None:
        made = build(config).begin()
        handles = await LocalCluster().deploy(made.parties())
        made.attach(handles)
        await program(made, {name: handle._party for name, handle in handles.items()})  # type: ignore[attr-defined]

    asyncio.run(main())


def test_an_owner_has_one_batch_in_flight() -> None:
    async def program(algorithm: Any, parties: Any) -> None:
        context = algorithm.context(0, ["owner-0", "owner-1"])
        node, z = parties["node-1"], torch.zeros(16, 16, dtype=torch.float64)
        node.begin(context)
        first, second = (StepId(owner="owner-0", round=0, step=step) for step in (0, 1))
        await node.forward(first, z)
        await node.forward(StepId(owner="owner-1", round=0, step=0), z)  # another owner's may be there too
        with pytest.raises(StaleCall, match="owner-0 has a batch in flight at node-1"):
            await node.forward(second, z)
        await node.backward(first, torch.zeros(16, 12, dtype=torch.float64))
        await node.forward(second, z)

    deployed(mpsl(1, 3, 5), program)


def test_a_node_holds_a_replica_of_its_part_for_each_owner() -> None:
    """Units are 10-16-14-12-10-8-5 wide; node 1 has 16 -> 14 -> 12, node 2 has 12 -> 10 -> 8, in 8-byte numbers."""

    async def program(algorithm: Any, parties: Any) -> None:
        await algorithm.round(algorithm.context(0, list(algorithm.setting.owners)))
        held = {
            name: sum(num_bytes(stage.part.weights()) for stage in parties[name]._stages.values())
            for name in ("node-1", "node-2")
        }
        assert held == {
            "node-1": 3 * 8 * (17 * 14 + 15 * 12),
            "node-2": 3 * 8 * (13 * 10 + 11 * 8),
        }

    deployed(mpsl(1, 3, 5), program)
