"""Joined models: the bottom of one model in front of the top of another.

Zheng, Eryilmaz, "Non-Federated Multi-Task Split Learning for Heterogeneous Sources" (2024, arXiv 2406.00150): task m
is G(phi, H_m(psi_m, x)), where the bottoms H_m may differ in architecture if their outputs fit the top G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from raysplit.data.inputs import feed
from raysplit.models.frozen import fixed_names, load_trained
from raysplit.models.spec import ModelSpec

OWN = "bottom"
"""Prefix of the bottom's weights, so that their names never equal one of the shared part."""


@dataclass(frozen=True, kw_only=True)
class GraftedSpec(ModelSpec):
    """A model of this one's units before ``own_cut`` and the units of ``shared`` after ``shared_cut``.

    Build it with `graft`, which checks that the shapes fit.
    """

    __hash__ = ModelSpec.__hash__

    own_cut: int | str
    shared: ModelSpec
    shared_cut: int | str

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the bottom and the shared part. Raises ``ValueError`` for a cut other than ``shared_cut``."""
        if tuple(cuts) != (self.shared_cut,):
            raise ValueError(
                f"a joined model can be cut at {self.shared_cut!r} only, where its bottom ends, got {list(cuts)}"
            )
        own = super().parts((self.own_cut,))[0]
        return [OwnPart(own), *self.shared.parts(cuts)[1:]]

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Name what the bottom would send as it is; see `ModelSpec.sent_inputs`."""
        return super().sent_inputs(self.own_cut)

    def initial_state(self) -> dict[str, Tensor]:
        return {key: value for part in self.parts((self.shared_cut,)) for key, value in part.state_dict().items()}

    def fixed_keys(self) -> frozenset[str]:
        return frozenset(self.fixed_state())

    def fixed_state(self) -> dict[str, Tensor]:
        parts = self.parts((self.shared_cut,))
        return {key: part.state_dict()[key] for part in parts for key in fixed_names(part)}

    def build(self) -> nn.Module:
        return Grafted(*self.parts((self.shared_cut,)))


class OwnPart(nn.Module):
    """An owner's bottom, with its weights under the prefix `OWN`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.add_module(OWN, part)

    def forward(self, *x: Tensor, **named: Tensor) -> Any:
        return self.get_submodule(OWN)(*x, **named)


class Grafted(nn.Module):
    """Two parts in a row, whose weights keep the names that they have as parts."""

    def __init__(self, own: nn.Module, shared: nn.Module) -> None:
        super().__init__()
        self.own = own
        self.shared = shared

    def forward(self, *x: Tensor, **named: Tensor) -> Any:
        z = self.own(*x, **named)
        return self.shared(*z) if isinstance(z, tuple) else self.shared(z)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the union of the parts' states, which need not have frozen weights."""
        own = {key: value for key, value in state_dict.items() if key.startswith(f"{OWN}.")}
        load_trained(self.own, own)
        load_trained(self.shared, {key: value for key, value in state_dict.items() if key not in own})
        return _IncompatibleKeys(missing_keys=[], unexpected_keys=[])


def graft(own: ModelSpec, own_cut: int | str, shared: ModelSpec, shared_cut: int | str, *, owner: str) -> GraftedSpec:
    """Put the bottom of ``own`` in front of the top of ``shared``.

    Raises:
        ValueError: if the shapes at the cut differ; the message names the owner and both shapes.
    """
    sent, expected = crossing_shapes(own, own_cut), crossing_shapes(shared, shared_cut)
    if sent != expected:
        raise ValueError(
            f"the bottom of {owner} in algorithm.bottoms, {own.name} cut at {own_cut!r}, sends {_shown(sent)} per "
            f"sample and the shared part of {shared.name} behind {shared_cut!r} takes {_shown(expected)}; change its "
            f"sizes or its cut"
        )
    return GraftedSpec(
        name=own.name,
        inputs=own.inputs,
        num_classes=own.num_classes,
        options=own.options,
        seed=own.seed,
        dtype=own.dtype,
        own_cut=own_cut,
        shared=shared,
        shared_cut=shared_cut,
    )


def crossing_shapes(spec: ModelSpec, cut: int | str) -> tuple[tuple[int, ...], ...]:
    """Compute the shapes of the tensors that cross this cut, without the batch dimension."""
    before = spec.parts((cut,))[0].eval()
    with torch.no_grad():
        z = feed(before, spec.example())
    return tuple(tuple(crossing.shape[1:]) for crossing in (z if isinstance(z, tuple) else (z,)))


def _shown(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(map(str, shapes))
