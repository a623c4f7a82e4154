"""Groups of tasks after a loss: with room for them or without, lost while they open, in the midst of a trial."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from disturbed import Killed, Killer
from mas_support import configured, same_models, train

from raysplit.cluster.contract import Handle, NoRoom, PartySpec, PlaceLost
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.runs.result import Result
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints
from raysplit.training.recovery.recovery import fingerprint

KEPT = {"training__owner_optimizer_state": "keep"}


class Crowded(LocalCluster):
    """Without room for anything more."""

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        raise NoRoom("no room")


class LosesAGroup(LocalCluster):
    """A place is lost while groups open, after some of their parties have been made."""

    num_losses = 0

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        made = await super().add_apart(sets)
        if not self.num_losses:
            self.num_losses += 1
            raise PlaceLost("nobody's", "it was not there for long")
        return made


def resumed(after: int, tmp_path: Path, first: LocalCluster, second: LocalCluster, algorithm: Any) -> Result:
    """Cut short after so many rounds on one cluster, taken up on another."""
    config, checkpoints = configured(algorithm, training__rounds=5, **KEPT), Checkpoints(tmp_path)
    with pytest.raises(Killed):
        asyncio.run(run(build(config), first, checkpoints=checkpoints, callbacks=[Killer(after)]))
    start = checkpoints.newest(fingerprint(config.model_dump(mode="json")), {})
    assert start is not None
    assert start.rounds == after
    return asyncio.run(run(build(config), second, checkpoints=checkpoints, start=start))


@pytest.mark.parametrize(("first", "second"), [(LocalCluster, Crowded), (Crowded, LocalCluster)])
def test_room_for_groups_may_come_and_go_with_a_restart(
    first: type[LocalCluster], second: type[LocalCluster], tmp_path: Path
) -> None:
    """What a copy of an owner has learnt for a group is found again at the owner, and the other way round."""
    found = resumed(3, tmp_path, first(), second(), "mas")
    assert same_models(found.states, train("mas", training__rounds=5, **KEPT).states)


@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_trial_of_a_new_task_goes_on(after: int, tmp_path: Path) -> None:
    """It is tried in the third and the fourth round of five."""
    algorithm = {"new_tasks": {"k": 1}, "trial_rounds": 2}
    found = resumed(after, tmp_path, LocalCluster(), LocalCluster(), algorithm)
    whole = train(algorithm, training__rounds=5, **KEPT)
    assert same_models(found.states, whole.states)
    assert [row["num_groups"] for row in found.rows] == [1, 2, 2, 2, 2]


def test_a_loss_while_groups_open_leaves_no_party_behind() -> None:
    cluster = LosesAGroup()
    found = train("mas", cluster=cluster, **KEPT)
    assert cluster.num_losses == 1
    assert same_models(found.states, train("mas", **KEPT).states)
    names = [name for name in cluster._handles if "@" in name]
    assert sorted(names) == [
        "aggregator-d+k@1",
        "aggregator-s@1",
        "owner-0@d+k@1",
        "owner-0@s@1",
        "owner-1@d+k@1",
        "owner-1@s@1",
    ]


def test_the_summary_goes_on_too(tmp_path: Path) -> None:
    """Decisions, affinities and charges of the rounds before the loss are not forgotten."""
    config, checkpoints = configured("mas"), Checkpoints(tmp_path)
    with pytest.raises(Killed):
        asyncio.run(run(build(config), LocalCluster(), checkpoints=checkpoints, callbacks=[Killer(2)]))
    start = checkpoints.newest(fingerprint(config.model_dump(mode="json")), {})
    assert start is not None
    (decision,) = start.memory["decisions"]
    assert decision["reason"] == "round 1 is done"
    assert [row["round"] for row in start.memory["charges"]] == [0, 0, 1, 1, 1, 1]
    assert [affinity["tasks"] for affinity in start.memory["history"]] == [("s", "d", "k")]
    assert {(row["round"], row["owner"]) for row in start.memory["by_owner"]} == {(0, "owner-0"), (0, "owner-1")}
