"""Objects that a Python program passes instead of names: a class, a function, a module with weights, data.

A configuration holds names only. An importable object is named by its import path; any other object is registered here,
in this process, under a name that begins with ``given:``. The run folder stores that name, with a digest of the
object's value if it has one, so that a run resumes with the same object only.
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
    """Register an object in this process and return the name that configurations use for it.

    Args:
        title: readable part of the name.
        digest: the object's value (see `digest_of`), for objects that have one.
    """
    name = f"{PREFIX}{title}{f'#{digest}' if digest else ''}"
    put(name, value)
    return name


def put(name: str, value: Any) -> None:
    """Register an object under a name that `hold` returned, in this process or in another one."""
    _held[name] = value


@contextmanager
def released() -> Iterator[Mapping[str, Any]]:
    """Yield the registered objects by name; at the end, forget those that were registered inside the context."""
    before = dict(_held)
    try:
        yield _held
    finally:
        _held.clear()
        _held.update(before)


def is_given(name: str) -> bool:
    """Return whether a name was made by `hold`."""
    return name.startswith(PREFIX)


def held(name: str) -> Any:
    """Return the object registered under a name; raise ``ValueError`` if this process has none."""
    if name == EXPERIMENT:
        raise ValueError(
            "the run was made of an Experiment, which no file can describe, so that its folder holds its numbers and "
            "weights alone; train the Experiment again, with overwrite=True"
        )
    if name not in _held:
        raise ValueError(
            f"{name.removeprefix(PREFIX).partition('#')[0]} was passed as an object by a Python program, and this "
            f"process has no object or one of another value; pass the same again: raysplit.resume(folder, model=..., "
            f"data=..., algorithm=...)"
        )
    return _held[name]


def name_of(value: Any) -> str:
    """Return the import path of a class or function, or a name from `hold` if it cannot be imported."""
    path = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ != "__main__" and "<" not in path:
        try:
            if pkgutil.resolve_name(path) is value:
                return path
        except (ImportError, AttributeError):
            pass
    return hold(value.__qualname__.rpartition(".")[2], value)


def digest_of(*chunks: bytes) -> str:
    """Return the first twelve hexadecimal digits of the SHA-256 hash of the chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:12]
