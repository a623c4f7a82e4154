"""Masks, which say what of a padded batch is no padding: made from lengths, or checked where data bring one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.sequences.ragged import Ragged

MASK = "attention_mask"
"""Name of the input that is true, or 1, where a sample has a token."""

IDS = ("input_ids", "ids", "tokens")
"""Names of the input whose shape a mask has."""


def with_mask(x: Values, ragged: Mapping[str, Ragged], name: str) -> tuple[dict[str, Tensor], dict[str, Ragged]]:
    """Return named inputs and where their samples begin, with a mask of the ragged input ``name`` unless they have one.

    A batch of the mask is true for the rows of a sample and false for the padding.
    """
    values = {name: x} if isinstance(x, Tensor) else dict(x)
    if name not in ragged or MASK in values:
        return values, dict(ragged)
    is_row = torch.ones(len(values[name]), dtype=torch.bool)
    own = Ragged(offsets=ragged[name].offsets, length=ragged[name].length, multiple=ragged[name].multiple)
    return {**values, MASK: is_row}, {**ragged, MASK: own}


def check_masks(
    x: Values, ragged: Mapping[str, Ragged], who: str, owner: npt.NDArray[np.generic] | None = None
) -> None:
    """Raise ``ValueError`` for a mask of another shape than the ids, of other values than 0 and 1, or of nothing.

    Args:
        x: the inputs; without `MASK` among them there is nothing to check.
        ragged: where samples of different lengths begin, by name.
        who: what a sample is called in messages, before its row.
        owner: the owner of each sample, for messages.
    """
    if isinstance(x, Tensor) or MASK not in x:
        return
    mask, name = x[MASK], _ids_of(x)

    def said(row: int) -> str:
        return f"{MASK} of {who} {row}" + ("" if owner is None else f" of owner {owner[row]}")

    if name is not None:
        _check_shapes(mask, x[name], ragged, name, said)
    known = (mask == 0) | (mask == 1)
    if not known.all():
        row = _row(~known, ragged.get(MASK))
        value = mask[~known][0].item()
        raise ValueError(f"{said(row)} has the value {value}; it must be 1 for a token and 0 for padding")
    valid = _valid_by_row(mask, ragged.get(MASK))
    if not valid.all():
        raise ValueError(
            f"{said(int((~valid).int().argmax()))} has no 1, so that the sample has no token; drop it, or "
            f"repair its mask"
        )


def _ids_of(x: Mapping[str, Tensor]) -> str | None:
    whole = [name for name, value in x.items() if name != MASK and not value.is_floating_point()]
    return next((name for name in (*IDS, *whole) if name in x), None)


def _check_shapes(
    mask: Tensor, ids: Tensor, ragged: Mapping[str, Ragged], name: str, said: Callable[[int], str]
) -> None:
    of_mask, of_ids = ragged.get(MASK), ragged.get(name)
    if of_mask is not None and of_ids is not None:
        differ = of_mask.lengths != of_ids.lengths
        if differ.any():
            row = int(differ.int().argmax())
            raise ValueError(
                f"{said(row)} has the length {int(of_mask.lengths[row])} and {name} has the length "
                f"{int(of_ids.lengths[row])}; give the mask one entry per token"
            )
    elif (of_mask is None) != (of_ids is None) or mask.shape[1:2] != ids.shape[1:2]:
        shapes = [list(v.shape[1:]) if r is None else "of its own" for v, r in ((mask, of_mask), (ids, of_ids))]
        raise ValueError(
            f"{said(0)} has the shape {shapes[0]} and {name} has the shape {shapes[1]}; give the mask one "
            f"entry per token"
        )


def _row(bad: Tensor, ragged: Ragged | None) -> int:
    first = int(bad.reshape(len(bad), -1).any(dim=1).int().argmax())
    return first if ragged is None else ragged.sample_of(first)


def _valid_by_row(mask: Tensor, ragged: Ragged | None) -> Tensor:
    if ragged is None:
        return mask.reshape(len(mask), -1).bool().any(dim=1)
    found = torch.zeros(len(ragged), dtype=torch.int64)
    owner = torch.repeat_interleave(torch.arange(len(ragged)), ragged.lengths)
    return found.index_add_(0, owner, mask.reshape(len(mask), -1).bool().any(dim=1).long()) > 0
