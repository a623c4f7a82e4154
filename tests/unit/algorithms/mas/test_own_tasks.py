"""Owners that have some of the tasks: whom a group is trained by, what is averaged over whom, and who measures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from disturbed import Killed, Killer
from mas_support import configured, rounds, same, same_models, states, train, with_algorithm
from torch import Tensor

from raysplit.actors.aggregation import weighted_mean
from raysplit.algorithms.mas.mas import MAS
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.data.labels import has_target
from raysplit.models.dense.net import decoder_state, encoder_state
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints
from raysplit.training.recovery.recovery import fingerprint

THREE = {"data__num_buildings": 3, "partition__num_owners": 3}
ONE_EACH = [["s"], ["d"], ["k"]]
PAIRS = [["s", "d"], ["d", "k"], ["s", "k"]]


def federated(tasks: str, cohort: list[str], num_rounds: int = 1) -> dict[str, Tensor]:
    """Federated averaging of these tasks' model by owners that have all of them."""

    async def work(algorithm: Any) -> dict[str, Tensor]:
        for number in range(num_rounds):
            rate = algorithm.lr_scale(number)
            await algorithm.round(algorithm.context(number, cohort, lr_scale=rate))
        return dict(await algorithm.handles["aggregator"].current())

    return with_algorithm(work, "fedavg", data__tasks=tasks, **THREE)


async def _trained(algorithm: Any) -> dict[str, dict[str, Tensor]]:
    await rounds(algorithm, 0, algorithm.setting.rounds)
    return await states(algorithm)


# -- training and averaging ------------------------------------------------------------------------------------------


def test_each_task_alone_is_federated_averaging_of_those_who_have_it() -> None:
    """Bit for bit, as if the others were not there."""
    own = [["s", "d"], ["d"], ["s", "k"]]
    alone = with_algorithm(_trained, "one_by_one", owners__tasks=own, **THREE)
    having = {"s": ["owner-0", "owner-2"], "d": ["owner-0", "owner-1"], "k": ["owner-2"]}
    for task, cohort in having.items():
        assert same(alone[task], federated(task, cohort, num_rounds=3))


def test_the_encoder_is_averaged_over_all_and_a_decoder_over_those_who_have_its_task() -> None:
    """An owner trains as if its own tasks were all; of what came of it, everybody's encoder goes into the mean."""
    own = [["s"], ["d", "k"], ["d", "k"]]
    found = with_algorithm(_trained, "all_in_one", owners__tasks=own, training__rounds=1, **THREE)["s+d+k"]
    parts = [federated("s", ["owner-0"]), federated("dk", ["owner-1"]), federated("dk", ["owner-2"])]
    assert same(encoder_state(found), weighted_mean([encoder_state(part) for part in parts], [1 / 3] * 3))
    assert same(decoder_state(found, "s"), decoder_state(parts[0], "s"))
    for task in "dk":
        mean = weighted_mean([decoder_state(part, task) for part in parts[1:]], [0.5, 0.5], [1, 2])
        assert same(decoder_state(found, task), mean)


@pytest.mark.parametrize("options", ["all_in_one", {"new_tasks": {"k": 1}, "trial_rounds": 1}])
def test_naming_all_tasks_for_every_owner_changes_no_bit(options: Any) -> None:
    usual = train(options, training__rounds=4)
    named = train(options, training__rounds=4, owners__tasks=[["k", "d", "s"]])
    assert same_models(usual.states, named.states)
    assert [row["bytes"] for row in usual.rows] == [row["bytes"] for row in named.rows]


def test_without_its_owners_a_group_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """A round that goes on without lost owners may be one without anybody for a group, or for one of its tasks."""

    async def work(algorithm: Any) -> list[dict[str, dict[str, Tensor]]]:
        await algorithm.regroup(0)
        found = [await states(algorithm)]
        await algorithm.round(algorithm.context(0, ["owner-0"]))
        return [*found, await states(algorithm)]

    named = {"merged_rounds": 0, "partition": [["s", "d"], ["k"]]}
    first, then = with_algorithm(work, named, owners__tasks=ONE_EACH, **THREE)
    assert same(first["k"], then["k"])
    assert "nobody with a task of k is left" in caplog.text
    assert same(decoder_state(first["s+d"], "d"), decoder_state(then["s+d"], "d"))
    assert not same(decoder_state(first["s+d"], "s"), decoder_state(then["s+d"], "s"))


def test_an_owner_gets_and_sends_its_own_decoders_alone() -> None:
    """So an owner of one task of three moves the bytes of one task's model, there and back."""
    result = train("all_in_one", owners__tasks=ONE_EACH, training__rounds=1, **THREE)
    state = result.states["global"]
    for number, task in enumerate("sdk"):
        size = sum(value.nbytes for value in (encoder_state(state) | decoder_state(state, task)).values())
        ends = {f"owner-{number}", "aggregator-s+d+k@0"}
        moved = [link.num_bytes for link in result.links if {link.source, link.destination} == ends]
        assert moved == [size, size]


# -- cohorts ---------------------------------------------------------------------------------------------------------


def test_a_cohort_is_drawn_for_each_group_among_those_who_have_one_of_its_tasks() -> None:
    """A round of two owners for each of two groups, of which one has three owners and the other two."""
    own = [["s"], ["d"], ["s", "k"], ["k"], ["d"]]
    five = {"data__num_buildings": 5, "partition__num_owners": 5, "training__cohort_size": 2}

    async def drawn(algorithm: MAS) -> Any:
        await algorithm.regroup(0)
        found = []
        for number in range(30):
            everybody = algorithm.drawn(number, list(algorithm.setting.owners))
            context = algorithm.context(number, everybody)
            found.append((everybody, [algorithm.context_of(group, context).cohort for group in algorithm.groups]))
        return found

    named = {"merged_rounds": 0, "partition": [["s", "k"], ["d"]]}
    found = with_algorithm(drawn, named, owners__tasks=own, **five)
    first, second = ({cohorts[i] for _, cohorts in found} for i in (0, 1))
    assert first == {("owner-0", "owner-2"), ("owner-0", "owner-3"), ("owner-2", "owner-3")}
    assert second == {("owner-1", "owner-4")}
    assert all(set(everybody) == {*cohorts[0], *cohorts[1]} for everybody, cohorts in found)
    assert all(list(everybody) == sorted(everybody) for everybody, _ in found)
    result = train(named, owners__tasks=own, **five)
    assert [row["num_owners"] for row in result.rows] == [len(everybody) for everybody, _ in found[:3]]


def test_groups_apart_have_copies_of_their_own_owners_alone() -> None:
    cluster = LocalCluster()
    train({"partition": [["s", "k"], ["d"]]}, cluster=cluster, owners__tasks=ONE_EACH, **THREE)
    assert sorted(name for name in cluster._handles if "@" in name) == [
        "aggregator-d@1",
        "aggregator-s+k@1",
        "owner-0@s+k@1",
        "owner-1@d@1",
        "owner-2@s+k@1",
    ]


# -- affinities ------------------------------------------------------------------------------------------------------


def test_a_pair_is_measured_by_those_who_have_both() -> None:
    async def measured(algorithm: MAS) -> Any:
        await rounds(algorithm, 0, 1)
        return algorithm.history, algorithm.tables()["owner_affinities.parquet"].to_pylist()

    (mean,), rows = with_algorithm(measured, owners__tasks=[["s", "d", "k"], ["s", "d"], ["k"]], **THREE)
    who = {(row["source"], row["recipient"]): [] for row in rows}
    for row in rows:
        who[row["source"], row["recipient"]].append((row["owner"], row["value"]))
    assert [owner for owner, _ in who["s", "d"]] == ["owner-0", "owner-1"]
    assert [owner for owner, _ in who["k", "s"]] == ["owner-0"]
    assert mean.values[0][1] == sum(value for _, value in who["s", "d"]) / 2
    assert mean.values[2][0] == who["k", "s"][0][1]


def test_groups_by_name_need_no_affinities() -> None:
    result = train({"partition": [["s", "k"], ["d"]]}, owners__tasks=ONE_EACH, **THREE)
    assert list(result.states) == ["s+k", "d"]
    assert [row["num_groups"] for row in result.rows] == [1, 2, 2]
    assert [row["affinity_s"] for row in result.rows] == [0, 0, 0]


def test_groups_are_chosen_once_all_pairs_are_measured(caplog: pytest.LogCaptureFixture) -> None:
    """The round of the split is put off where those who were to measure are lost."""

    async def work(algorithm: MAS) -> list[int]:
        found = []
        for number, cohort in enumerate([[0, 1], [0], [0, 1, 2]]):
            await algorithm.round(algorithm.context(number, [f"owner-{i}" for i in cohort]))
            found.append(len(algorithm.phase.groups))
        return found

    measured = {"measured_rounds": 1}
    assert with_algorithm(work, measured, owners__tasks=PAIRS, training__rounds=5, **THREE) == [1, 1, 2]
    assert "the split waits: nobody has measured s and k yet" in caplog.text


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "own", "more", "words"),
    [
        ("mas", ONE_EACH, {}, r"no owner has both tasks of s and d, s and k, d and k.*algorithm\.partition"),
        ("tag", ONE_EACH, {}, r"no owner has both tasks of s and d.*tag chooses groups by it; name them"),
        (
            {"partition": [["s", "k"], ["d"]], "merged_rounds": "auto"},
            ONE_EACH,
            {},
            "no owner has both tasks",
        ),
        ({"new_tasks": {"k": 1}, "trial_rounds": 1}, [["s", "d"], ["k"]], {"training__rounds": 5}, "s and k, d and k"),
        (
            "mas",
            PAIRS,
            {"training__cohort_size": 1},
            r"measured in 1 round, and nobody is drawn who .*raise training\.cohort_size",
        ),
        (
            "all_in_one",
            PAIRS,
            {"reliability__aggregation": "trimmed_mean"},
            r"trimmed_mean needs 3 updates of all weights",
        ),
    ],
)
def test_what_nobody_can_measure_or_average_is_refused(algorithm: Any, own: Any, more: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(algorithm, owners__tasks=own, **THREE, **more)


def test_a_task_that_no_owner_has_is_refused() -> None:
    """The section `owners` refuses it; a setting that is made in Python is refused as well."""

    async def work(algorithm: Any) -> Any:
        owners = {name: data.__class__(**{**vars(data), "tasks": ("s",)}) for name, data in _owners(algorithm).items()}
        return algorithm.setting.__class__(**{**vars(algorithm.setting), "owners": owners})

    setting = with_algorithm(work, "one_by_one")
    with pytest.raises(ValueError, match="no owner has the task d, so nobody can train a group of it"):
        MAS(setting, merged_rounds=1)


def _owners(algorithm: Any) -> Any:
    return algorithm.setting.owners


def test_weights_by_targets_are_refused() -> None:
    """It ended in an error of Python: the owners of groups count no targets."""
    with pytest.raises(ValueError, match=r"training\.weight_by is 'targets', and mas does not use it"):
        train("mas", training__weight_by="targets")


# -- around a round --------------------------------------------------------------------------------------------------


def test_dense_targets_of_others_tasks_are_missing_and_its_own_are_whole() -> None:
    """They were made whole numbers, with -100 for those of other tasks, which were learned."""
    usual, own = (build(configured("mas", **more)).setting for more in ({}, {"owners__tasks": [["s"], ["d", "k"]]}))
    first, second = own.owners.values()
    assert {task: bool(has_target(y).any()) for task, y in first.shard.y.items()} == {"s": True, "d": False, "k": False}
    assert {task: bool(has_target(y).any()) for task, y in second.shard.y.items()} == {"s": False, "d": True, "k": True}
    for task in "dk":
        assert torch.equal(second.shard.y[task], usual.owners["owner-1"].shard.y[task])
        assert second.shard.y[task].is_floating_point()


def test_time_and_energy_are_those_of_the_tasks_that_owners_train() -> None:
    """An owner's charge is divided among its own tasks, not among those of the group."""

    async def work(algorithm: Any) -> Any:
        await rounds(algorithm, 0, 1)
        return algorithm.tables()["charges.parquet"].to_pylist(), algorithm.ledger.summary()

    rows, summary = with_algorithm(work, "all_in_one", owners__tasks=[["s"], ["d", "k"]])
    assert [(row["group"], row["tasks"], row["num_tasks"]) for row in rows] == [("s+d+k", "s", 1), ("s+d+k", "d+k", 2)]
    assert summary["by_task"]["s"]["hours"] == rows[0]["training_s"] / 3600
    assert summary["by_task"]["k"]["hours"] == rows[1]["training_s"] / 7200
    assert list(summary["by_group"]) == ["s+d+k"]
    assert summary["model"]["training_hours"] == pytest.approx(summary["hours"])


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_goes_on_with_the_same_bits(after: int, tmp_path: Path) -> None:
    more = {"owners__tasks": PAIRS, "training__rounds": 5, "training__owner_optimizer_state": "keep", **THREE}
    config, checkpoints = configured({"merged_rounds": 2}, training__cohort_size=2, **more), Checkpoints(tmp_path)
    with pytest.raises(Killed):
        asyncio.run(run(build(config), LocalCluster(), checkpoints=checkpoints, callbacks=[Killer(after)]))
    start = checkpoints.newest(fingerprint(config.model_dump(mode="json")), {})
    assert start is not None
    found = asyncio.run(run(build(config), LocalCluster(), checkpoints=checkpoints, start=start))
    whole = train({"merged_rounds": 2}, training__cohort_size=2, **more)
    assert same_models(found.states, whole.states)
    assert [row["bytes"] for row in found.rows] == [row["bytes"] for row in whole.rows]
