"""Dry runs: parties that run a round without computing anything.

A dry party runs the same methods as the real one, on the same devices and links, but its tensors are only sizes. On a
virtual clock, this simulates any algorithm for thousands of owners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from math import ceil
from typing import Any, TypeVar

import torch

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.schedulers.cuts.profiles import UnitProfile

_LABEL_BYTES = 4
Leaf = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of a tensor."""
T = TypeVar("T")


class TensorSize:
    """Size of a tensor, with the methods that parties call to send or average a tensor.

    Args:
        num_bytes: the size in bytes.
        num_rows: the number of samples.
        rows_of: the tensors of one sample; empty where they are not known.
    """

    __slots__ = ("_rows_of", "num_bytes", "num_rows")

    shape: tuple[int, ...] = ()
    dtype = "size"

    def __init__(self, num_bytes: int, num_rows: int = 1, rows_of: Sequence[Leaf] = ()) -> None:
        self.num_bytes = num_bytes
        self.num_rows = num_rows
        self._rows_of = rows_of

    def leaves(self) -> list[Leaf]:
        """Return the tensors that a codec would see; where they are not known, one float32 matrix."""
        num_values = self.num_bytes // torch.float32.itemsize
        rows_of = self._rows_of or [((num_values // max(1, self.num_rows),), torch.float32)]
        return [((self.num_rows, *shape), dtype) for shape, dtype in rows_of]

    def __len__(self) -> int:
        return self.num_rows

    def is_floating_point(self) -> bool:
        return False  # so that an average takes the first value, as it does for counters

    def clone(self) -> TensorSize:
        return self


State = Mapping[str, TensorSize]


@dataclass(frozen=True, kw_only=True)
class DryModelSpec:
    """Description of a model by its profile, used instead of a `ModelSpec`.

    Attributes:
        units: the units of the model, with bytes for a batch of ``batch_size``.
    """

    units: tuple[UnitProfile, ...]
    batch_size: int
    dtype: str = "float32"

    def parts(self, cuts: Sequence[int | str]) -> list[DryPart]:
        """Return the ``len(cuts) + 1`` parts between the cuts, which must be numbers of units."""
        bounds = [0, *unit_counts(cuts, len(self.units)), len(self.units)]
        return [DryPart(self, first, end) for first, end in pairwise(bounds)]

    def row_bytes(self, cut: int) -> float:
        """Return the bytes per sample that cross a cut: the output of the unit before it."""
        return self.units[cut - 1].activation_bytes / self.batch_size if cut > 0 else 0.0

    def rows_of(self, cut: int) -> tuple[Leaf, ...]:
        """Return the tensors per sample that cross a cut; empty where the profile does not have them."""
        return tuple(map(_leaf, self.units[cut - 1].activation_shapes)) if cut > 0 else ()


def _leaf(text: str) -> Leaf:
    # from "32x7x7 float32"
    shape, _, dtype = text.partition(" ")
    return tuple(int(size) for size in shape.split("x") if size), getattr(torch, dtype)


def unit_counts(cuts: Sequence[int | str], num_units: int) -> list[int]:
    """Return cuts as numbers of units. Raises ``ValueError`` for a name, and for a cut outside the profile."""
    for cut in cuts:
        if isinstance(cut, str) or not 0 <= cut <= num_units:
            raise ValueError(
                f"cut {cut!r} is not a number of units from 0 to {num_units}, the length of the profile; "
                f"give cuts as numbers and a profile of this model (raysplit profile measures one)"
            )
    return [cut for cut in cuts if isinstance(cut, int)]


def _sizes(spec: DryModelSpec, cut: int) -> Callable[[int], TensorSize]:
    row_bytes, rows_of = spec.row_bytes(cut), spec.rows_of(cut)
    return cache(lambda num_rows: TensorSize(round(row_bytes * num_rows), num_rows, rows_of))


def _outcome(value: T) -> Callable[[], T]:
    return lambda: value


_nothing = _outcome(None)


class DryPart:
    """Part of a dry model, with the methods of a `TrainablePart` and its module."""

    def __init__(self, spec: DryModelSpec, first: int, end: int) -> None:
        self._names = tuple(unit.name for unit in spec.units[first:end])
        self._weights = {f"unit {i}": TensorSize(spec.units[i].parameter_bytes) for i in range(first, end)}
        inputs, outputs = _sizes(spec, first), _sizes(spec, end)
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
        """Do nothing; there is no optimizer."""

    def scale_learning_rate(self, factor: float) -> None:
        """Do nothing; there is no optimizer."""


@dataclass(frozen=True, kw_only=True)
class DryRecipe:
    """Recipe of a dry part, used instead of a `PartRecipe`."""

    spec: DryModelSpec
    part: DryPart
    index: int
    cuts: tuple[int | str, ...]

    def build(self, device: Device) -> DryStage:
        return DryStage(self, device)


class DryStage:
    """Stage with the methods of a `Stage`, which take time on the device and return sizes."""

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
        """Do nothing; weights have no values."""


@dataclass(frozen=True, kw_only=True)
class DryShard:
    """Shard of which only the number of samples is known."""

    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    @staticmethod
    def concatenated(shards: Sequence[DryShard]) -> DryShard:
        return DryShard(num_samples=sum(len(shard) for shard in shards))


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
        batches = [_batch(num_rows) for num_rows in self._batch_sizes()]
        for step in range(context.steps(self.name)):
            step_id = StepId(owner=self.name, round=context.round, step=step, attempt=context.attempt)
            yield step_id, batches[step % len(batches)]

    def _batch_sizes(self) -> list[int]:
        size, num_samples = self._training.batch_size, len(self._shard)
        sizes = [min(size, num_samples - i * size) for i in range(ceil(num_samples / size))]
        return sizes[:-1] if self._training.drop_last and len(sizes) > 1 and sizes[-1] < size else sizes


class DryNode(ComputeNode):
    """Compute node of sizes; a joint step takes the time of its batches one after the other."""

    async def _joint_work(self, brought: list[tuple[StepId, Any, Any]]) -> dict[str, tuple[float, Any]]:
        stage = self._stage("all owners")
        results = {step_id.owner: await stage.loss_gradient(step_id, z, y, self._loss) for step_id, z, y in brought}
        await stage.update(brought[0][0])
        self._num_steps += 1
        self._pass_turn()
        return results


_DRY_CLASSES: dict[Any, Any] = {DataOwner: DryOwner, ComputeNode: DryNode}


def dry_parties(parties: Sequence[PartySpec]) -> list[PartySpec]:
    """Replace parties by dry ones, without the evaluators; their recipes must describe a `DryModelSpec`."""
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
            build=_DRY_CLASSES.get(party.build, party.build),
            arguments={key: dry(v) if key in ("recipe", "recipes") else v for key, v in party.arguments.items()},
        )
        for party in parties
        if party.role != "evaluator"
    ]


def _recipe(recipe: PartRecipe) -> DryRecipe:
    spec: Any = recipe.spec
    return DryRecipe(spec=spec, part=spec.parts(recipe.cuts)[recipe.index], index=recipe.index, cuts=recipe.cuts)
