"""The specification of a model, a small value that parties receive instead of weights."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.data.inputs import Input, Inputs, Values, cast, described, example_batch
from raysplit.models.adapters.tuning import Tuning
from raysplit.models.building import prototypes, traces
from raysplit.models.building.prototypes import DTYPES, outline
from raysplit.models.crossing.measured_run import measured_run
from raysplit.models.crossing.places import Place, first_private_cut, places_of
from raysplit.models.crossing.tied import tie
from raysplit.models.cutting.cut_tensors import Ends
from raysplit.models.cutting.dropout import seed_dropouts
from raysplit.models.cutting.rewrite import in_place_modules, turn_off_in_place
from raysplit.models.cutting.split import FrontEnd
from raysplit.models.frozen import share_frozen
from raysplit.models.given_model import GivenModel
from raysplit.models.traced_model import CutPoint, TracedModel

logger = logging.getLogger(__name__)

__all__ = ["DTYPES", "ModelSpec"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Name, sizes, options and seed of a model; hashable and picklable. Equal specifications build equal bits.

    Attributes:
        name: a name or import path that `build_model` knows.
        inputs: records of the inputs by name, given as a mapping or pairs and kept as pairs in that order. Without
            them the model takes one unnamed floating tensor of ``input_shape``.
        input_shape: shape of one sample, without the batch dimension, which the builders of models get; empty where
            there is no single input of a fixed shape.
        num_classes: number of classes.
        options: further arguments of the network, given as a mapping or pairs and kept as sorted pairs.
        sizes: further sizes of the data, such as ``vocab_size``, which builders get whose signature has them; given as
            a mapping or pairs and kept as sorted pairs.
        seed: seed of the initial weights, which come from the stream ``(seed, "model")``.
        dtype: "float32", "float64", "bfloat16" or "float16"; weights are drawn in float32 and then converted.
        front_end: how the model is traced: ``fx``, ``export``, ``chain``, or ``auto`` for the first of the first two.
        given: the model itself, where a Python program passed an object instead of a name.
        tuning: which of its weights are trained, adapters among them, and the file that they begin from.
        ends: whether its first and last parts are one party's, and may have tied weights.

    Raises:
        ValueError: for fewer than one class, an unknown dtype, and inputs that disagree with ``input_shape``.

    Example:
        >>> spec = ModelSpec(name="mlp", input_shape=(1, 8, 8), num_classes=10, seed=0)
        >>> bottom, top = spec.parts([1])
        >>> top(bottom(torch.zeros(2, 1, 8, 8))).shape
        torch.Size([2, 10])
    """

    name: str
    inputs: Mapping[str, Input] | Inputs = ()
    input_shape: tuple[int, ...] = ()
    num_classes: int
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    sizes: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    seed: int
    dtype: str = "float32"
    front_end: FrontEnd = "auto"
    given: GivenModel | None = None
    tuning: Tuning = field(default_factory=Tuning)
    ends: Ends = "apart"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        inputs, input_shape = described(self.inputs, self.input_shape)
        object.__setattr__(self, "inputs", tuple(inputs.items()))
        object.__setattr__(self, "input_shape", input_shape)
        for kept in ("options", "sizes"):
            object.__setattr__(self, kept, _hashable(sorted(dict(getattr(self, kept)).items())))

    def __hash__(self) -> int:
        if "_hash" not in self.__dict__:  # computed once: specifications are the keys of many caches
            self.__dict__["_hash"] = hash(tuple([getattr(self, each.name) for each in fields(self)]))
        return self.__dict__["_hash"]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # another in each process

    def example(
        self, rows: int = 1, *, lengths: Sequence[int] | None = None, generator: torch.Generator | None = None
    ) -> Values:
        """Make a batch of ``rows`` rows that this model takes, without real samples (see `example_batch`)."""
        inputs, dtype = self.example_inputs(), DTYPES[self.dtype]
        return example_batch(inputs, rows, lengths=lengths, dtype=dtype, generator=generator)

    def example_inputs(self) -> dict[str, Input]:
        """Return the records of the inputs with the longest samples that the model says it takes."""
        return dict(traces.example_inputs(self))

    def cast(self, batch: Values, device: torch.device | str | None = None) -> Values:
        """Convert a transformed batch for this model: floating inputs to its dtype, integers and masks unchanged."""
        return cast(batch, dict(self.inputs), DTYPES[self.dtype], device)

    def build(self) -> nn.Module:
        """Build the whole model with its initial weights in new memory; torch's global random stream stays as it is."""
        return copy.deepcopy(prototypes.prototype(self))

    def whole(self, device: str = "cpu") -> nn.Module:
        """Build the whole model, whose frozen weights are those that all parts of this process share."""
        return prototypes.whole(self, device)

    def shared_parts(self, cuts: Sequence[int | str], device: str = "cpu") -> list[nn.Module]:
        """Build the parts as `parts` does, with the frozen weights that all parts of this process share."""
        found = outline(self)
        parts = self.parts(cuts) if found is None else self.part_outlines(cuts)
        for part in parts:
            if found is None:
                share_frozen(part, self.frozen_parameters(device))
            else:
                prototypes.fill_shared(self, found, part, device)
        tie(parts)
        return parts

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the ``len(cuts) + 1`` parts of a new model, which share no memory with other calls.

        Without cuts the only part is the whole model, which need not be traceable. Raises ``ValueError`` for cuts that
        do not exist or are not allowed, see `TracedModel.cut`.
        """
        if not cuts and not traces.whole_by_graph(self):
            return [self._whole()]
        if (found := outline(self)) is None:
            return traces.traced(self).copy().cut(cuts)
        tie(parts := [found.fill(part) for part in self.part_outlines(cuts)])
        return parts

    def part_outlines(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the parts for what their names, shapes and types say; weights in files may be on the meta device."""
        if outline(self) is not None:
            return traces.outline_traced(self).copy().cut(cuts)
        return self.parts(cuts)

    def part(self, cuts: Sequence[int | str], index: int, device: str = "cpu") -> nn.Module:
        """Build one part, whose frozen weights are those that all parts of this process share.

        Of a model in a folder that is traced by ``export``, what is in the files is read for this part alone.
        """
        part = self.part_outlines(cuts)[index]
        if (found := outline(self)) is not None:
            return prototypes.fill_shared(self, found, part, device)
        share_frozen(part, self.frozen_parameters(device))
        return part

    def outlined(self) -> nn.Module:
        """Return the model for what its names, shapes and types say, and never write to it."""
        return self.build() if prototypes.builds_otherwise(self) else prototypes.outlined(self)

    def with_front_end(self) -> ModelSpec:
        """Return this specification with the front end that ``auto`` stands for, where that is not torch.fx.

        One that no front end can cut is returned as it is.
        """
        chosen = traces.chosen(self)
        return replace(self, front_end=chosen) if chosen in traces.EXPORTS else self

    def check_cuttable(self) -> None:
        """Raise ``ValueError`` unless the parts of this model compute and learn what the model as written does."""
        traces.check(self, None)

    def fixed_keys(self) -> frozenset[str]:
        """Return the names of the weights and buffers that training leaves as they are."""
        return prototypes.fixed_keys(self)

    def fixed_state(self) -> dict[str, Tensor]:
        """Return the weights and buffers that training leaves as they are, by name; parties do not send them."""
        return {key: value.clone() for key, value in prototypes.fixed_state(self).items()}

    def initial_state(self) -> dict[str, Tensor]:
        """Return the initial weights and buffers by the names under which parties send them."""
        return self.build().state_dict()

    def require_base(self) -> None:
        """Read the file of base weights, where there is one. Raises ``ValueError`` where it is missing or another."""
        if self.tuning.weights is not None:
            prototypes.prototype(self)

    def frozen_parameters(self, device: str = "cpu") -> Mapping[str, nn.Parameter]:
        """Return the frozen weights that all parts of this process share, by name; never write to them."""
        return {} if prototypes.builds_otherwise(self) else prototypes.frozen(self, device)

    def _whole(self) -> nn.Module:
        model = self.build()
        turn_off_in_place(model, in_place_modules(model))
        seed_dropouts(model)
        return model

    def cut_points(self) -> tuple[CutPoint, ...]:
        """Return all places where this model can be cut."""
        return traces.traced(self).cut_points

    @property
    def private_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that stay with their owners."""
        return tuple(name for name, entry in dict(self.inputs).items() if entry.role == "private")

    def places(self, length: int | None = None) -> list[Place]:
        """List all places, also where the model cannot be cut, for samples of a length (None: that of an example)."""
        run = measured_run(traces.traced(self), self.example(lengths=None if length is None else [length]))
        return places_of(traces.traced(self), traces.sent_inputs(self), run)

    def traced(self) -> TracedModel:
        """Return the traced model, for reading only."""
        return traces.traced(self)

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Name the values that a cut would send although they hold private inputs that no weight has changed.

        Empty where the inputs stay with their owner. Raises ``ValueError`` for cuts that are not allowed.
        """
        return traces.sent_inputs(self)[traces.traced(self).resolve(cut)]

    def first_private_cut(self) -> int | None:
        """Return the lowest number of units, from 1 on, after which the inputs do not cross; None if there is none."""
        return first_private_cut(traces.traced(self), traces.sent_inputs(self))


class _Named(dict[str, Any]):
    """An option with entries by name, such as the configuration of a part of a network; nothing writes to it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _Named({name: _hashable(item) for name, item in value.items()})
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value
