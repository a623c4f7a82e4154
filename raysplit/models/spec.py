"""The specification of a model, a small value that parties receive instead of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from raysplit.data.inputs import Input, Inputs, Values, cast, described, example_batch, kept_back
from raysplit.models.cutting.split import CutPoint, TracedModel, trace
from raysplit.models.given_model import GivenModel
from raysplit.models.zoo import build_model
from raysplit.seeding import derive, keyed_draws, torch_generator

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
        seed: seed of the initial weights, which come from the stream ``(seed, "model")``.
        dtype: "float32", "float64", "bfloat16" or "float16"; weights are drawn in float32 and then converted.
        given: the model itself, where a Python program passed an object instead of a name.

    Raises:
        ValueError: for fewer than one class, an unknown dtype, and inputs that disagree with ``input_shape``.

    Example:
        >>> spec = ModelSpec(name="mlp", input_shape=(1, 8, 8), num_classes=10, seed=0)
        >>> bottom, top = spec.parts([1])
    """

    name: str
    inputs: Mapping[str, Input] | Inputs = ()
    input_shape: tuple[int, ...] = ()
    num_classes: int
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    seed: int
    dtype: str = "float32"
    given: GivenModel | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        inputs, input_shape = described(self.inputs, self.input_shape)
        object.__setattr__(self, "inputs", tuple(inputs.items()))
        object.__setattr__(self, "input_shape", input_shape)
        pairs = sorted(dict(self.options).items())
        object.__setattr__(self, "options", tuple((key, _hashable(value)) for key, value in pairs))

    def example(self, rows: int = 1, *, generator: torch.Generator | None = None) -> Values:
        """Make a batch of ``rows`` rows that this model takes, without real samples (see `example_batch`)."""
        return example_batch(dict(self.inputs), rows, dtype=DTYPES[self.dtype], generator=generator)

    def cast(self, batch: Values, device: torch.device | str | None = None) -> Values:
        """Convert a transformed batch for this model: floating inputs to its dtype, integers and masks unchanged."""
        return cast(batch, dict(self.inputs), DTYPES[self.dtype], device)

    def build(self) -> nn.Module:
        """Build the whole model with its initial weights in new memory; torch's global random stream stays as it is."""
        return copy.deepcopy(_prototype(self))

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the ``len(cuts) + 1`` parts of a new model, which share no memory with other calls.

        Raises ``ValueError`` for cuts that do not exist or are not allowed, see `TracedModel.cut`.
        """
        return _traced(self).copy().cut(cuts)

    def cut_points(self) -> tuple[CutPoint, ...]:
        """Return all places where this model can be cut."""
        return _traced(self).cut_points


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value


@lru_cache(maxsize=4)
def _prototype(spec: ModelSpec) -> nn.Module:
    # Cached, so callers copy it before they hand it out.
    with keyed_draws(derive(spec.seed, "model")):
        about_data: dict[str, Any] = {"input_shape": spec.input_shape, "num_classes": spec.num_classes}
        if spec.given is not None:
            model = spec.given.build(about_data | {"inputs": dict(spec.inputs)}, dict(spec.options))
        else:
            model = build_model(spec.name, **about_data, data_inputs=dict(spec.inputs), **dict(spec.options))
    return model.to(DTYPES[spec.dtype])


@lru_cache(maxsize=4)
def _traced(spec: ModelSpec) -> TracedModel:
    example = spec.example(generator=torch_generator(spec.seed, "model", "example"))
    return trace(_prototype(spec), example, kept_back=kept_back(dict(spec.inputs)))
