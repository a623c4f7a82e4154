"""The base class of methods that measure affinities between tasks while all are merged, and the owner's round of it.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: affinities are measured on every batch with an index divisible by
rho, before it is trained on. They travel with the updates, and are averaged over batches, then over the owners of a
round that have both tasks, then over rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from raysplit.actors.data_owner import Program
from raysplit.actors.records import RoundContext
from raysplit.algorithms.fedavg.fedavg import train_and_submit
from raysplit.algorithms.mas.affinity import AffinityRule, Measure
from raysplit.algorithms.mas.aggregator import GroupAggregatorHandle
from raysplit.algorithms.mas.groups import GroupOptions, GroupTraining
from raysplit.algorithms.mas.owner import GroupLearner
from raysplit.algorithms.mas.task_owners import refuse_apart
from raysplit.algorithms.setting import AGGREGATOR, Options, Setting, Team
from raysplit.algorithms.unused import RunOutline
from raysplit.cluster.arriving.forms import refused
from raysplit.cluster.contract import COORDINATOR
from raysplit.schedulers.grouping.files import HISTORY_FILE, history_table
from raysplit.schedulers.grouping.known import Measured, affinities_of, mean_known, pairs_shown
from raysplit.schedulers.grouping.scores import mean_affinity

if TYPE_CHECKING:
    import pyarrow as pa

OWNERS_FILE = "owner_affinities.parquet"


class MeasuringOptions(GroupOptions):
    """Options of methods that measure affinities."""

    affinity_every: int = 10
    """Number of batches from one measurement of affinities to the next."""
    affinity_by: Measure = "lookahead"
    """Measure of affinities: ``lookahead``, the published one, by the losses after a step for each task;
    ``inner_product`` of the tasks' gradients, its first order at less than half the cost; their ``cosine``; or
    ``loss_correlation`` over the samples of a batch, at the cost of one pass forward."""
    measured_from: int = Field(default=0, ge=0)
    """First round, counted from 0, in which affinities are measured."""
    normalise_by_lr: bool = True
    """Whether affinities are divided by the learning rate."""
    freeze_running_statistics: bool = True
    """Whether look-ahead passes leave the batch-norm statistics unchanged."""

    def idle(self) -> dict[str, str]:
        unread = [] if self.affinity_by == "lookahead" else self.changed("normalise_by_lr", "freeze_running_statistics")
        return super().idle() | dict.fromkeys(unread, f"affinity_by is {self.affinity_by}")

    def is_measured(self, round: int) -> bool:
        """Whether affinities are measured in this round, if all tasks are still merged."""
        window: int | None = getattr(self, "measured_rounds", None)
        return self.measured_from <= round and (window is None or round < self.measured_from + window)

    @property
    def rule(self) -> AffinityRule:
        return AffinityRule(
            every=self.affinity_every,
            by=self.affinity_by,
            normalise_by_lr=self.normalise_by_lr,
            freeze_running_statistics=self.freeze_running_statistics,
        )


def plain_affinity(affinity: Measured) -> dict[str, Any]:
    """Convert affinities to plain values."""
    return {"tasks": affinity.tasks, "values": affinity.values}


async def train_and_measure(owner: GroupLearner, team: Team, context: RoundContext, *, rule: AffinityRule) -> None:
    """Train on every batch, and measure on some of them before; without two tasks of the group only train."""
    measured = []
    for step_id, batch in owner.batches(context):
        if owner.measures and step_id.step % rule.every == 0:
            measured.append(await owner.measure_affinity(step_id, batch, rule, context.lr_scale))
        await owner.train_batch(step_id, batch)
    aggregator: GroupAggregatorHandle = team.peers[AGGREGATOR]
    if owner.measures:
        await aggregator.submit_measured(context, owner.name, owner.weights(), mean_affinity(measured))
    else:
        await aggregator.submit(context, owner.name, owner.weights())


class MeasuringTraining(GroupTraining):
    """A method that collects the affinities of the rounds in which they are measured."""

    options_type: ClassVar[type[Options]] = MeasuringOptions

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        merged = getattr(options, "merged_rounds", "auto")
        rounds = merged if isinstance(merged, int) else outline.rounds
        if options.measured_from and options.measured_from >= rounds:
            raise ValueError(
                f"algorithm.measured_from is {options.measured_from}, and rounds with all tasks merged are 0 to "
                f"{rounds - 1}, so that nothing would be measured; give one of these"
                if rounds
                else "algorithm.measured_from is for merged rounds, and merged_rounds is 0; leave it out"
            )

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        if self.options.affinity_by == "loss_correlation" and setting.training.batch_size < 2:
            raise ValueError(
                "algorithm.affinity_by: loss_correlation is over the samples of a batch, and training.batch_size is 1; "
                "give 2 or more, or another measure"
            )
        self.history: list[Measured] = []
        self._by_owner: list[dict[str, Any]] = []

    def require_pairs(self, rounds: range, why: str, way_out: str) -> None:
        """Raise ``ValueError`` for tasks of the first group that nobody has both of who is drawn in these rounds.

        Args:
            rounds: the rounds in which affinities are measured.
            why: what the affinity is for.
            way_out: what to do where no owner has both tasks.
        """
        tasks, everybody = self.phase.groups[0], list(self.setting.owners)
        refuse_apart(self.having.apart(tasks), why, way_out)
        if self.having.all_have_all:
            return
        cohorts = [self.drawn(round, everybody) for round in rounds]
        if left := self.having.apart(tasks, cohorts):
            length = f"{len(rounds)} round{'s' * (len(rounds) > 1)}"
            raise ValueError(
                f"affinities are measured in {length}, and nobody is drawn who has both tasks of "
                f"{pairs_shown(left)}, and {why}; raise training.cohort_size, measure in more rounds, or {way_out}"
            )

    def measures(self, round: int) -> bool:
        """Whether owners measure affinities in this round."""
        return bool(self.options.is_measured(round))

    def program(self, round: int) -> Program:
        return partial(train_and_measure, rule=self.options.rule) if self.measures(round) else train_and_submit

    async def collect(self, context: RoundContext) -> tuple[Measured, ...]:
        """Fetch the affinities of this round, and return their means over those who have both tasks for each group."""
        means = []
        for group in self.groups:
            own = self.context_of(group, context)
            wanted = self.having.measure(own.cohort, group.tasks)
            measured = await group.aggregator.affinities(own) if own.cohort else {}
            values: Collection[Any] = getattr(measured, "values", tuple)()
            tasks = [getattr(affinity, "tasks", None) for affinity in values]
            if tuple(measured) != wanted or tasks != [self.having.of(name, group.tasks) for name in wanted]:
                what = f"affinities that are not those of {', '.join(group.tasks)}, measured by the owners of the round"
                raise refused(group.aggregator.name, COORDINATOR, what, context)
            means.append(mean_known(values, group.tasks))
            self._by_owner += [
                {"round": context.round, "owner": owner, "source": source, "recipient": recipient, "value": value}
                for owner, affinity in measured.items()
                for source, row in zip(affinity.tasks, affinity.values, strict=True)
                for recipient, value in zip(affinity.tasks, row, strict=True)
            ]
        return tuple(means)

    def state_dict(self) -> dict[str, Any]:
        history = [plain_affinity(affinity) for affinity in self.history]
        return {**super().state_dict(), "history": history, "by_owner": list(self._by_owner)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.history = [affinities_of(**affinity) for affinity in state["history"]]
        self._by_owner = list(state["by_owner"])

    def tables(self) -> dict[str, pa.Table]:
        tables = super().tables()
        if self.history:
            import pyarrow as pa

            tables[HISTORY_FILE] = history_table(self.history, first_round=self.options.measured_from)
            tables[OWNERS_FILE] = pa.Table.from_pylist(self._by_owner)
        return tables
