"""Merge and split on Ray: the bits of one process however groups run, and places that come and go without a trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import ray
from mas_support import same_models, train
from ray.util.placement_group import placement_group_table

from raysplit.cluster.layout import lay_out
from raysplit.cluster.on_ray.cluster import RayCluster

Make = Callable[..., RayCluster]


def open_groups() -> list[str]:
    """Placement groups that hold or wait for resources."""
    return [name for name, entry in placement_group_table().items() if entry["state"] != "REMOVED"]


def test_groups_at_the_owners_places_give_the_bits_of_one_process(make_cluster: Make) -> None:
    here = train({"run_groups": "in_turn"})
    for way in ("in_turn", "concurrent"):
        there = train({"run_groups": way}, cluster=make_cluster(2))
        assert same_models(there.states, here.states)
        for key in ("train_loss", "test_loss", "bytes"):
            assert [row[key] for row in there.rows] == [row[key] for row in here.rows]


def test_owners_with_some_of_the_tasks_give_the_bits_of_one_process(make_cluster: Make) -> None:
    """Cohorts of groups, parts of models and averages over those who have a task, wherever the parties are."""
    own = {"owners__tasks": [["s", "d"], ["d", "k"], ["s", "k"]], "data__num_buildings": 3, "partition__num_owners": 3}
    here, there = (train({"run_groups": "concurrent"}, cluster=c, **own) for c in (None, make_cluster(2)))
    assert same_models(there.states, here.states)
    for key in ("train_loss", "test_loss", "bytes", "num_owners"):
        assert [row[key] for row in there.rows] == [row[key] for row in here.rows]


@pytest.mark.parametrize(("num_places", "cpus", "has_room"), [(1, 0.25, True), (2, 4.0, False)])
def test_groups_get_places_of_their_own_where_there_is_room(
    num_places: int, cpus: float, has_room: bool, ray_session: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """With a CPU for each of two places, four CPUs leave two, and two groups would need four."""
    before = set(open_groups())
    during: list[int] = []
    layout = partial(lay_out, num_places=num_places, cpus=cpus)

    class Watched(RayCluster):
        async def traffic(self) -> Any:
            during.append(len(set(open_groups()) - before))
            return await super().traffic()

    cluster = Watched(layout, placement_timeout_s=20)
    with caplog.at_level("INFO", logger="raysplit.algorithms"):
        there = train(cluster=cluster)
    here = train({"run_groups": "in_turn"})
    assert same_models(there.states, here.states)
    assert [row["bytes"] for row in there.rows] == [row["bytes"] for row in here.rows]
    assert max(during) == (3 if has_room else 1)
    assert any("the groups take turns: no room" in message for message in caplog.messages) is not has_room
    assert set(open_groups()) == before


def test_no_place_is_left_when_a_group_fails(ray_session: dict[str, float]) -> None:
    before = set(open_groups())
    cluster = RayCluster(partial(lay_out, num_places=1, cpus=0.25), placement_timeout_s=20)
    with pytest.raises(ArithmeticError):
        train(training__optimizer={"lr": 1e30}, cluster=cluster)
    assert set(open_groups()) == before
    assert ray.is_initialized()
