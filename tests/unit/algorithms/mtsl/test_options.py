"""Owners that differ in architecture and rate, and that come and go, under one shared top (arXiv 2406.00150)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import distance, same, settings, train
from torch import Tensor

from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mtsl.joined_model import Grafted, crossing_shapes, graft
from raysplit.algorithms.mtsl.mtsl import MTSLOptions
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config

DEEP = {"model": "mlp", "hidden": [20, 24, 16], "cut": 3}
PLAIN = {"model": "mlp", "hidden": [16, 40], "cut": 1}
TASKS = {"name": "main_label", "num_owners": 3, "alpha": 0.5, "samples_per_owner": 40, "test_samples_per_owner": 20}


def mtsl(**options: Any) -> dict[str, Any]:
    return {"name": "mtsl", "cut": 1, **options}


def bottom_of(result: Any, owner: str) -> dict[str, Tensor]:
    return {key: value for key, value in result.states[owner].items() if key.startswith(("hidden1", "bottom"))}


def top_of(result: Any, owner: str) -> dict[str, Tensor]:
    return {key: value for key, value in result.states[owner].items() if not key.startswith(("hidden1", "bottom"))}


# -- bottoms ------------------------------------------------------------------------------------------------------


def test_bottoms_of_different_depth_train_under_one_top() -> None:
    result = train(algorithm=mtsl(bottoms=[DEEP, PLAIN]), training__rounds=6)
    assert set(bottom_of(result, "owner-0")) == set(bottom_of(result, "owner-2"))  # dealt out in turn
    assert len(bottom_of(result, "owner-0")) == 6
    assert len(bottom_of(result, "owner-1")) == 2
    assert same(top_of(result, "owner-0"), top_of(result, "owner-1"))
    assert result.rows[-1]["train_loss"] < result.rows[0]["train_loss"]


def test_the_own_architecture_spelt_out_changes_nothing() -> None:
    """PLAIN's first layer is drawn like that of the run's model, so this is the run without ``bottoms``."""
    spelt = {"model": "mlp", "hidden": [16, 12], "cut": 1}
    plain, grafted = train(algorithm=mtsl()), train(algorithm=mtsl(bottoms={"owner-1": spelt}))
    for name in ("owner-0", "owner-2"):
        assert same(plain.states[name], grafted.states[name])
    renamed = {key.removeprefix("bottom."): value for key, value in grafted.states["owner-1"].items()}
    assert same(plain.states["owner-1"], renamed)
    assert plain.rows[-1]["test_accuracy"] == grafted.rows[-1]["test_accuracy"]


def test_bottoms_are_evaluated_on_their_owners_tests_too() -> None:
    result = train(algorithm=mtsl(bottoms=[DEEP, PLAIN]), partition=TASKS)
    assert 0 <= result.rows[-1]["min_accuracy"] <= result.rows[-1]["test_accuracy"]


def test_a_bottom_that_does_not_fit_names_the_owner_and_both_shapes() -> None:
    wide = {"model": "mlp", "hidden": [24, 8], "cut": 1}
    with pytest.raises(ValueError, match=r"bottom of owner-1 in .*, mlp cut at 1, sends \(24,\).*takes \(16,\)"):
        train(algorithm=mtsl(bottoms={"owner-1": wide}))


def test_bottoms_of_strangers_are_refused() -> None:
    with pytest.raises(
        ValueError, match="bottoms names 'owner-7', which is not an owner; the 3 owners are owner-0, owner-1, owner-2"
    ):
        train(algorithm=mtsl(bottoms={"owner-7": PLAIN}))


def test_a_grafted_model_is_its_parts_in_a_row() -> None:
    config = check_config(settings())
    spec = build(config).setting.spec
    own = replace(spec, options={"hidden": [20, 16]})
    grafted = graft(own, 2, spec, 1, owner="owner-0")
    bottom, top = grafted.parts((1,))
    whole = grafted.build()
    assert isinstance(whole, Grafted)
    whole.load_state_dict({**bottom.state_dict(), **top.state_dict()})
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole(x), top(bottom(x)))
    assert crossing_shapes(grafted.shared, 1) == ((16,),)
    with pytest.raises(ValueError, match="can be cut at 1 only, where its bottom ends, got"):
        grafted.parts((2,))


def test_two_tensors_may_cross() -> None:
    """A cut inside a residual block: the owner's own bottom must send both."""
    config = check_config(
        settings(
            model={"name": "resnet18_cifar"},
            data={"name": "random", "num_classes": 4, "num_samples": 24, "input_shape": [3, 8, 8], "seed": 2},
        )
    )
    spec = build(config).setting.spec
    grafted = graft(spec, "stage1.block1.conv1", spec, "stage1.block1.conv1", owner="owner-0").build().eval()
    assert isinstance(grafted, Grafted)
    assert grafted(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert len(crossing_shapes(spec, "stage1.block1.conv1")) == 2


# -- batch norm at the top ----------------------------------------------------------------------------------------

IMAGES = {
    "model": {"name": "resnet18_cifar"},
    "data": {"name": "random", "num_classes": 4, "num_samples": 24, "input_shape": [3, 8, 8], "seed": 2},
    "training": {"rounds": 1, "batch_size": 4, "max_steps": 1},
}


def test_a_top_with_batch_norm_wants_the_choice_to_be_made() -> None:
    with pytest.raises(ValueError, match="server_forward to grad_avg"):
        train(algorithm={"name": "mtsl", "cut": 1}, **IMAGES)
    own = train(algorithm={"name": "mtsl", "cut": 1, "server_forward": "grad_avg"}, **IMAGES)
    joined = train(algorithm={"name": "mtsl", "cut": 1, "server_forward": "concat"}, **IMAGES)
    assert distance(own.states["owner-0"], joined.states["owner-0"]) > 1e-6


# -- rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "owners", [0.05, [0.05, 0.05, 0.05], {"owner-0": 0.05, "owner-1": 0.05, "owner-2": 0.05}], ids=str
)
def test_rates_may_be_given_in_three_ways(owners: Any) -> None:
    plain = train(algorithm=mtsl(), training={"rounds": 1, "optimizer": {"lr": 0.05}})
    given = train(algorithm=mtsl(learning_rates={"server": 0.05, "owners": owners}), training={"rounds": 1})
    assert all(same(plain.states[name], given.states[name]) for name in plain.states)


@pytest.mark.parametrize(
    ("owners", "words"), [([0.1], "1 rates for 3 owners"), ({"owner-9": 0.1}, "names 'owner-9'")], ids=str
)
def test_rates_that_fit_nobody_are_refused(owners: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(algorithm=mtsl(learning_rates={"owners": owners}))


def test_a_frozen_top_stays_and_the_bottoms_go_on() -> None:
    two = train(algorithm=mtsl(), training__rounds=2)
    frozen = train(algorithm=mtsl(freeze_server_from=2), training__rounds=4)
    assert same(top_of(frozen, "owner-0"), top_of(two, "owner-0"))
    assert not same(bottom_of(frozen, "owner-0"), bottom_of(two, "owner-0"))


# -- joining and leaving ------------------------------------------------------------------------------------------


async def _play(algorithm: Algorithm, num_rounds: int) -> dict[str, dict[str, Tensor]]:
    algorithm.attach(await LocalCluster().deploy(algorithm.parties()))
    for round in range(num_rounds):
        await algorithm.round(algorithm.context(round, algorithm.available(round)))
    return {name: await handle.weights() for name, handle in algorithm.handles.items()}


def play(num_rounds: int, **options: Any) -> tuple[Algorithm, dict[str, dict[str, Tensor]]]:
    setting = build(check_config(settings(algorithm={"name": "mtsl"}))).setting
    algorithm = resolve_algorithm("mtsl")(setting, MTSLOptions.model_validate({"cut": 1, **options}))
    return algorithm, asyncio.run(_play(algorithm, num_rounds))


def test_owners_join_and_leave_without_a_trace_in_others_bottoms_under_a_frozen_top() -> None:
    members = {"owner-0": {"leaves": 2}, "owner-2": {"joins": 1}}
    algorithm, early = play(2, members=members, freeze_server_from=0)
    _, late = play(4, members=members, freeze_server_from=0)
    assert same(early["owner-0"], late["owner-0"])  # gone after two rounds
    untouched = algorithm.setting.spec.parts((1,))[0].state_dict()
    _, before = play(1, members=members)
    assert same(before["owner-2"], untouched)  # not there yet
    _, alone = play(4, members={"owner-1": {"joins": 99}, "owner-2": {"joins": 99}}, freeze_server_from=0)
    _, all_there = play(4, freeze_server_from=0)
    assert same(alone["owner-0"], all_there["owner-0"])


def test_only_those_who_are_there_are_judged() -> None:
    result = train(algorithm=mtsl(members={"owner-1": {"leaves": 1}, "owner-2": {"joins": 1}}), training__rounds=2)
    assert list(result.states) == ["owner-0", "owner-2"]
    assert [row["num_owners"] for row in result.rows] == [2, 2]


def test_a_newcomer_may_begin_from_the_mean_of_the_others() -> None:
    rates = {"owners": {"owner-2": 0.0}}
    members = {"owner-2": {"joins": 2, "bottom": "mean"}}
    _, before = play(2, members=members, learning_rates=rates)
    _, after = play(3, members=members, learning_rates=rates)
    for key, value in after["owner-2"].items():
        torch.testing.assert_close(value, (before["owner-0"][key] + before["owner-1"][key]) / 2, rtol=0, atol=1e-15)


def test_a_mean_of_different_bottoms_is_refused() -> None:
    options = {"bottoms": [DEEP, PLAIN], "members": {"owner-2": {"joins": 1, "bottom": "mean"}}}
    with pytest.raises(ValueError, match="have different architectures"):
        train(algorithm=mtsl(**options))


def test_a_round_without_members_is_explained() -> None:
    members = {f"owner-{m}": {"leaves": 1} for m in range(3)}
    with pytest.raises(ValueError, match="no owner takes part in round 1"):
        train(algorithm=mtsl(members=members), training__rounds=2)


def test_members_must_be_owners() -> None:
    with pytest.raises(ValueError, match="members names 'owner-5'"):
        train(algorithm=mtsl(members={"owner-5": {}}))
