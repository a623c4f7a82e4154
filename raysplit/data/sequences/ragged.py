"""Where each sample begins in a flat tensor that holds samples of different lengths, and batches of them.

The rows of N samples stand one after the other in a tensor [rows, ...]; `Ragged` has the N + 1 offsets. No Python
object exists for a single sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raysplit.data.inputs import Input


@dataclass(frozen=True, kw_only=True, eq=False)
class Ragged:
    """Where N samples begin in one flat tensor, and how batches of them are filled up on the right.

    Attributes:
        offsets: first row of each sample, and the number of all rows, int64 [N + 1].
        pad: value that fills up shorter samples.
        length: length of all batches; None takes the longest sample of each batch.
        multiple: number that the longest sample of a batch is rounded up to a multiple of.

    Raises:
        ValueError: for offsets that do not rise from 0 on, and a sample that is longer than ``length``.

    Example:
        >>> ragged = Ragged(offsets=torch.tensor([0, 2, 5]), pad=9)
        >>> ragged.padded(torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 1])).tolist()
        [[1, 2, 9], [3, 4, 5]]
    """

    offsets: Tensor
    pad: float = 0
    length: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.dtype != torch.int64 or offsets.ndim != 1 or not len(offsets) or int(offsets[0]) != 0:
            raise ValueError(
                f"offsets are {offsets.dtype} of shape {tuple(offsets.shape)}; give int64 [N + 1] that begin with 0"
            )
        if len(offsets) > 1 and int(self.lengths.min()) < 0:
            row = int(self.lengths.argmin())
            raise ValueError(
                f"offsets fall from {int(offsets[row])} to {int(offsets[row + 1])} after entry {row}; they must rise, "
                f"from 0 to the number of all rows"
            )
        if self.multiple < 1 or (self.length is not None and self.length < 1):
            raise ValueError(f"length is {self.length} and multiple is {self.multiple}; give numbers from 1 on")
        if self.length is not None and self.longest > self.length:
            raise ValueError(
                f"sample {int(self.lengths.argmax())} has the length {self.longest} and batches have the length "
                f"{self.length}; give at least {self.longest}, or shorten the sample"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Length of each sample, int64 [N]."""
        return self.offsets.diff()

    @property
    def longest(self) -> int:
        """Length of the longest sample, 0 without samples."""
        return int(self.lengths.max()) if len(self) else 0

    def sample_of(self, row: int) -> int:
        """Return the sample that has a row of the flat tensor."""
        return int(torch.searchsorted(self.offsets, row, right=True)) - 1

    def padded_length(self, lengths: Tensor) -> int:
        """Return the length of a batch of samples with these lengths."""
        if self.length is not None:
            return self.length
        longest = max(1, int(lengths.max()) if len(lengths) else 1)
        return -(-longest // self.multiple) * self.multiple

    def padded(self, flat: Tensor, chosen: Tensor) -> Tensor:
        """Return the samples at ``chosen`` [B] of a flat tensor [rows, ...] as a batch [B, length, ...]."""
        lengths = self.lengths[chosen]
        batch = flat.new_full((len(chosen), self.padded_length(lengths), *flat.shape[1:]), self.pad)
        batch[torch.arange(batch.shape[1]) < lengths[:, None]] = flat[self._rows(chosen, lengths)]
        return batch

    def subset(self, flat: Tensor, chosen: Tensor) -> tuple[Tensor, Ragged]:
        """Return the samples at ``chosen`` [M] as a flat tensor of their own, with its offsets."""
        lengths = self.lengths[chosen]
        return flat[self._rows(chosen, lengths)], replace(self, offsets=offsets_of(lengths))

    def shortened(self, flat: Tensor, longest: int) -> tuple[Tensor, Ragged]:
        """Return all samples without what lies behind their first ``longest`` rows."""
        lengths = self.lengths.clamp(max=longest)
        return flat[self._rows(torch.arange(len(self)), lengths)], replace(self, offsets=offsets_of(lengths))

    def _rows(self, chosen: Tensor, lengths: Tensor) -> Tensor:
        """Return the rows [sum of lengths] of the first ``lengths`` rows of some samples, one after the other."""
        ends = lengths.cumsum(0)
        begin = torch.repeat_interleave(self.offsets[chosen] - (ends - lengths), lengths)
        return begin + torch.arange(len(begin))


def offsets_of(lengths: Tensor | Sequence[int]) -> Tensor:
    """Return the offsets int64 [N + 1] of samples with these lengths."""
    given = torch.as_tensor(lengths, dtype=torch.int64)
    return torch.cat([given.new_zeros(1), given.cumsum(0)])


def with_lengths(records: Mapping[str, Input], ragged: Mapping[str, Ragged]) -> dict[str, Input]:
    """Return the records of padded batches, with the length of batches where it is fixed, and None where it is not."""
    return {
        name: replace(
            record,
            shape=(ragged[name].length, *record.shape[1:]),
            ragged=ragged[name].length is None,
            pad=ragged[name].pad,
        )
        if name in ragged
        else record
        for name, record in records.items()
    }
