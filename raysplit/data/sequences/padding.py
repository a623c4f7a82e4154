"""The length of padded batches by the settings ``data.pad_to``, ``pad_multiple`` and ``truncate``.

Samples of different lengths stay as they are in memory; a batch of them is filled up on the right. ``longest`` is the
length of the longest sample of a batch, so that batches differ; any other rule gives all batches one length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from raysplit.data.inputs import UNNAMED
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.ragged import Ragged, with_lengths

PadTo = Literal["longest", "max"] | int


@dataclass(frozen=True, kw_only=True)
class Padding:
    """The settings of ``data`` about samples of different lengths.

    Attributes:
        pad_to: length of batches: that of the longest sample of the batch (``longest``) or of all samples (``max``), or
            a number.
        multiple: number that this length is rounded up to a multiple of.
        truncate: whether to cut samples that are longer than ``pad_to`` says, or than ``limit``.
        limit: number of positions of the model; None where it does not matter.
    """

    pad_to: PadTo = "longest"
    multiple: int = 1
    truncate: bool = False
    limit: int | None = None

    @property
    def needs_model(self) -> bool:
        """Whether the model says where samples are cut."""
        return self.truncate and not isinstance(self.pad_to, int)


def padded(data: DataSet, padding: Padding) -> DataSet:
    """Return a data set whose batches have the length that the settings say.

    Raises ``ValueError`` for a sample that is longer than ``pad_to`` where ``truncate`` is not set.
    """
    if not data.train.ragged:
        return data
    limit = padding.pad_to if isinstance(padding.pad_to, int) else padding.limit
    if limit is not None and not padding.truncate:
        _refuse_longer(data, limit)
    cut = {side: _shortened(samples, limit) for side, samples in _sides(data).items()}
    length = padding.pad_to if isinstance(padding.pad_to, int) else None
    if padding.pad_to == "max":
        length = max(ragged.longest for samples in cut.values() for ragged in samples.ragged.values())
    if length is not None:
        length = -(-length // padding.multiple) * padding.multiple
    sides = {side: _of_length(samples, length, padding.multiple) for side, samples in cut.items()}
    rules = sides["train"].ragged
    return replace(
        data,
        train=sides["train"],
        test=sides["test"],
        val=sides.get("val"),
        inputs=with_lengths(data.inputs, rules),
        targets=with_lengths(data.targets, rules),
        input_shape=(),
        done=(*data.done, _told(rules, limit, padding)),
    )


def _sides(data: DataSet) -> dict[str, Samples]:
    sides = {"train": data.train, "test": data.test, "val": data.val}
    return {side: samples for side, samples in sides.items() if samples is not None}


def _refuse_longer(data: DataSet, limit: int) -> None:
    for side, samples in _sides(data).items():
        for name, ragged in samples.ragged.items():
            if ragged.longest > limit:
                row = int(ragged.lengths.argmax())
                owner = data.natural_owner if side == "train" else data.test_owner if side == "test" else None
                of = "" if owner is None else f" of owner {owner[row]}"
                raise ValueError(
                    f"{name} of {side} sample {row}{of} has the length {ragged.longest} and data.pad_to is {limit}; "
                    f"set data.truncate: true to leave out what is behind, or data.pad_to: {ragged.longest}"
                )


def _shortened(samples: Samples, limit: int | None) -> Samples:
    if limit is None or all(ragged.longest <= limit for ragged in samples.ragged.values()):
        return samples
    found = {name: ragged.shortened(_value(samples, name), limit) for name, ragged in samples.ragged.items()}
    return _replaced(samples, {name: flat for name, (flat, _) in found.items()}, {n: r for n, (_, r) in found.items()})


def _of_length(samples: Samples, length: int | None, multiple: int) -> Samples:
    kept = {name: replace(ragged, length=length, multiple=multiple) for name, ragged in samples.ragged.items()}
    return replace(samples, ragged=kept)


def _value(samples: Samples, name: str) -> Tensor:
    x: Mapping[str, Tensor] = {UNNAMED: samples.x} if isinstance(samples.x, Tensor) else samples.x
    y: Mapping[str, Tensor] = {"y": samples.y} if isinstance(samples.y, Tensor) else samples.y
    return x[name] if name in x else y[name]


def _replaced(samples: Samples, flats: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> Samples:
    def of(name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            return flats.get(name, value)
        return {key: flats.get(key, tensor) for key, tensor in value.items()}

    return Samples(x=of(UNNAMED, samples.x), y=of("y", samples.y), ragged=ragged)


def _told(rules: Mapping[str, Ragged], limit: int | None, padding: Padding) -> str:
    first = next(iter(rules.values()))
    if first.length is None:
        to = "the longest sample of a batch" + (
            f", rounded up to a multiple of {first.multiple}" if first.multiple > 1 else ""
        )
    else:
        to = f"length {first.length}"
    cut = f", longer samples cut to {limit}" if padding.truncate and limit is not None else ""
    return f"{', '.join(rules)}: padded on the right to {to}{cut}"
