"""An unnamed temporary file for tensors of parties that are idle; it does not grow where sizes repeat."""

from __future__ import annotations

import io
import tempfile
from collections import defaultdict
from collections.abc import Hashable
from typing import IO, Any

import torch


class SpillFile:
    """Values by key on disk: tensors and built-in types, restored bit for bit."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._places: dict[Hashable, tuple[int, int]] = {}  # offset and length
        self._gaps: defaultdict[int, list[int]] = defaultdict(list)  # free offsets by length

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: Hashable, value: Any) -> None:
        """Write a value under a new key."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="raysplit-owners-")  # noqa: SIM115
        buffer = io.BytesIO()
        torch.save(value, buffer)
        raw = buffer.getvalue()
        gaps = self._gaps[len(raw)]
        place = gaps.pop() if gaps else self._file.seek(0, io.SEEK_END)
        self._file.seek(place)
        self._file.write(raw)
        self._places[key] = (place, len(raw))

    def take(self, key: Hashable) -> Any:
        """Return a value and forget it."""
        assert self._file is not None
        place, length = self._places[key]
        self._file.seek(place)
        value = torch.load(io.BytesIO(self._file.read(length)), weights_only=True)
        self.forget(key)
        return value

    def forget(self, key: Hashable) -> None:
        """Drop a value, if it is there."""
        if key in self._places:
            place, length = self._places.pop(key)
            self._gaps[length].append(place)
