"""The evaluated model with the codecs that stood at its cuts in training.

A network that was trained with a codec has learned with what the codec leaves of its smashed data: without a sparse
codec it can lose many points of accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raysplit.data.inputs import Values, feed
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.frozen import load_trained
from raysplit.models.spec import ModelSpec


class AtCut(Protocol):
    """What stands at a cut: a codec, as the evaluated model sees it."""

    @property
    def mixes_rows(self) -> bool:
        """Whether the result of a row depends on the others of its batch."""
        ...

    def __call__(self, z: Any, number: int) -> Any:
        """Return a tensor as it arrives behind the cut; ``number`` counts the tensors that cross it.

        A guard gets all tensors at once, and the number of the batch.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class AtCuts:
    """Codecs at the cuts of a model.

    Attributes:
        cuts: cuts of the model, as in training.
        codecs: codec at each cut; None for a cut without.
        guard: what the owners' guards make of all that crosses the first cut; None without.
        batch_size: samples of a batch in training, in which codecs that mix rows are evaluated.
    """

    cuts: tuple[int | str, ...]
    codecs: tuple[AtCut | None, ...]
    batch_size: int
    guard: AtCut | None = None

    def model(self, spec: ModelSpec, state: Mapping[str, Tensor], device: str) -> nn.Module:
        """Build the model with these weights, in eval mode."""
        parts = spec.shared_parts(self.cuts, device)
        for part in parts:
            load_trained(part, {key: state[key] for key in part.state_dict() if key in state})
        kind = _Heads if isinstance(spec, ClassifierSpec) else _Chain
        return kind(parts, self).eval().to(device)

    def passed(self, z: Any, cut: int, batch: int) -> Any:
        """Return smashed data as they arrive behind a cut; ``batch`` is the number of their batch."""
        if self.guard is not None and cut == 0:
            z = self.guard(z, batch)
        codec = self.codecs[cut]
        if codec is None:
            return z
        if isinstance(z, tuple):
            return tuple(codec(tensor, i) for i, tensor in enumerate(z))
        return codec(z, 0)


class _Chain(nn.Module):
    """Parts one after the other, with the codecs between them."""

    def __init__(self, parts: Sequence[nn.Module], at_cuts: AtCuts) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._at_cuts = at_cuts
        self._batches = count()

    def forward(self, x: Any = None, **named: Any) -> Any:
        z, batch = feed(self.parts[0], named if x is None else x), next(self._batches)
        for cut, part in enumerate(self.parts[1:]):
            z = self._at_cuts.passed(z, cut, batch)
            z = part(*z) if isinstance(z, tuple) else part(z)
        return z


class _Heads(_Chain):
    """A trunk whose features go to several groups of heads."""

    def forward(self, x: Values | None = None, **named: Any) -> Any:
        z = self._at_cuts.passed(feed(self.parts[0], named if x is None else x), 0, next(self._batches))
        outputs: dict[str, Tensor] = {}
        for heads in self.parts[1:]:
            outputs |= heads(z)
        return outputs


def rows_per_batch(at_cuts: AtCuts | None, usual: int) -> int:
    """Return the number of samples that are evaluated together."""
    here = () if at_cuts is None else (*at_cuts.codecs, at_cuts.guard)
    mixes = any(each is not None and each.mixes_rows for each in here)
    return at_cuts.batch_size if at_cuts is not None and mixes else usual


def evaluated_model(
    spec: ModelSpec, states: Sequence[Mapping[str, Tensor]], at_cuts: AtCuts | None, device: str
) -> torch.nn.Module:
    """Build the model whose weights are the union of ``states``, in eval mode, with the codecs at its cuts."""
    state = {key: value for part in states for key, value in part.items()}
    if at_cuts is not None:
        return at_cuts.model(spec, state, device)
    model = spec.whole(device).eval()
    load_trained(model, state)
    return model
