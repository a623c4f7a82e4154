"""Dry runs: tensors, models, parts and shards that are only sizes, for `raysplit.prediction.dry_parties`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import torch

from raysplit.actors.records import StepId
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.schedulers.cuts.profiles import UnitProfile

Leaf = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of a tensor."""
NamedLeaf = tuple[str, tuple[int, ...], torch.dtype]
"""Name, shape and dtype of a tensor."""
T = TypeVar("T")


class TensorSize:
    """Size of a tensor, with the methods that parties call to send or average a tensor.

    Args:
        num_bytes: the size in bytes.
        num_rows: the number of samples.
        rows_of: the tensors of one sample; empty where they are not known.
        weights: for weights, their names and shapes; empty where they are not known.
    """

    __slots__ = ("_rows_of", "_weights", "num_bytes", "num_rows")

    shape: tuple[int, ...] = ()
    dtype = "size"

    def __init__(
        self, num_bytes: int, num_rows: int = 1, rows_of: Sequence[Leaf] = (), weights: Sequence[NamedLeaf] = ()
    ) -> None:
        self.num_bytes = num_bytes
        self.num_rows = num_rows
        self._rows_of = rows_of
        self._weights = weights

    def named_leaves(self) -> Sequence[NamedLeaf]:
        """Return the tensors that a codec would see, with their names; where they are not known, one float32 matrix."""
        if self._weights:
            return self._weights
        num_values = self.num_bytes // torch.float32.itemsize
        rows_of = self._rows_of or [((num_values // max(1, self.num_rows),), torch.float32)]
        return [("", (self.num_rows, *shape), dtype) for shape, dtype in rows_of]

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
        private_cut: the lowest number of units that keep the inputs at their owner; None if there is none.
        may_send_inputs: whether the configuration lets inputs leave their owners.
    """

    units: tuple[UnitProfile, ...]
    batch_size: int
    dtype: str = "float32"
    private_cut: int | None = 1
    may_send_inputs: bool = False

    @property
    def private_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that stay with their owners, as `ModelSpec` has them."""
        return () if self.may_send_inputs else ("x",)

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Name the inputs that would cross a cut, as `ModelSpec.sent_inputs` does."""
        (units,) = unit_counts([cut], len(self.units))
        is_private = self.private_cut is not None and units >= self.private_cut
        return () if is_private or self.may_send_inputs else ("x",)

    def first_private_cut(self) -> int | None:
        """Return the lowest number of units after which the inputs do not cross, as `ModelSpec` does."""
        return 1 if self.may_send_inputs else self.private_cut

    def require_base(self) -> None:
        """Do nothing; sizes begin from no file."""

    def parts(self, cuts: Sequence[int | str]) -> list[DryPart]:
        """Return the ``len(cuts) + 1`` parts between the cuts, which must be numbers of units."""
        bounds = [0, *unit_counts(cuts, len(self.units)), len(self.units)]
        return [DryPart(self, first, end) for first, end in pairwise(bounds)]

    part_outlines = parts

    def part(self, cuts: Sequence[int | str], index: int, device: str = "cpu") -> DryPart:
        """Return one of the parts between the cuts."""
        return self.parts(cuts)[index]

    def row_bytes(self, cut: int) -> float:
        """Return the bytes per sample that cross a cut: the output of the unit before it."""
        return self.units[cut - 1].activation_bytes / self.batch_size if cut > 0 else 0.0

    def rows_of(self, cut: int) -> tuple[Leaf, ...]:
        """Return the tensors per sample that cross a cut; empty where the profile does not have them."""
        return tuple(map(_leaf, self.units[cut - 1].activation_shapes)) if cut > 0 else ()

    def weights_of(self, unit: int) -> TensorSize:
        """Return the weights of a unit, with the tensors where the profile has them."""
        found = self.units[unit]
        named = [text.partition(" ") for text in found.parameter_shapes]
        return TensorSize(found.parameter_bytes, weights=[(name, *_leaf(leaf)) for name, _, leaf in named])


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


async def _no_update() -> None:
    """Do nothing: micro-batches of the step follow."""


class DryPart:
    """Part of a dry model, with the methods of a `TrainablePart` and its module."""

    def __init__(self, spec: DryModelSpec, first: int, end: int) -> None:
        self._names = tuple(unit.name for unit in spec.units[first:end])
        self._weights = {f"unit {i}": spec.weights_of(i) for i in range(first, end)}
        inputs, outputs = _sizes(spec, first), _sizes(spec, end)
        self.forward = cache(lambda num_rows: _outcome(outputs(num_rows)))
        self.backward = cache(lambda num_rows: _outcome(inputs(num_rows)))
        self.loss_gradient = cache(lambda num_rows: _outcome((0.0, inputs(num_rows))))

    @property
    def module(self) -> DryPart:
        return self

    def state_dict(self) -> State:
        return self._weights

    def names(self) -> list[str]:
        return list(self._weights)

    def parameters(self) -> Sequence[Any]:
        """Return nothing to be looked at: a profile does not say which weights are trained, so that all count."""
        return ()

    def named_parameters(self, **_: Any) -> Sequence[Any]:
        return ()

    weights = state_dict
    has_optimizer_state = False

    def abandon(self) -> None:
        """Do nothing; no batch is in flight."""

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

    buffers: str = "average"
    vectorize: int = 1

    def build(self, device: Device) -> DryStage:
        return DryStage(self, device)

    def build_in(self, part: DryPart, device: Device) -> DryStage:
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

    exchanges_norms = False

    def update(self, step_id: StepId, factor: None = None) -> Awaitable[None]:
        return self._run("update", step_id, _nothing) if step_id.is_last else _no_update()

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
