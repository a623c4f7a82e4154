"""Dry parties: parties that run a round without computing anything.

A dry party runs the same methods as the real one, on the same devices and links, but its tensors are only sizes. On a
virtual clock, this simulates any algorithm for thousands of owners. The attribute ``dry`` of a party class of your own
names its dry class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.expecting.parties import SHARED
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.routed_node import RoutedNode
from raysplit.actors.server_shard import ServerShard
from raysplit.actors.steps.micro import step_ids
from raysplit.actors.steps.shares import Counted
from raysplit.algorithms.fedavg.open_aggregator import OpenAggregator
from raysplit.cluster.contract import PartySpec
from raysplit.experiment.errors import CannotBeSimulated
from raysplit.prediction.dry_run import DryRecipe, TensorSize

_LABEL_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class DryBatch:
    """Mini-batch of sizes."""

    x: TensorSize
    y: TensorSize

    def __len__(self) -> int:
        return self.x.num_rows


@cache
def _batch(num_rows: int) -> DryBatch:
    return DryBatch(x=TensorSize(0, num_rows), y=TensorSize(_LABEL_BYTES * num_rows, num_rows))


class DryOwner(DataOwner):
    """Data owner whose batches are sizes."""

    def batches(self, context: RoundContext) -> Iterator[tuple[StepId, Any]]:
        batches = [_batch(num_rows) for num_rows in self._training.batch_sizes(len(self._shard))]
        for number, step_id in enumerate(step_ids(self.name, context, self._training.accumulate)):
            told = replace(step_id, counted=self._told_count()) if step_id.num_micro > 1 else step_id
            yield told, batches[number % len(batches)]

    def _told_count(self) -> Counted:
        """Return some number of targets, which has the size of any."""
        return 1


class DryNode(ComputeNode):
    """Compute node of sizes; a joint step takes the time of its batches one after the other."""

    async def _joint_work(self, brought: list[tuple[StepId, Any, Any]]) -> dict[str, tuple[float, Any]]:
        stage = self._stage(SHARED)
        results = {step_id.owner: await stage.loss_gradient(step_id, z, y, self._loss) for step_id, z, y in brought}
        await self._combine(brought[0][0], stage, float(sum(z.num_rows for _, z, _ in brought)))
        await stage.update(brought[0][0])
        self._num_steps += 1
        self._turns.passed()
        return results


class DryServerShard(DryNode, ServerShard):
    """One of several servers of sizes; its gradient has the size of its part."""

    async def _combine(self, step_id: StepId, stage: Any, mass: float) -> None:
        assert self._sharing is not None
        gradient: Any = TensorSize(sum(weight.num_bytes for weight in stage.part.weights().values()))
        await self._exchange(step_id, (gradient, mass), self._sharing)


_DRY_CLASSES: dict[Any, Any] = {DataOwner: DryOwner, ComputeNode: DryNode, ServerShard: DryServerShard}
_UNCHANGED = (Aggregator, OpenAggregator, RoutedNode)
"""Classes that run unchanged, because they only send tensors or take them from a stage."""


def _class_in_dry_run(party: PartySpec) -> Any:
    if party.build in _UNCHANGED:
        return party.build
    if party.build in _DRY_CLASSES:
        return _DRY_CLASSES[party.build]
    # vars, not getattr: the dry class of a base class may lack the methods of its subclass
    found = vars(party.build).get("dry") if isinstance(party.build, type) else None
    if found is None:
        name = getattr(party.build, "__qualname__", repr(party.build))
        raise CannotBeSimulated(
            f"{party.name} is a {name}, which has no dry class for tensors that are only sizes; set can_be_simulated = "
            f"False in the algorithm, or set {name}.dry to a subclass of DryOwner or DryNode "
            f"(raysplit.prediction.dry_parties), or to {name} itself if it only passes tensors on"
        )
    return found


def dry_parties(parties: Sequence[PartySpec]) -> list[PartySpec]:
    """Replace parties by dry ones, without the evaluators; their recipes must describe a `DryModelSpec`.

    Raises:
        CannotBeSimulated: a class of parties has no dry class.
    """
    recipes: dict[int, DryRecipe] = {}  # by identity, so that owners that share a recipe share its dry one

    def dry(value: Any) -> Any:
        if isinstance(value, PartRecipe):
            if id(value) not in recipes:
                recipes[id(value)] = _recipe(value)
            return recipes[id(value)]
        if isinstance(value, tuple):
            return tuple(dry(item) for item in value)
        if isinstance(value, Mapping):
            return {key: dry(item) for key, item in value.items()}
        return value

    return [
        replace(
            party,
            build=_class_in_dry_run(party),
            arguments={key: dry(v) if key in ("recipe", "recipes") else v for key, v in party.arguments.items()},
        )
        for party in parties
        if party.role != "evaluator"
    ]


def _recipe(recipe: PartRecipe) -> DryRecipe:
    spec: Any = recipe.spec
    return DryRecipe(spec=spec, part=spec.parts(recipe.cuts)[recipe.index], index=recipe.index, cuts=recipe.cuts)
