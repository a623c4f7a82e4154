"""The owner's rounds for a group of tasks: with measured affinities, or with balanced tasks.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: affinities are measured on every batch with an index divisible by
rho, before it is trained on. The plain round is that of FedAvg.
"""

from __future__ import annotations

from raysplit.actors.records import RoundContext
from raysplit.algorithms.mas.affinity import AffinityRule
from raysplit.algorithms.mas.aggregator import GroupAggregatorHandle
from raysplit.algorithms.mas.owner import GroupLearner
from raysplit.algorithms.setting import AGGREGATOR, Team
from raysplit.schedulers.grouping.scores import mean_affinity


async def train_and_measure(owner: GroupLearner, team: Team, context: RoundContext, *, rule: AffinityRule) -> None:
    measured = []
    for step_id, batch in owner.batches(context):
        if step_id.step % rule.every == 0:
            measured.append(await owner.measure_affinity(step_id, batch, rule, context.lr_scale))
        await owner.train_batch(step_id, batch)
    aggregator: GroupAggregatorHandle = team.peers[AGGREGATOR]
    await aggregator.submit_measured(context, owner.name, owner.weights(), mean_affinity(measured))


async def train_balanced(owner: GroupLearner, team: Team, context: RoundContext) -> None:
    """Train with GradNorm at the representation (Chen et al., 2018, arXiv 1711.02257)."""
    for step_id, batch in owner.batches(context):
        await owner.train_batch_balanced(step_id, batch)
    await team.aggregator.submit(context, owner.name, owner.weights())
