"""Objects that a Python program gives in the place of names: a class, a function, a module with weights, data.

A configuration holds names only. An object that can be imported everywhere goes by its import path; any other is held
here, in this process, under a name that begins with ``given:``. A run folder keeps that name, with a digest where the
object has a value, so that a run is resumed with the same object or refused.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PREFIX = "given:"
EXPERIMENT = f"{PREFIX}Experiment"
"""In the description of a run that a program made to the end: what no file can say."""

_held: dict[str, Any] = {}


def hold(title: str, value: Any, digest: str = "") -> str:
    """Keep an object in this process; the name by which a configuration of this process means it."""
    name = f"{PREFIX}{title}{f'#{digest}' if digest else ''}"
    put(name, value)
    return name


def put(name: str, value: Any) -> None:
    """Keep an object under a name that `hold` gave it, in this process or in another one."""
    _held[name] = value


@contextmanager
def released() -> Iterator[Mapping[str, Any]]:
    """Let go, at the end, of the objects that were held meanwhile; gives what is held, by name."""
    before = dict(_held)
    try:
        yield _held
    finally:
        _held.clear()
        _held.update(before)


def is_given(name: str) -> bool:
    """Whether a name means an object of a Python program."""
    return name.startswith(PREFIX)


def held(name: str) -> Any:
    """The object of a name from `hold`. Raises ``ValueError`` where this process does not have it."""
    if name == EXPERIMENT:
        raise ValueError(
            "the run was made of an Experiment, which no file can describe, so that its folder holds its numbers and "
            "weights alone; train the Experiment again, with overwrite=True"
        )
    if name not in _held:
        raise ValueError(
            f"{name.removeprefix(PREFIX).partition('#')[0]} was an object of a Python program, which a file cannot "
            f"hold, or another one than is given now; give the same again, as in raysplit.resume(folder, model=..., "
            f"data=..., algorithm=...)"
        )
    return _held[name]


def name_of(value: Any) -> str:
    """The name of a class or function: its import path where every process can follow it, else as by `hold`."""
    path = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ != "__main__" and "<" not in path:
        try:
            if pkgutil.resolve_name(path) is value:
                return path
        except (ImportError, AttributeError):
            pass
    return hold(value.__qualname__.rpartition(".")[2], value)


def digest_of(*chunks: bytes) -> str:
    """Twelve hexadecimal digits that tell one value from another."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:12]
