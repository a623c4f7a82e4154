"""Paths and names as users write them: ``~`` and ``$VARIABLE`` in paths, and the characters of a run's name."""

from __future__ import annotations

import os
import re
from datetime import datetime
from secrets import token_hex

from raysplit.registry import clipped, shown

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MAX_NAME = 200
NAME_RULE = (
    f"a name has letters a-z, digits and . _ - alone, begins with a letter, a digit or _, up to {_MAX_NAME} in all"
)


def is_uri(location: str) -> bool:
    """Return whether a location is a URI."""
    return "://" in location


def expanded(path: str) -> str:
    """Return a path or URI with its environment variables, and a path with the home folder for ``~``.

    Raises ``ValueError`` for a variable that is not set, a user without a home folder, and a text that no file can be
    named by.
    """
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError
    except ValueError:
        raise ValueError(f"{shown(path)} cannot be a path: it has a character that no file name can have") from None

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise ValueError(
                f"{shown(path)} has the environment variable {name}, which is not set; set it or write the path"
            )
        return os.environ[name]

    full = _VARIABLE.sub(value, path)
    if is_uri(full) or not full.startswith("~"):
        return full
    at_home = os.path.expanduser(full)
    if at_home.startswith("~"):
        user = full.split("/")[0]
        raise ValueError(
            f"{shown(path)} begins with {clipped(user, 100)}, which is no user's home folder; write "
            f"./{clipped(full, 100)} for such a name"
        )
    return at_home


def checked_name(name: str) -> str:
    """Return the name of a run if it can be typed again and is one folder; raise ``ValueError`` with the rule else."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ValueError(f"{shown(name)} cannot be the name of a run: {NAME_RULE}")
    return name


def fresh_name(stem: str) -> str:
    """Return a name for a run that was given none: the stem, the time of day, and digits that no other run has."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:80] or "run"
    return f"{plain}-{datetime.now():%Y%m%d-%H%M%S}-{token_hex(3)}"
