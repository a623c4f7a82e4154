"""An owner that holds the samples of several, and transforms each sample as the owner that it comes from does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raysplit.actors.data_owner import Batch, DataOwner
from raysplit.actors.parts.losses import wire_labels
from raysplit.actors.records import StepId
from raysplit.data.inputs import Values, concatenated, map_values
from raysplit.data.sequences.masking import learned
from raysplit.data.transforms import Transform, transformed
from raysplit.seeding import derive


class PooledOwner(DataOwner):
    """A `DataOwner` whose samples come from owners with transforms of their own.

    Args:
        transforms: the transform of each of these owners.
        origin: the position in ``transforms`` of the owner of each sample [N].
        arguments: those of `DataOwner`.
    """

    may_rest = True

    def __init__(self, *, transforms: Sequence[Transform], origin: Tensor, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._transforms = transforms
        self._origin = origin

    def whole_shard(self, purpose: str) -> Iterator[Batch]:
        for batch in super().whole_shard(purpose):
            first = int(batch.indices[0])
            stream = partial(derive, self._training.seed, self.name, purpose, first)
            x = self._inputs(self._shard.take(batch.indices).x, batch.indices, stream)
            yield replace(batch, x=self._spec.cast(x), y=learned(x, batch.y))

    def _batch(self, step_id: StepId, indices: Tensor) -> Batch:
        samples = self._shard.take(indices)
        stream = partial(step_id.stream, self._training.seed, "transform")
        x = self._inputs(samples.x, indices, stream)
        return Batch(x=self._spec.cast(x), y=wire_labels(learned(x, samples.y)), indices=indices)

    def _inputs(self, x: Values, indices: Tensor, stream: Callable[[], int]) -> Values:
        """Transform each row of ``x`` [B, ...] as its owner does, with a random stream of that owner."""
        origins = self._origin[indices]
        rows = {origin: (origins == origin).nonzero()[:, 0] for origin in sorted(set(origins.tolist()))}
        pieces = [
            transformed(
                map_values(partial(torch.index_select, dim=0, index=at), x),
                self._transforms[origin],
                lambda origin=origin: derive(stream(), "origin", origin),  # type: ignore[misc]
            )
            for origin, at in rows.items()
        ]
        order = torch.argsort(torch.cat(list(rows.values())))
        return map_values(partial(torch.index_select, dim=0, index=order), concatenated(pieces))
