"""Tokens as whole numbers: their checks, their size in memory, and the token that follows each as the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.labels import NO_LABEL
from raysplit.data.reading import as_int64
from raysplit.data.sequences.ragged import Ragged
from raysplit.tasks import next_tokens as next_of_rows

Array = npt.NDArray[Any]


def stored_ids(
    ids: Array,
    source: str,
    *,
    name: str,
    vocabulary: int | None = None,
    ragged: Ragged | None = None,
    owner: Array | None = None,
) -> Tensor:
    """Return token ids [N, ...], or flat ones [rows], in the smallest of uint8 and int32 that holds them, else int64.

    Args:
        ids: whole numbers.
        source: name of the data in messages.
        name: name of the input in messages.
        vocabulary: number of tokens; None takes all ids from 0 on.
        ragged: where the samples of flat ids begin.
        owner: owner of each sample, for messages.

    Raises:
        ValueError: for numbers that are not whole, negative ids, and ids beyond the vocabulary, with owner, row,
            position and value.
    """
    whole = ids.dtype.kind in "uib" or (ids.dtype.kind == "f" and np.isfinite(ids).all() and (ids % 1 == 0).all())
    if not whole:
        raise ValueError(f"{source}: {name} holds {ids.dtype} values, and tokens are whole numbers; store integers")
    numbers = torch.from_numpy(as_int64(ids, source, name))
    bad = numbers < 0
    if vocabulary is not None:
        bad |= numbers >= vocabulary
    if bad.any():
        place = place_of(bad, ragged, owner)
        value = int(numbers[bad][0])
        known = "" if vocabulary is None else f", and the vocabulary has {vocabulary}"
        way = (
            "number the tokens from 0 on"
            if value < 0
            else f"give a vocabulary of at least {int(numbers.max()) + 1}, or number the tokens anew"
        )
        raise ValueError(f"{source}: {name} of {place}, is the token {value}; tokens are 0, 1, ...{known}, so {way}")
    top = (vocabulary or int(numbers.max()) + 1) if numbers.numel() else 1
    return numbers.to(torch.uint8 if top <= 256 else torch.int32 if top <= 2**31 else torch.int64)


def place_of(bad: Tensor, ragged: Ragged | None, owner: Array | None) -> str:
    """Name the owner, the row and the position of the first true entry of ``bad`` [N, ...], or flat [rows]."""
    first = bad.nonzero()[0].tolist()
    row, inside = first[0], first[1:]
    if ragged is not None:
        row = ragged.sample_of(first[0])
        inside = [first[0] - int(ragged.offsets[row]), *first[1:]]
    of = "" if owner is None else f" of owner {owner[row]}"
    return f"row {row}{of}" + (f", position {', '.join(map(str, inside))}" if inside else "")


def next_tokens(ids: Tensor, ragged: Ragged | None = None) -> Tensor:
    """Return the token that follows each token, int64 of the shape of ``ids``; `NO_LABEL` follows the last of a sample.

    Args:
        ids: tokens [N, T], or the flat ones [rows] of samples of different lengths.
        ragged: where the samples of flat ids begin.
    """
    if ragged is None:
        return next_of_rows(ids.long())
    following = torch.full(ids.shape, NO_LABEL, dtype=torch.int64)
    following[:-1] = ids[1:].long()
    ends = ragged.offsets[1:][ragged.lengths > 0] - 1
    following[ends] = NO_LABEL
    return following
