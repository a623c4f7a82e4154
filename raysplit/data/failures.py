"""Errors of the libraries that read files, turned into one message with the file, the cause and the way out."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OURS = Path(__file__).parents[1]


@contextmanager
def reading(source: object, way_out: str) -> Iterator[None]:
    """Raise ``ValueError`` in the place of any error inside the context, which calls a library alone.

    Libraries raise what they like for a broken file: ``EOFError`` (which a terminal would take for Ctrl-D),
    ``BadZipFile``, ``SyntaxError``, ``struct.error``.

    Args:
        source: what is read, for the message.
        way_out: what to do about a file that is there and cannot be read.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{source} {_failure(error, way_out)}") from error


def _failure(error: Exception, way_out: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there; check the path, which is relative to data.root or to the working directory"
    if isinstance(error, PermissionError):
        return "may not be read by this user; change its permissions, or give a copy"
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return f"is no file where one is needed ({error.strerror}); check the path"
    said = " ".join(str(error).split()) or "no further message"
    if "allow_pickle" in said:  # numpy's advice would run code out of the file
        return f"cannot be read (it holds text or other Python objects as a pickle, which may run code); {way_out}"
    return f"cannot be read ({type(error).__name__}: {said:.300}); {way_out}"


def file_of(error: BaseException, folder: Path) -> Path | None:
    """Return the file under a folder that a library was reading when it raised an error, where its frames hold one."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            path = Path(value) if isinstance(value, str | Path) and str(value) else None
            if path is not None and path.is_relative_to(folder) and is_there(path) and path.is_file():
                found = path
    return found


def is_there(path: Path) -> bool:
    """Return whether a path exists; a text that cannot be one, such as 5,000 characters, does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Raise a ``ValueError`` inside the context with the source in front, where it does not have it."""
    try:
        yield
    except ValueError as error:
        if source in str(error):
            raise
        raise ValueError(f"{source}: {error}") from error


def refuse_too_large(what: str, num_values: float, num_bytes: int = 4) -> None:
    """Raise ``ValueError`` for arrays that the memory which is free does not hold."""
    import psutil  # not for the start of every command

    wanted, free = num_values * num_bytes, psutil.virtual_memory().available
    if wanted > free:
        raise ValueError(
            f"{what} take {wanted / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB of memory are free; take fewer or "
            f"smaller ones"
        )


def call_own(kind: str, path: str, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """Call a user's own function; an error in it becomes a ``ValueError`` with the place in the user's file.

    A ``ValueError`` is passed on, since it may be the user's own message or that of a check here.
    """
    try:
        return function(*arguments, **options)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{kind} {path!r} failed: {described(error)}; repair the function") from error


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Raise ``RuntimeError`` where code of the user's ends the program, which would look like success."""
    try:
        yield
    except SystemExit as ended:
        raise RuntimeError(exit_text(ended)) from ended


def exit_text(ended: SystemExit) -> str:
    """Return what is said where code of the user's ends the program."""
    return f"own code ended the program: {described(ended)}; let it raise an error that says what is wrong"


def described(error: BaseException) -> str:
    """Return the kind, the text and the place of an error, the last place outside of this package if there is one."""
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if not Path(place.filename).is_relative_to(_OURS)] or list(places)
    said = " ".join(str(error).split())
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{f': {said:.300}' if said else ''}{where}"
