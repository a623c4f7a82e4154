"""Folders by path or by URI of `pyarrow.fs`: ``s3://bucket/folder``, ``gs://bucket/folder``, ``file:///folder``.

A URI may end with the options of its file system, ``s3://bucket/folder?endpoint_override=host%3Aport&scheme=http``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs


def is_uri(location: str) -> bool:
    """Whether this names a folder by URI."""
    return "://" in location


def below(location: str, name: str) -> str:
    """A folder in a folder; a URI's options stay behind the path."""
    place, mark, options = location.partition("?") if is_uri(location) else (location, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


def opened(location: str, what: str) -> tuple[Any, str]:
    """The file system of a location and the folder there; ``what`` it is for stands in the error's message."""
    if not is_uri(location):
        return fs.LocalFileSystem(), str(Path(location).absolute())
    try:
        found, folder = fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ValueError(f"{what} cannot go to {location}: {error}; give a path, s3://... or gs://...") from error
    return found, folder.rstrip("/")
