"""Groups whose network differs from the merged one: where they begin, what they cost, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from disturbed import Killed, Killer
from mas_support import PLAIN, configured, rounds, same, same_models, states, train
from mas_support import with_algorithm as deployed
from torch import Tensor, nn

import raysplit
from raysplit.algorithms.mas.mas import MAS
from raysplit.api import train_config
from raysplit.cli.results.torch_program import program_of
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.models.dense.net import group_state
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints
from raysplit.training.recovery.recovery import fingerprint

OTHER = {"encoder": "mas_support:plain_encoder", "decoder": "mas_support:plain_decoder"}
MIXED = {"partition": [["s", "k"], ["d"]], "group_models": {"s+k": OTHER}}


async def _split(algorithm: MAS) -> Any:
    await rounds(algorithm, 0, 1)
    merged = (await states(algorithm))["s+d+k"]
    await algorithm.regroup(1)
    return merged, await states(algorithm), {group.label: group.recipe.spec for group in algorithm.groups}


def test_a_group_with_another_network_begins_from_the_seed_and_others_inherit() -> None:
    merged, groups, specs = deployed(_split, MIXED)
    assert same(groups["d"], group_state(merged, ["d"]))
    assert same(groups["s+k"], specs["s+k"].build().state_dict())
    assert dict(specs["s+k"].options)["encoder"] == "mas_support:plain_encoder"
    assert not any("running_mean" in name for name in groups["s+k"])


def test_it_trains_as_if_its_network_were_that_of_the_run() -> None:
    """From the round of the split on, bit for bit the federated averaging of its network on its tasks."""

    async def alone(algorithm: Any) -> dict[str, Tensor]:
        await rounds(algorithm, 1, 3)
        return dict(await algorithm.handles["aggregator"].current())

    async def whole(algorithm: Any) -> dict[str, dict[str, Tensor]]:
        await rounds(algorithm, 0, 3)
        return await states(algorithm)

    found = deployed(whole, MIXED | {"restart_schedule": False})
    network = {f"model__{key}": value for key, value in OTHER.items()}
    assert same(found["s+k"], deployed(alone, "fedavg", data__tasks="sk", **network))
    assert same(found["d"], deployed(whole, {"partition": MIXED["partition"], "restart_schedule": False})["d"])


def test_without_merged_rounds_every_group_may_have_its_own_from_the_first_round_on() -> None:
    own = {"merged_rounds": 0, "partition": [["s", "k"], ["d"]], "group_models": {"k+s": OTHER, "d": {}}}
    result = train(own)
    assert [row["num_groups"] for row in result.rows] == [2, 2, 2]
    network = {f"model__{key}": value for key, value in OTHER.items()}
    alone = train("all_in_one", data__tasks="sk", **network).states["global"]
    assert same(result.states["s+k"], alone)
    assert same(result.states["d"], train("all_in_one", data__tasks="d").states["global"])


def test_the_saved_models_are_built_with_their_networks(tmp_path: Path) -> None:
    """Also where the run is read from its folder, which failed for all groups of tasks."""
    train_config(configured(MIXED), folder=tmp_path / "run")
    loaded = raysplit.load(tmp_path / "run", trust=True)
    x = torch.rand(2, 3, 16, 16)
    for label, encoder in (("s+k", nn.Tanh), ("d", nn.ReLU)):
        model = loaded.model(label)
        assert isinstance(model.encoder[-1], encoder)
        assert same(model.state_dict(), loaded.states[label])
        assert list(model.eval()(x)) == label.split("+")


@pytest.mark.slow  # torch.export takes seconds
def test_the_model_of_a_group_is_written_as_a_program(tmp_path: Path) -> None:
    """It was taken for the model of all tasks."""
    result = train_config(configured(MIXED), folder=tmp_path / "run")
    program = program_of(tmp_path / "run", result.states["s+k"], label="s+k").module()
    x = torch.rand(2, 3, 16, 16)
    for task, output in result.model("s+k").eval()(x).items():
        torch.testing.assert_close(program(x)[task], output)


def test_a_model_of_all_tasks_is_read_from_its_folder(tmp_path: Path) -> None:
    train_config(configured("all_in_one", training__rounds=1), folder=tmp_path / "run")
    loaded = raysplit.load(tmp_path / "run", trust=True)
    assert same(loaded.model("global").state_dict(), loaded.states["global"])


def test_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Its checkpoint has weights of another form than the network of the run, under the same names."""
    more = {"owners__tasks": [["s", "d", "k"], ["s", "d"]], "training__owner_optimizer_state": "keep"}
    config, checkpoints = configured(MIXED, **more), Checkpoints(tmp_path)
    with pytest.raises(Killed):
        asyncio.run(run(build(config), LocalCluster(), checkpoints=checkpoints, callbacks=[Killer(2)]))
    start = checkpoints.newest(fingerprint(config.model_dump(mode="json")), {})
    assert start is not None
    found = asyncio.run(run(build(config), LocalCluster(), checkpoints=checkpoints, start=start))
    assert same_models(found.states, train(MIXED, **more).states)


def test_the_model_of_time_is_that_of_the_common_network() -> None:
    """Steps of another network cost something else; they count in the sums, and not in the fitted line."""

    async def work(algorithm: MAS) -> Any:
        await rounds(algorithm, 0, 3)
        return algorithm.ledger

    ledger = deployed(work, MIXED)
    common = [row for row in ledger.rows() if row["group"] != "s+k"]
    assert {row["group"] for row in common} == {"s+d+k", "d"}
    summary = ledger.summary()
    assert summary["model"]["training_hours"] == pytest.approx(sum(row["training_s"] for row in common) / 3600)
    assert summary["by_group"]["s+k"]["hours"] > 0
    assert len(ledger.rows()) == len(common) + 4


def test_memory_is_estimated_for_the_networks_of_the_groups() -> None:
    async def work(algorithm: MAS) -> Any:
        return [recipe.spec for recipe in algorithm.learners()]

    specs = deployed(work, MIXED)
    assert [(spec.tasks, dict(spec.options)["encoder"]) for spec in specs] == [
        (("s", "k"), "mas_support:plain_encoder"),
        (("d",), "mas_support:tiny_encoder"),
    ]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"s+d": {}}, r"s\+d is no group of partition; the groups are s\+k, d"),
        ({"s+k": {}, "k+s": {}}, r"s\+k names its group again"),
        ({"d": {"width": "wide"}}, r"group_models\.d: width: must be a valid number"),
        ({"d": {"width": -1, "encoder": "xception"}}, r"group_models\.d: width must be positive"),
        ({"d": {"widht": 1}}, r"mas has no such option; did you mean 'width'"),
        ({"d": {"encoder": "vgg"}}, r"unknown encoder 'vgg' \(one of xception, resnet18"),
        ({"d": {"tasks": "sd"}}, "they are those of the group; leave tasks out"),
        ({"d": {"name": "cnn8"}}, "the network 'cnn8' has no decoder for each task; take mas with other options"),
        ({"d": {"name": "mas_support:plain_net"}}, "is a Conv2d, and groups of tasks train one with an encoder"),
        ({"s+k": {"name": "mas_support:net_of_one"}}, "has decoders for s, and the group's tasks are s, k"),
    ],
)
def test_a_network_that_does_not_fit_its_group_is_refused(models: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train({"partition": [["s", "k"], ["d"]], "group_models": models})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group_models": {"s+k": PLAIN}}, "partition is affinity; name the groups in partition"),
        ({**MIXED, "new_tasks": {"d": 1}}, "its groups change when new_tasks join"),
        (
            {"partition": [["s", "d", "k"]], "group_models": {"s+d+k": {}}},
            r"the only group.*algorithm\.name: all_in_one",
        ),
    ],
)
def test_groups_with_networks_of_their_own_are_known_before(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        configured(options)


def test_inheritance_that_no_group_has_is_told() -> None:
    every = {"partition": [["s", "k"], ["d"]], "group_models": {"s+k": {}, "d": {}}, "inherit": "encoder"}
    options = configured(every).algorithm.resolved_options()
    assert options.idle() == {"inherit": "every group has a model of its own in group_models"}
