"""What owners of streamed shards say of their targets before a run: sums, by which a regression learns in its units."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from raysplit.cluster.contract import PartySpec
from raysplit.config.by_owner.asking import asked
from raysplit.config.run import RunConfig
from raysplit.data.samples import Samples
from raysplit.data.targets.of_samples import check_targets, statistic_of
from raysplit.tasks import Task
from raysplit.tasks.task import Sums


class Stater:
    """A party that reads the targets of one owner at its place, once, and sums them up."""

    def __init__(self, *, name: str, shard: Samples, task: Task) -> None:
        self.name = name
        self._asked = (name, shard, task)

    async def statistic(self) -> Sums:
        """Return the sums. Raises ``ValueError``, with the owner, the row and the rule."""
        return await asyncio.to_thread(_statistic, *self._asked)


def _statistic(owner: str, shard: Samples, task: Task) -> Sums:
    check_targets(task, shard, f"y of {owner}")
    return statistic_of(task.stated, [shard])


def stated(config: RunConfig, task: Task, shards: Mapping[str, Samples]) -> Task:
    """Return the task of a run with what it takes from the targets of the owners, each of whom reads its own.

    Raises ``ValueError`` for targets that are not of the task.
    """
    if not task.takes_statistic:
        return task
    if config.cluster.kind == "local":
        sums = [_statistic(owner, shard, task) for owner, shard in shards.items()]
    else:
        parties = [
            PartySpec(name=owner, role="owner", build=Stater, arguments={"shard": shard, "task": task})
            for owner, shard in shards.items()
        ]
        sums = asked(config, parties, lambda owner: owner.statistic())
    return task.prepared(task.stated.merged(sums))
