"""The samples of an owner that reads them itself, at its place."""

from __future__ import annotations

from raysplit.data.by_owner.sealed import SealedSamples
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.spec import ModelSpec
from raysplit.models.token_limits import check_tokens

Sides = tuple[Samples, Samples | None, Transform, Transform]


def read_at_owner(
    shard: Samples | SealedSamples,
    test: Samples | SealedSamples | None,
    transform: Transform,
    eval_transform: Transform | None,
    spec: ModelSpec,
) -> Sides:
    """Return the training and test samples of an owner with their transforms; sealed ones are read here.

    Raises ``ValueError`` where they cannot be read, have changed, or have tokens that the model does not know.
    """
    if not isinstance(shard, SealedSamples):
        assert not isinstance(test, SealedSamples)
        return shard, test, transform, eval_transform or transform
    found = shard.opened()
    if isinstance(found.train, Samples):
        try:
            check_tokens(found.data, spec, ())
        except ValueError as error:
            raise ValueError(f"data of {shard.source}: {error}") from error
    return found.train, None if test is None else found.test, found.transform, found.eval_transform
