"""Folders given by a path or by a URI of `pyarrow.fs`: ``s3://bucket/folder``, ``gs://bucket/folder``, ``file:///folder``.

A URI may end with options of its file system, ``s3://bucket/folder?endpoint_override=host%3Aport&scheme=http``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from raysplit.paths import checked_location, checked_steps, is_uri

COPIES: set[Path] = set()
"""Parents of copies of runs at URIs, which are removed when the program ends."""


def beside(run: Path) -> Path:
    """Return the folder for files about a run: its parent, or the working directory for a copy of a run at a URI."""
    return Path() if run.parent in COPIES else run.parent


def below(location: str, name: str) -> str:
    """Return the location of a folder inside another one; the options of a URI stay at its end."""
    place, mark, options = location.partition("?") if is_uri(location) else (location, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


def opened(location: str, what: str) -> tuple[Any, str]:
    """Return the file system of a location and the path in it.

    Raises ``ValueError`` for a URI that cannot be opened, or whose path is not that of one folder below its store; the
    message names ``what`` is stored there.
    """
    checked_location(location)
    if not is_uri(location):
        return fs.LocalFileSystem(), str(Path(location).absolute())
    try:
        found, folder = fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ValueError(f"{what} cannot be at {location}: {error}; give a path, s3://... or gs://...") from error
    try:
        checked_steps(folder.strip("/"))  # after %2e%2e has become ..
    except ValueError as error:
        raise ValueError(f"{what} cannot be at {location}: {error}") from None
    return found, folder.rstrip("/")


def last_part(folder: str) -> str:
    """Return the name of a folder of `opened`, the last part of its path."""
    return folder.rpartition("/")[2]
