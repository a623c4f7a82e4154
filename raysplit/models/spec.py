"""The specification of a model, a small value that parties receive instead of weights."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.data.inputs import Input, Inputs, Values, cast, described, example_batch, kept_back, longer_example
from raysplit.models.adapters.tuning import Tuning
from raysplit.models.crossing.measured_run import measured_run
from raysplit.models.crossing.places import Place, first_private_cut, places_of
from raysplit.models.crossing.raw_inputs import sent_inputs
from raysplit.models.cutting.cut_tensors import Ends
from raysplit.models.cutting.dropout import seed_dropouts
from raysplit.models.cutting.randomness import may_draw
from raysplit.models.cutting.rewrite import in_place_modules
from raysplit.models.cutting.split import FrontEnd, Units, check_traced, front_ends, no_front_end, traced_model
from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.exporting.blocks import BLOCK_SOURCES
from raysplit.models.frozen import fixed_names, frozen_parameters
from raysplit.models.given_model import GivenModel, check_built
from raysplit.models.limits import within_positions
from raysplit.models.traced_model import CutPoint, TracedModel, train_alike
from raysplit.models.zoo import build_model
from raysplit.seeding import derive, keyed_draws, torch_generator

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        front_end: how the model is traced: ``fx``, ``export``, or ``auto`` for the first of them that can.
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
        return dict(_example_inputs(self))

    def cast(self, batch: Values, device: torch.device | str | None = None) -> Values:
        """Convert a transformed batch for this model: floating inputs to its dtype, integers and masks unchanged."""
        return cast(batch, dict(self.inputs), DTYPES[self.dtype], device)

    def build(self) -> nn.Module:
        """Build the whole model with its initial weights in new memory; torch's global random stream stays as it is."""
        return copy.deepcopy(_prototype(self))

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the ``len(cuts) + 1`` parts of a new model, which share no memory with other calls.

        Without cuts the only part is the whole model, which need not be traceable. Raises ``ValueError`` for cuts that
        do not exist or are not allowed, see `TracedModel.cut`.
        """
        return _traced(self).copy().cut(cuts) if cuts or _whole_by_graph(self) else [self._whole()]

    def with_front_end(self) -> ModelSpec:
        """Return this specification with the front end that ``auto`` stands for, where that is not torch.fx.

        One that no front end can cut is returned as it is.
        """
        chosen = _chosen(self)
        return replace(self, front_end="export") if chosen == "export" else self

    def check_cuttable(self) -> None:
        """Raise ``ValueError`` unless the parts of this model compute and learn what the model as written does."""
        _check(self, None)

    def fixed_state(self) -> dict[str, Tensor]:
        """Return the weights and buffers that training leaves as they are, by name; parties do not send them."""
        return {key: value.clone() for key, value in _fixed_state(self).items()}

    def initial_state(self) -> dict[str, Tensor]:
        """Return the initial weights and buffers by the names under which parties send them."""
        return self.build().state_dict()

    def require_base(self) -> None:
        """Read the file of base weights, where there is one. Raises ``ValueError`` where it is missing or another."""
        if self.tuning.weights is not None:
            _prototype(self)

    def frozen_parameters(self, device: str = "cpu") -> Mapping[str, nn.Parameter]:
        """Return the frozen weights that all parts of this process share, by name; never write to them."""
        return _frozen_parameters(self, device) if type(self).build is ModelSpec.build else {}

    def _whole(self) -> nn.Module:
        model = self.build()
        for path in in_place_modules(model):
            setattr(model.get_submodule(path), "inplace", False)  # noqa: B010  (what is received is read-only)
        seed_dropouts(model)
        return model

    def cut_points(self) -> tuple[CutPoint, ...]:
        """Return all places where this model can be cut."""
        return _traced(self).cut_points

    @property
    def private_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that stay with their owners."""
        return tuple(name for name, entry in dict(self.inputs).items() if entry.role == "private")

    def places(self, length: int | None = None) -> list[Place]:
        """List all places, also where the model cannot be cut, for samples of a length (None: that of an example)."""
        run = measured_run(_traced(self), self.example(lengths=None if length is None else [length]))
        return places_of(_traced(self), _sent_inputs(self), run)

    def traced(self) -> TracedModel:
        """Return the traced model, for reading only."""
        return _traced(self)

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Name the values that a cut would send although they hold private inputs that no weight has changed.

        Empty where the inputs stay with their owner. Raises ``ValueError`` for cuts that are not allowed.
        """
        return _sent_inputs(self)[_traced(self).resolve(cut)]

    def first_private_cut(self) -> int | None:
        """Return the lowest number of units, from 1 on, after which the inputs do not cross; None if there is none."""
        return first_private_cut(_traced(self), _sent_inputs(self))


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value


@lru_cache(maxsize=4)
def _prototype(spec: ModelSpec) -> nn.Module:
    # Cached, so callers copy it before they hand it out.
    with keyed_draws(derive(spec.seed, "model")):
        about_data: dict[str, Any] = {"input_shape": spec.input_shape, "num_classes": spec.num_classes}
        inputs, sizes, options = dict(spec.inputs), dict(spec.sizes), dict(spec.options)
        if spec.given is not None:
            model = spec.given.build(about_data | sizes | {"inputs": inputs}, options)
        else:
            model = build_model(spec.name, **about_data, data_inputs=inputs, data_sizes=sizes, **options)
    check_built(model, spec.name, spec.dtype, DTYPES[spec.dtype])
    return spec.tuning.applied(model.to(DTYPES[spec.dtype]), spec.seed)


@lru_cache(maxsize=4)
def _fixed_state(spec: ModelSpec) -> dict[str, Tensor]:
    # Cached, because every evaluation asks for each model's, and most have none.
    model = _prototype(spec) if type(spec).build is ModelSpec.build else spec.build()
    state, fixed = model.state_dict(), fixed_names(model)
    return {key: value for key, value in state.items() if key in fixed}


@lru_cache(maxsize=4)
def _frozen_parameters(spec: ModelSpec, device: str) -> dict[str, nn.Parameter]:
    return frozen_parameters(_prototype(spec), device)


@lru_cache(maxsize=4)
def _sent_inputs(spec: ModelSpec) -> list[tuple[str, ...]]:
    return sent_inputs(_traced(spec), spec.example_inputs(), DTYPES[spec.dtype])


@lru_cache(maxsize=64)
def _check(spec: ModelSpec, front_end: str | None) -> None:
    traced = _traced(spec) if front_end is None else _traced_by(spec, front_end)
    example = spec.example(generator=torch_generator(spec.seed, "model", "example"))
    check_traced(_prototype(spec), traced, example, _longer(spec))


@lru_cache(maxsize=64)
def _chosen(spec: ModelSpec) -> str | None:
    """Return the first front end whose parts compute and learn what the model does, or None."""
    for name in front_ends(spec.front_end):
        try:
            _check(spec, name)
        except CannotCut as reason:
            logger.info("front end %s: %s", name, reason)
        else:
            return name
    return None


@lru_cache(maxsize=64)
def _whole_by_graph(spec: ModelSpec) -> bool:
    """Whether the whole model is its graph: where dropout calls of ``forward`` get streams of their own, which modules
    alone do not have, or the graph has another order of weights, in which optimizers keep their states."""
    if spec.front_end == "export":
        return True
    try:
        (graph,), model = _traced_by(spec, "fx").cut([]), spec._whole()
        if train_alike(graph, model):
            return False
        _check(spec, "fx")
    except CannotCut as reason:
        if spec.front_end == "auto" and may_draw(spec._whole()) and _chosen(spec) == "export":
            return True
        logger.info("the model is trained as it is written, since it cannot be cut: %s", reason)
        return False
    return True


def _longer(spec: ModelSpec) -> Values | None:
    drawn = torch_generator(spec.seed, "model", "longer example")
    return longer_example(spec.example_inputs(), DTYPES[spec.dtype], drawn)


@lru_cache(maxsize=64)
def _example_inputs(spec: ModelSpec) -> Inputs:
    inputs = dict(spec.inputs)
    is_ragged = any(entry.ragged for entry in inputs.values())
    return tuple((within_positions(inputs, spec.build()) if is_ragged else inputs).items())


def _traced(spec: ModelSpec) -> TracedModel:
    """Return the traced model by its front end; for ``auto`` by the first that can trace it."""
    reasons: list[tuple[str, CannotCut]] = []
    for name in front_ends(spec.front_end):
        try:
            return _traced_by(spec, name)
        except CannotCut as reason:
            reasons.append((name, reason))
    raise reasons[0][1] if len(reasons) == 1 else no_front_end(spec.name, reasons) from reasons[0][1]


@lru_cache(maxsize=4)
def _traced_by(spec: ModelSpec, front_end: str) -> TracedModel:
    inputs, example = dict(spec.inputs), spec.example(generator=torch_generator(spec.seed, "model", "example"))
    side = [name for name, entry in inputs.items() if entry.role == "side"]
    rules: dict[str, Any] = {"kept_back": kept_back(inputs), "side": side, "ends": spec.ends, "front_end": front_end}
    units: Units = "blocks" if spec.name.startswith(BLOCK_SOURCES) else "children"
    return traced_model(_prototype(spec), example, longer=_longer(spec), units=units, **rules)
