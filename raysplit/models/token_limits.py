"""Whether the tokens of a data set are within the vocabulary and the positions of its model.

A model that does not say them is run on a row with the largest token, and on a row as long as the longest sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raysplit.data.inputs import UNNAMED, Values, feed
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.masks import IDS
from raysplit.models.limits import limits_of
from raysplit.models.spec import ModelSpec


def id_inputs(data: DataSet) -> list[str]:
    """Return the names of the inputs that are tokens."""
    whole = [name for name, entry in data.inputs.items() if entry.dtype == torch.int64]
    return [name for name in whole if name in (UNNAMED, *IDS)]


def check_tokens(data: DataSet, spec: ModelSpec, parts: Sequence[npt.NDArray[np.int64]]) -> None:
    """Raise ``ValueError`` for a token that the model has no row for, and a sample that is longer than its positions.

    Args:
        data: the data set.
        spec: the model.
        parts: indices of the training samples of each owner, for messages.
    """
    names = id_inputs(data)
    if not names:
        return
    limits = limits_of(spec.build())
    for name in names:
        largest = max(_check_known(data, spec, name, limits.vocabulary, side, parts) for side in ("train", "test"))
        if (said := data.sizes.get("vocab_size")) and limits.vocabulary is not None and said > limits.vocabulary:
            raise ValueError(
                f"the data have a vocabulary of {said} tokens and the model {spec.name!r} has {limits.vocabulary}; set "
                f"its vocabulary (such as model.vocab_size) to at least {said}"
            )
        if limits.vocabulary is None:
            _try(spec, name, largest, None)
        longest = _longest(data, name, parts)
        if limits.positions is not None and longest[0] > limits.positions:
            raise ValueError(
                f"{name} of {longest[1]} has the length {longest[0]}, padding included, and the model {spec.name!r} "
                f"has {limits.positions} positions; set data.truncate: true, a smaller data.pad_to or data.length, or "
                f"more positions in the model"
            )
        if limits.positions is None and data.inputs[name].ragged:
            _try(spec, name, 0, longest)


def _check_known(
    data: DataSet,
    spec: ModelSpec,
    name: str,
    vocabulary: int | None,
    side: str,
    parts: Sequence[npt.NDArray[np.int64]],
) -> int:
    """Return the largest token of a side."""
    samples: Samples = getattr(data, side)
    ids = samples.x if isinstance(samples.x, Tensor) else samples.x[name]
    if not ids.numel():
        return 0
    smallest, largest = (int(value) for value in ids.aminmax())
    bad = ids < 0 if smallest < 0 else ids >= vocabulary if vocabulary is not None and largest >= vocabulary else None
    if bad is None:
        return largest
    first = bad.nonzero()[0].tolist()
    ragged = samples.ragged.get(name)
    row = first[0] if ragged is None else ragged.sample_of(first[0])
    position = first[1] if ragged is None and len(first) > 1 else None
    if ragged is not None:
        position = first[0] - int(ragged.offsets[row])
    place = _place(side, row, parts)
    place += f", position {position}," if position is not None else ""
    value = int(ids[tuple(first)])
    if value < 0:
        raise ValueError(f"{name} of {place} is {value}; tokens are whole numbers from 0 on, so number them anew")
    raise ValueError(
        f"{name} of {place} is the token {value} and the model {spec.name!r} has a vocabulary of {vocabulary}; set its "
        f"vocabulary (such as model.vocab_size) to at least {largest + 1}"
    )


def _longest(data: DataSet, name: str, parts: Sequence[npt.NDArray[np.int64]]) -> tuple[int, str]:
    """Return the length of the longest sample as a batch has it, and which it is."""
    length = data.inputs[name].shape[0] if data.inputs[name].shape else 1
    if length is not None:
        return length, "every sample"
    sides = (("train", data.train), ("test", data.test))
    return max(
        (r.padded_length(r.lengths), _place(side, int(r.lengths.argmax()), parts))
        for side, r in ((side, samples.ragged[name]) for side, samples in sides)
    )


def _place(side: str, row: int, parts: Sequence[npt.NDArray[np.int64]]) -> str:
    """Name a sample, with its owner where it is a training sample of one."""
    owner = next((i for i, part in enumerate(parts) if row in part), None) if side == "train" else None
    return f"{side} sample {row}" + (f" of owner-{owner}" if owner is not None else "")


def _try(spec: ModelSpec, name: str, token: int, longest: tuple[int, str] | None) -> None:
    """Raise ``ValueError`` where the model fails on a row of one token, or of one length, and not on others."""
    model = spec.build().eval()
    usual = spec.example(1)
    if _failure(model, usual):
        return  # which is told of elsewhere
    if longest is None:
        tried = _with(usual, name, lambda ids: torch.full_like(ids, token))
        if error := _failure(model, tried):
            raise ValueError(
                f"{name} has tokens up to {token} and the model {spec.name!r} fails on that one ({error}); give it a "
                f"vocabulary of at least {token + 1}"
            )
        return
    length, which = longest
    stretched = {
        key: value.new_ones((1, length, *value.shape[2:])) if dict(spec.inputs)[key].ragged else value
        for key, value in _by_name(usual).items()
    }
    if error := _failure(model, stretched[UNNAMED] if isinstance(usual, Tensor) else stretched):
        raise ValueError(
            f"{name} of {which} has the length {length} and the model {spec.name!r} fails on it ({error}); set "
            f"data.pad_to to a number that the model takes, with data.truncate: true"
        )


def _by_name(values: Values) -> Mapping[str, Tensor]:
    return {UNNAMED: values} if isinstance(values, Tensor) else values


def _with(values: Values, name: str, change: Any) -> Values:
    if isinstance(values, Tensor):
        changed: Tensor = change(values)
        return changed
    return {key: change(value) if key == name else value for key, value in values.items()}


def _failure(model: nn.Module, batch: Values) -> str:
    try:
        with torch.no_grad():
            feed(model, batch)
    except Exception as error:  # code of the user may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ""
