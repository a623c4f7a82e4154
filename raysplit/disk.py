"""Files that are written whole or not at all, and what is said where a disk does not take them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
