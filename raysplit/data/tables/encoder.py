"""The code of a table: mean and deviation of numeric columns, numbers of categories, and the inputs made with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.tables.columns import Coded, Columns, place

Encode = Literal["one_hot", "index"]
Unseen = Literal["error", "other"]
Missing = Literal["error", "mean"]
Numbers = npt.NDArray[np.float64]
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Raw:
    """The inputs of a table as they stand in it.

    Attributes:
        numeric: numbers [N, k], NaN where one is missing.
        binary: 0 and 1 [N, b].
        categorical: the columns of categories, by name.
        owner: owner of each row, for messages.
        rows: where each row stands in the file, for messages.
    """

    numeric: Numbers
    binary: Numbers
    categorical: Mapping[str, Coded]
    owner: Sequence[Any] | None
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Code:
    """What turns a row into inputs.

    Attributes:
        mean: mean of each numeric column [k].
        std: deviation of each numeric column [k].
        categories: by column, its categories; the code of the first is 1, and 0 stands for any other.
    """

    mean: Numbers
    std: Numbers
    categories: Mapping[str, tuple[str, ...]]

    def cardinalities(self) -> tuple[int, ...]:
        """Return the number of codes of each categorical column, that of any other category included."""
        return tuple(len(names) + 1 for names in self.categories.values())

    def inputs(
        self, raw: Raw, columns: Columns, source: str, *, encode: Encode, unseen: Unseen, missing: Missing
    ) -> Values:
        """Return the inputs of all rows: one float tensor, or ``numeric`` and ``categorical`` codes for embeddings.

        Raises ``ValueError`` for a category that has no code, with column, owner, row and value.
        """
        scaled = np.nan_to_num((raw.numeric - self.mean) / self.std)
        parts = [scaled, raw.binary]
        if missing == "mean":
            parts.insert(1, np.isnan(raw.numeric).astype(np.float64))
        codes = {name: self._codes(raw, name, source, unseen) for name in columns.categorical}
        if encode == "one_hot":
            parts += [np.eye(len(self.categories[name]) + 1)[own] for name, own in codes.items()]
            return _floats(parts)
        index = torch.from_numpy(np.stack([*codes.values()], axis=1)) if codes else None
        if index is None:
            return _floats(parts)
        floats = {"numeric": _floats(parts)} if sum(part.shape[1] for part in parts) else {}
        return {**floats, "categorical": index}

    def _codes(self, raw: Raw, name: str, source: str, unseen: Unseen) -> npt.NDArray[np.int64]:
        column, known = raw.categorical[name], self.categories[name]
        number = {category: code for code, category in enumerate(known, start=1)}
        codes = np.array([number.get(category, 0) for category in column.names] + [0], np.int64)[column.codes]
        if unseen == "error" and not codes.all():
            row = int((codes == 0).argmax())
            value = "missing" if column.codes[row] < 0 else repr(column.names[column.codes[row]])
            near = sorted(known, key=lambda other: _distance(other, value.strip("'")))[:_MOST_NAMED]
            at = place(source, name, row, raw.owner, raw.rows)
            raise ValueError(
                f"{at} is {value}, which is not among the {len(known)} known categories "
                f"({', '.join(near)}{', ...' if len(known) > len(near) else ''}); repair it, or set "
                f"data.unseen: other to give all such rows one code"
            )
        return codes


def _floats(parts: Sequence[Numbers]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def _distance(one: str, other: str) -> float:
    from difflib import SequenceMatcher

    return -SequenceMatcher(None, one, other).ratio()
