"""What is measured: the model of a run for one owner at one cut, with the weights that the run has or began with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import as_tuple
from raysplit.attacks.networks import Encode
from raysplit.models.frozen import load_trained
from raysplit.models.spec import ModelSpec
from raysplit.privacy.seen.defended import Defend as Defend
from raysplit.privacy.seen.rows import Samplings, UnitRange

Cut = int | str
Weights = Literal["present", "initial", "unknown"]
"""Weights of a part: those at the end of the run, those that all parties draw from the seed, or others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model and the samples of one owner.

    Attributes:
        spec: the model.
        state: its weights and buffers at the end of the run; None before a run.
        samples: the samples of the owner and of the attacker.
        batch_size: of the run, in which statistics of batches are taken.
        seed: of everything that is drawn.
    """

    spec: ModelSpec
    state: Mapping[str, Tensor] | None
    samples: Samplings
    batch_size: int
    seed: int
    _built: dict[tuple[Cut, str], tuple[nn.Module, nn.Module]] = field(default_factory=dict, repr=False)

    def halves(self, cut: Cut, weights: Weights) -> tuple[nn.Module, nn.Module]:
        """Return new modules before and behind a cut, which take inputs of the model."""
        key = cut, weights
        if key not in self._built:
            self._built[key] = self._halves(cut, weights)
        bottom, top = self._built[key]
        return copy.deepcopy(bottom), copy.deepcopy(top)

    def _halves(self, cut: Cut, weights: Weights) -> tuple[nn.Module, nn.Module]:
        spec = replace(self.spec, seed=self.spec.seed + 1) if weights == "unknown" else self.spec
        bottom, top = spec.parts((cut,))
        if weights == "present":
            assert self.state is not None
            for part in (bottom, top):
                load_trained(part, {key: self.state[key] for key in part.state_dict() if key in self.state})
        return bottom.eval(), top.eval()

    def encoder(self, cut: Cut, weights: Weights, defend: Defend | None = None) -> Encode:
        """Return the map from samples in the unit range to what leaves the owner at a cut, without a graph."""
        bottom, _ = self.halves(cut, weights)
        size = self.batch_size if use_batch_statistics(bottom) or defend is not None else None
        run = as_one(UnitPart(bottom, self.samples.unit, self.spec))

        def encode(x: Tensor) -> Tensor:
            with torch.no_grad():
                parts = x.tensor_split(-(-len(x) // size)) if size and len(x) > size else (x,)
                return torch.cat([run(part) if defend is None else defend(run(part)) for part in parts])

        return encode

    def part(self, cut: Cut, weights: Weights) -> Encode:
        """Return the differentiable part before a cut in evaluation mode, for rows by themselves."""
        bottom, _ = self.halves(cut, weights)
        return as_one(UnitPart(bottom.eval(), self.samples.unit, self.spec))


class UnitPart(nn.Module):
    """A part that takes samples in the unit range."""

    def __init__(self, part: nn.Module, unit: UnitRange, spec: ModelSpec) -> None:
        super().__init__()
        self.part = part
        self._unit, self._spec = unit, spec

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what crosses the cut behind the part."""
        found: Tensor | tuple[Tensor, ...] = self.part(self._spec.cast(self._unit.inputs(x)))
        return found


def as_one(part: Callable[[Tensor], object]) -> Encode:
    """Return the map whose outputs are one floating tensor, several crossing ones as a vector side by side."""

    def encode(x: Tensor) -> Tensor:
        return joined(part(x))

    return encode


def joined(z: object) -> Tensor:
    """Return the tensors that cross a cut as one: a single one as it is, several as vectors [n, q] side by side."""
    tensors = [value.float() for value in as_tuple(z) if value.is_floating_point()]  # type: ignore[arg-type]
    return tensors[0] if len(tensors) == 1 else torch.cat([value.flatten(1) for value in tensors], dim=1)


def use_batch_statistics(module: nn.Module) -> bool:
    """Have norms that use statistics of a batch in training use them, and return whether there are any."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()
    return bool(norms)
