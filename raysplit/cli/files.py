"""Files that commands write for their user: names of their own, and a word where one is replaced."""

from __future__ import annotations

from pathlib import Path


def free_name(path: Path) -> Path:
    """Return the path, or the first of ``name-2.png``, ``name-3.png``, ... that does not exist."""
    number = 2
    free = path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free


def chosen(given: Path | None, default: Path) -> tuple[Path, str]:
    """Return the file to write, and what to say behind its name: a given one is replaced, no other is.

    Args:
        given: the file that the user named; None takes a free name beside ``default``.
        default: the name without a user's.
    """
    if given is None:
        return free_name(default), ""
    return given, " (replaced)" if given.exists() else ""
