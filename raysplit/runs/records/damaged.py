"""Bytes of files that anybody may have written, and the error for those that are not what they should be."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

MAX_BYTES = 2**28
"""Size up to which a file of settings or metrics is read; the metrics of a million rounds take about half of it."""
WAY_OUT = "take it from a copy of the folder, leave the run out, or train again"


class Damaged(ValueError):
    """Exception for a file of a run folder that cannot be read; the message has the file, the reason and the way out.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str, way_out: str = WAY_OUT) -> None:
        super().__init__(f"{path} is damaged: {reason}; {way_out}")
        self.path, self.reason, self.way_out = path, reason, way_out

    def __reduce__(self) -> tuple[type[Damaged], tuple[Path, str, str]]:
        return Damaged, (self.path, self.reason, self.way_out)


def text_of(path: Path) -> str:
    """Read a text file. Raises `Damaged`, or ``FileNotFoundError`` where there is none."""
    try:
        return bytes_of(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"byte {error.start} is not UTF-8 text") from error


def bytes_of(path: Path) -> bytes:
    """Read a file of bounded size. Raises `Damaged`, or ``FileNotFoundError`` where there is none."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would block, and a device might never end
            raise Damaged(path, "it is not a file")
        if found.st_size > MAX_BYTES:
            raise Damaged(path, f"it has {found.st_size:,} bytes, and at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(path, f"it cannot be read ({error.strerror or error})") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises in the block into `Damaged`; ``FileNotFoundError`` passes."""
    try:
        yield
    except (Damaged, FileNotFoundError):
        raise
    except UnpicklingError as error:  # whose text advises to run what is in the file
        raise Damaged(path, "it is cut short, or holds more than weights") from error
    except Exception as error:  # parsers of binary files have errors of any kind for bytes that anybody wrote
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise Damaged(path, f"{type(error).__name__}{f': {first[:200]}' if first else ''}") from error
