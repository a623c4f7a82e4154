"""Paths and names: ``~`` and ``$VARIABLE`` in paths of users, the characters of a run's name, and names of others.

A name of others is one that this program did not choose: a key of a bucket, the last part of a URI, the path of a file
in a run folder that somebody sent. `inside` is the only way from such a name to a path of this machine.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from raysplit.registry import clipped, shown

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MAX_NAME = 200
_MAX_STEP = 255  # bytes in a name that file systems take
_CACHE = "RAYSPLIT_CACHE"
FILE_SUFFIXES = (".npz", ".parquet", ".csv")
"""Ends of a name of data that is the path of a file."""
TEXT = "text:"
"""Beginning of the name of a text; behind it are the paths of its files, ``python_topics`` or
``python_packages``."""
FOLDER = "folder:"
"""Beginning of the name of a folder of pictures."""
PLACES = (TEXT, FOLDER)
"""Beginnings of names of data that are followed by a path."""
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


def checked_steps(path: str) -> tuple[str, ...]:
    """Return the names on a relative path of others, which leads nowhere but down.

    Raises:
        ValueError: for an empty, absolute or upward path, and for names that no file can have everywhere.
    """
    steps = tuple(path.split("/"))
    for step in steps:
        if step in ("", ".", "..") or "\\" in step or not step.isprintable():
            raise ValueError(
                f"{path!r} cannot name a file below a folder: {step!r} is no name; names are divided by single /, and "
                f"none is empty, '.' or '..' or has a backslash or a control character"
            )
        if len(os.fsencode(step)) > _MAX_STEP:
            raise ValueError(f"{path[:40]!r}... cannot name a file: a name in it is longer than {_MAX_STEP} bytes")
    return steps


def inside(folder: Path, name: str) -> Path:
    """Return the path of a name of others below a folder; nothing needs to be there.

    Raises:
        ValueError: the name leads out of the folder, by itself (see `checked_steps`) or by a link that is there.
    """
    path = folder.joinpath(*checked_steps(name))
    refuse_way_out(folder, path)
    return path


def refuse_way_out(folder: Path, path: Path) -> None:
    """Raise ``ValueError`` if a path below a folder leads out of it by a link."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path} is, or is behind, a link to {path.resolve()}, out of {folder}; links out of a folder are not "
            f"followed, so put the file itself there"
        )


def refuse_links_out(folder: Path) -> None:
    """Raise ``ValueError`` if a folder has a link that leads out of it, through which other files would be written."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(parent) / name).is_symlink():
                refuse_way_out(folder, path)


def checked_location(location: str) -> str:
    """Return a path or URI of a folder if it is a whole one.

    Raises:
        ValueError: for an empty text, a URI without a scheme or a path, and a URI with ``..``.
    """
    if not location.strip():
        raise ValueError(f"{location!r} is no folder; give a path, or a URI such as s3://bucket/runs")
    if is_uri(location):
        scheme, _, rest = location.partition("://")
        path = rest.partition("?")[0].strip("/")
        if not scheme or not path:
            raise ValueError(f"{location!r} is half a URI; give all of it, such as s3://bucket/runs")
        if {".", ".."} & set(path.split("/")):
            raise ValueError(f"{location!r} has . or .. in it, which a store takes as names; write the URI without")
    return location


def own_folder(name: str) -> Path:
    """Return a folder of this user's cache, which nobody else can read or write; it is made where it is missing.

    The cache is ``$RAYSPLIT_CACHE``, else ``raysplit`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        ValueError: the folder cannot be made, is a link, or is somebody else's.
    """
    cache = os.environ.get(_CACHE)
    home = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raysplit"
    path = home.absolute()
    _make_own(path)
    for step in checked_steps(name):
        path /= step
        _make_own(path)
        path.chmod(0o700)  # a folder of an earlier version, or made under another umask
    return path


def _make_own(path: Path) -> None:
    way_out = f"set {_CACHE} to a folder of your own"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ValueError(f"the cache folder {path} cannot be made: {error.strerror}; {way_out}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"the cache folder {path} is a link; remove it, or {way_out}")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise ValueError(f"others can write to the cache folder {path}; {way_out}")


def fresh_folder(name: str) -> Path:
    """Make an empty folder with a name that nobody can foresee, in a folder of this user's cache (see `own_folder`)."""
    return Path(tempfile.mkdtemp(dir=own_folder(name)))
