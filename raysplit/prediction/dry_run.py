"""Dry runs: parties that act out a round without computing it.

A dry party runs the same verbs and programs as the real one, on the same devices and links, but a tensor is only its
size. On a virtual clock this makes a simulator of whatever the algorithm does, for thousands of owners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from math import ceil
from typing import Any, TypeVar

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.schedulers.cuts.profiles import UnitProfile

_LABEL_BYTES = 4
T = TypeVar("T")


class TensorSize:
    """The size of a tensor; answers what parties ask of a tensor when they only pass it on or average it."""

    __slots__ = ("num_bytes", "num_rows")

    shape: tuple[int, ...] = ()
    dtype = "size"

    def __init__(self, num_bytes: int, num_rows: int = 1) -> None:
        self.num_bytes = num_bytes
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def is_floating_point(self) -> bool:
        return False  # so that an average takes the first, as it does with counters

    def clone(self) -> TensorSize:
        return self


State = Mapping[str, TensorSize]


@dataclass(frozen=True, kw_only=True)
class DryModelSpec:
    """A model of which only the profile is known; in the place of a `ModelSpec`.

    Attributes:
        units: the chain, with bytes for a batch of ``batch_size``.
    """

    units: tuple[UnitProfile, ...]
    batch_size: int
    dtype: str = "float32"

    def parts(self, cuts: Sequence[int | str]) -> list[DryPart]:
        """The ``len(cuts) + 1`` parts between these cuts, which must count units."""
        bounds = [0, *unit_counts(cuts, len(self.units)), len(self.units)]
        return [DryPart(self, first, end) for first, end in pairwise(bounds)]

    def row_bytes(self, cut: int) -> float:
        """Bytes of one sample that cross a cut: the output of the unit before it."""
        return self.units[cut - 1].activation_bytes / self.batch_size if cut > 0 else 0.0


def unit_counts(cuts: Sequence[int | str], num_units: int) -> list[int]:
    """The cuts as numbers of units. Raises ``ValueError`` for a name, and for a cut outside the profile."""
    for cut in cuts:
        if isinstance(cut, str) or not 0 <= cut <= num_units:
            raise ValueError(
                f"cut {cut!r} is not a number of units from 0 to {num_units}, which is what the profile has; "
                f"give cuts as numbers and a profile of this model (raysplit profile measures one)"
            )
    return [cut for cut in cuts if isinstance(cut, int)]


def _sketches(row_bytes: float) -> Callable[[int], TensorSize]:
    """Of so many rows; each made once."""
    return cache(lambda num_rows: TensorSize(round(row_bytes * num_rows), num_rows))


def _outcome(value: T) -> Callable[[], T]:
    """A computation of which the outcome is known beforehand."""
    return lambda: value


_nothing = _outcome(None)


class DryPart:
    """The units of one part: what a `TrainablePart` and its module are asked beside computing."""

    def __init__(self, spec: DryModelSpec, first: int, end: int) -> None:
        self._names = tuple(unit.name for unit in spec.units[first:end])
        self._weights = {f"unit {i}": TensorSize(spec.units[i].parameter_bytes) for i in range(first, end)}
        inputs, outputs = _sketches(spec.row_bytes(first)), _sketches(spec.row_bytes(end))
        self.forward = cache(lambda num_rows: _outcome(outputs(num_rows)))
        self.backward = cache(lambda num_rows: _outcome(inputs(num_rows)))
        self.loss_gradient = cache(lambda num_rows: _outcome((0.0, inputs(num_rows))))

    @property
    def module(self) -> DryPart:
        return self

    def state_dict(self) -> State:
        return self._weights

    weights = state_dict

    def restart_optimizer(self) -> None:
        """There is none."""

    def scale_learning_rate(self, factor: float) -> None:
        """Nothing learns."""


@dataclass(frozen=True, kw_only=True)
class DryRecipe:
    """In the place of a `PartRecipe`."""

    spec: DryModelSpec
    part: DryPart
    index: int
    cuts: tuple[int | str, ...]

    def build(self, device: Device) -> DryStage:
        return DryStage(self, device)


class DryStage:
    """The verbs of a `Stage`; a device is asked for the time, and sizes come back."""

    __slots__ = ("_device", "_index", "part")

    def __init__(self, recipe: DryRecipe, device: Device) -> None:
        self.part = recipe.part
        self._device = device
        self._index = recipe.index

    def forward(self, step_id: StepId, z: TensorSize) -> Awaitable[TensorSize]:
        return self._run("forward", step_id, self.part.forward(z.num_rows))

    def backward(self, step_id: StepId, g: TensorSize) -> Awaitable[TensorSize]:
        return self._run("backward", step_id, self.part.backward(g.num_rows))

    def update(self, step_id: StepId) -> Awaitable[None]:
        return self._run("update", step_id, _nothing)

    def loss_gradient(self, step_id: StepId, z: TensorSize, y: Any, loss: Any) -> Awaitable[tuple[float, TensorSize]]:
        return self._run("loss", step_id, self.part.loss_gradient(z.num_rows))

    def _run(self, kind: WorkKind, step_id: StepId, compute: Callable[[], T]) -> Awaitable[T]:
        return self._device.run(Work(kind, step_id.owner, self._index, step_id.round, step_id.step), compute)

    def load_weights(self, state: State) -> None:
        """Weights have no values."""


@dataclass(frozen=True, kw_only=True)
class DryShard:
    """So many samples, of which nothing else is known."""

    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    @staticmethod
    def concatenated(shards: Sequence[DryShard]) -> DryShard:
        return DryShard(num_samples=sum(len(shard) for shard in shards))


@dataclass(frozen=True, kw_only=True)
class DryBatch:
    """A mini-batch of sizes."""

    x: TensorSize
    y: TensorSize

    def __len__(self) -> int:
        return self.x.num_rows


@cache
def _batch(num_rows: int) -> DryBatch:
    return DryBatch(x=TensorSize(0, num_rows), y=TensorSize(_LABEL_BYTES * num_rows, num_rows))


class DryOwner(DataOwner):
    """A data owner whose batches have sizes only."""

    def batches(self, context: RoundContext) -> Iterator[tuple[StepId, Any]]:
        batches = [_batch(num_rows) for num_rows in self._batch_sizes()]
        for step in range(context.steps(self.name)):
            step_id = StepId(owner=self.name, round=context.round, step=step, attempt=context.attempt)
            yield step_id, batches[step % len(batches)]

    def _batch_sizes(self) -> list[int]:
        size, num_samples = self._training.batch_size, len(self._shard)
        sizes = [min(size, num_samples - i * size) for i in range(ceil(num_samples / size))]
        return sizes[:-1] if self._training.drop_last and len(sizes) > 1 and sizes[-1] < size else sizes


class DryNode(ComputeNode):
    """A compute node of sizes; a joint step takes as long as its batches one after the other."""

    async def _joint_work(self, brought: list[tuple[StepId, Any, Any]]) -> dict[str, tuple[float, Any]]:
        stage = self._stage("all owners")
        results = {step_id.owner: await stage.loss_gradient(step_id, z, y, self._loss) for step_id, z, y in brought}
        await stage.update(brought[0][0])
        self._num_steps += 1
        self._pass_turn()
        return results


_SKETCHED: dict[Any, Any] = {DataOwner: DryOwner, ComputeNode: DryNode}


def dry_parties(parties: Sequence[PartySpec]) -> list[PartySpec]:
    """The same parties without tensors; their recipes must be of a `DryModelSpec`. Evaluators are left out."""
    recipes: dict[int, DryRecipe] = {}  # by identity: owners that share a recipe share its dry one

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
            build=_SKETCHED.get(party.build, party.build),
            arguments={key: dry(v) if key in ("recipe", "recipes") else v for key, v in party.arguments.items()},
        )
        for party in parties
        if party.role != "evaluator"
    ]


def _recipe(recipe: PartRecipe) -> DryRecipe:
    spec: Any = recipe.spec
    return DryRecipe(spec=spec, part=spec.parts(recipe.cuts)[recipe.index], index=recipe.index, cuts=recipe.cuts)
