"""Files that are written whole or not at all, and what is said where a disk does not take them."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PART = ".part"
"""End of the name of a file that is being written."""
TRY_AGAIN = "make room there and try again"


class NotWritten(OSError):
    """Exception for a file that a disk did not take; the message has the reason, the free space and the way out."""


@contextmanager
def written(target: Path, advice: str = TRY_AGAIN) -> Iterator[Path]:
    """Yield a path beside the target, and rename it to the target at the end; nothing stays beside it after an error.

    Raises:
        NotWritten: the disk did not take the file; what was there before is unchanged.
    """
    aside = target.with_name(f"{target.name}{PART}")
    with told_where(target, advice):
        try:
            yield aside
            os.replace(aside, target)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


@contextmanager
def told_where(target: Path, advice: str = TRY_AGAIN) -> Iterator[None]:
    """Raise `NotWritten` for an error of the disk inside the context, which is about the file ``target``."""
    try:
        yield
    except NotWritten:
        raise
    except (OSError, RuntimeError) as error:  # torch.save has RuntimeError for a full disk
        raise NotWritten(f"{target} could not be written: {_reason(error)}; {_free(target)}; {advice}") from error


def append_line(target: Path, line: str, advice: str = TRY_AGAIN) -> None:
    """Append a line to a file and flush. Raises `NotWritten`, and the file is as before."""
    size = target.stat().st_size if target.exists() else 0
    try:
        with told_where(target, advice), target.open("ab") as file:
            file.write(f"{line}\n".encode())
    except NotWritten:
        with suppress(OSError):
            os.truncate(target, size)
        raise


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if isinstance(code, int):
        return os.strerror(code)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the disk took only a part of it ({text})" if isinstance(error, RuntimeError) else text


def _free(target: Path) -> str:
    folder = next((path for path in target.absolute().parents if path.is_dir()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free in {folder}"


class SpillFile:
    """Values by key in an unnamed temporary file, restored bit for bit; it does not grow where sizes repeat."""

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
        import torch  # the other functions of this file are needed without it

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
        import torch

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
