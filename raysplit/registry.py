"""Lookup of the names that users write: registered names, and import paths ``"package.module:name"``.

What users write is shown in messages of bounded length, however long or deep it is. Text of others, such as the name of
a run that somebody sent or a server's message, is shown by `printable` and `one_line`.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import reprlib
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from raysplit.given import held, is_given
from raysplit.own_code import own_module

T = TypeVar("T")

IMPORT_PATH = "package.module:name"
_MAX_LISTED_NAMES = 12  # of a module, in an error

MOST_SHOWN = 10
"""Number of mistakes or values that a message names before it counts the rest."""
_MAX_NAMES = 100  # that a name may be one of
_MAX_TEXT = 3_000  # characters of all mistakes together
_MAX_COMPARED = 100  # characters of a name that is compared with others, which takes the square of its length


class _Shown(reprlib.Repr):
    """Values as Python writes them, cut in the middle where they are long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 120
        self.maxlong = 40
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 3, 4, 4, 4

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() <= 1_000:  # Python refuses to write whole numbers of some thousand digits
            return super().repr_int(x, level)
        return f"a whole number of {x.bit_length() * 0.30103:,.0f} digits"


_SHOW = _Shown()


def shown(value: object) -> str:
    """Return a value for a message as Python writes it, cut in the middle where it is long."""
    return _SHOW.repr(value)


def printable(text: str) -> str:
    r"""Return text for a terminal, a page or a picture: whatever cannot be seen is written by its number.

    These are control characters, which move the cursor, paint and rename the window (``\x1b``), marks of direction,
    which show a name backwards (``\u202e``), and other invisible ones. Line ends, tabs and spaces of all widths stay.
    """
    if text.isprintable():
        return text
    return "".join(each if each in "\n\t" or _is_seen(each) else ascii(each)[1:-1] for each in text)


def one_line(text: object) -> str:
    """Return `printable` text in one line, in which line ends and tabs are written by their numbers, too."""
    return "".join(each if _is_seen(each) else ascii(each)[1:-1] for each in str(text))


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def clipped(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, cut in the middle."""
    return text if len(text) <= most else f"{text[: most // 2 - 3]} ... {text[len(text) - most // 2 + 3 :]}"


def number_of(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, which is plural for any number but one."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def few(names: Iterable[object], most: int = MOST_SHOWN) -> str:
    """List the first of some names, and count the others."""
    texts = [str(name) for name in names]
    rest = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(clipped(text, 60) for text in texts[:most]) + rest


def first_lines(lines: Sequence[str]) -> str:
    """Join the first of some lines, each a mistake, and count the others."""
    chosen: list[str] = []
    for line in (clipped(line, _MAX_TEXT) for line in lines[:MOST_SHOWN]):
        if chosen and sum(map(len, chosen)) + len(line) > _MAX_TEXT:
            break
        chosen.append(line)
    rest = len(lines) - len(chosen)
    return "\n".join([*chosen, *([f"and {rest:,} more mistake{'s' if rest > 1 else ''}"] if rest else [])])


def nearest(value: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'name'?`` with the closest of the names, or an empty text if none is close."""
    lowered = {str(name).lower(): str(name) for name in names}
    near = difflib.get_close_matches(str(value)[:_MAX_COMPARED].lower(), lowered, 1, cutoff=0.5)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""


def unknown(kind: str, value: str, names: Iterable[str]) -> str:
    """Return the error text for a value that is not in ``names``, with the closest name and the whole list."""
    names = list(names)
    return f"unknown {kind} {shown(value)}{nearest(value, names)} (one of {few(names, _MAX_NAMES)})"


def one_of(kind: str, value: str, names: Iterable[str]) -> str:
    """Return the value if it is one of the names; raise the ``ValueError`` of `unknown` otherwise."""
    if value in (names := list(names)):
        return value
    raise ValueError(unknown(kind, value, names))


def known(kind: str, value: str, names: Iterable[str]) -> str:
    """Return the value if it is an import path or one of the names; raise as `one_of` does otherwise."""
    return value if ":" in value else one_of(kind, value, [*names, IMPORT_PATH])


def resolve(kind: str, name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return the table's entry for a name, or the callable at an import path.

    Raises:
        ValueError: as in `one_of` and `imported`.
    """
    return table[name] if name in table else imported(kind, known(kind, name, table))


def imported(kind: str, path: str) -> Callable[..., Any]:
    """Import a user's function or class.

    Args:
        kind: what the object is used as, for the error text: ``"data set"``.
        path: ``"package.module:name"``.

    Raises:
        ValueError: if the path is malformed, the module does not exist or fails to import (with its own error), the
            module lacks the name (with the closest one), or the object is not callable or of the standard library.
    """
    found = _found(kind, path)
    if not callable(found):
        raise ValueError(f"{kind} {shown(path)} must be a function or a class, got {_described(found)}")
    return found  # type: ignore[no-any-return]


def imported_class(kind: str, path: str, base: type[T]) -> type[T]:
    """Import a user's subclass of ``base``; raise ``ValueError`` as `imported` does, also for any other object."""
    found = _found(kind, path)
    if not (isinstance(found, type) and issubclass(found, base)):
        wanted = f"a subclass of {base.__module__}.{base.__qualname__}"
        raise ValueError(f"{kind} {shown(path)} must be {wanted}, got {_described(found)}")
    return found


def a_function(kind: str, path: str, found: Callable[..., Any], called_with: str) -> Callable[..., Any]:
    """Return what was imported unless it is a class, which would be made at every call.

    Raises ``ValueError`` otherwise, with the arguments that a function of the kind is called with.
    """
    if isinstance(found, type):
        raise ValueError(
            f"{kind} {shown(path)} must be a function, which is called with {called_with}, got the class "
            f"{found.__qualname__}; name a function that uses it"
        )
    return found


def _found(kind: str, path: str) -> Any:
    if is_given(path):
        return held(path)
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f'{kind} {shown(path)} is not an import path; write "{IMPORT_PATH}"')
    _refuse_standard(kind, path, module_name)
    try:
        module = own_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{kind} {shown(path)}: {_import_failure(module_name, error)}") from error
    try:
        found = pkgutil.resolve_name(path)
    except (AttributeError, ValueError) as error:
        names = [each for each in dir(module) if not each.startswith("_")]
        listed = ", ".join(names[:_MAX_LISTED_NAMES]) + (", ..." if len(names) > _MAX_LISTED_NAMES else "")
        raise ValueError(
            f"{kind} {shown(path)}: module {shown(module_name)} has no name {shown(name)}{nearest(name, names)} "
            f"(it has {listed or 'none'})"
        ) from error
    is_code = inspect.isroutine(found) or isinstance(found, type)
    _refuse_standard(kind, path, str(getattr(found, "__module__", "")) if is_code else "")
    return found


def _refuse_standard(kind: str, path: str, module_name: str) -> None:
    # such as subprocess:check_output or sys:exit, which only a mistake or an attack can mean
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(
            f"{kind} {shown(path)} is a part of Python's standard library ({clipped(module_name, 60)}), which has "
            f"nothing of that kind; name a function or class of your own, in a file with another name"
        )


def _import_failure(module_name: str, error: BaseException) -> str:
    packages = [module_name[:end] for end in range(len(module_name) + 1) if module_name[end : end + 1] in (".", "")]
    if isinstance(error, ModuleNotFoundError) and error.name in packages:
        return (
            f"there is no module {shown(error.name)}; put it in the working directory or on PYTHONPATH, "
            f'and write "{IMPORT_PATH}"'
        )
    if isinstance(error, ValueError) and str(error).endswith("give your file another name"):
        return str(error)
    if isinstance(error, ValueError) and str(error).startswith("invalid format"):  # pkgutil's own
        return f'{shown(module_name)} is not a module name; write "{IMPORT_PATH}"'
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, SyntaxError) else f" ({Path(place.filename).name}, line {place.lineno})"
    return f"module {module_name!r} fails to import: {type(error).__name__}: {error}{where}; fix the module"


def _described(found: Any) -> str:
    return f"the class {found.__qualname__}" if isinstance(found, type) else f"{type(found).__name__} {found!r:.80}"
