"""The length that samples have in a batch, for bytes and times of a step without real samples."""

from __future__ import annotations

import torch

from raysplit.data.samples import DataSet
from raysplit.seeding import torch_generator


def padded_length(data: DataSet, given: int | None, *, batch_size: int, seed: int) -> int | None:
    """Return the length of batches of samples that differ in it; None where all batches have one shape.

    Args:
        data: the data set.
        given: the length, if it is known; None takes the mean over the batches of an epoch.
        batch_size: samples of a batch.
        seed: seed of the order of the samples.

    Raises:
        ValueError: a length is given, and all samples have one shape; none is given, and the samples are elsewhere.
    """
    if not any(entry.ragged for entry in data.inputs.values()):
        if given is not None:
            raise ValueError(f"the length is {given}, and all batches of these data have one shape; leave it out")
        return None
    if given is not None:
        return given
    if not data.train.ragged:
        raise ValueError(
            "samples differ in length and are at their owners, so that the length of a batch is not known here; give "
            "one with --length"
        )
    ragged = next(iter(data.train.ragged.values()))
    order = torch.randperm(len(ragged), generator=torch_generator(seed, "padded length"))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    lengths = [ragged.padded_length(ragged.lengths[batch]) for batch in batches]
    return round(sum(lengths) / len(lengths))
