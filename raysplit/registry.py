"""The user's own code by its import path, ``"package.module:function"``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from raysplit.given import held, is_given


def imported(path: str) -> Callable[..., Any]:
    """The callable that ``"package.module:function"`` names.

    Raises ``ValueError`` when the module cannot be found or has no such callable.
    """
    if is_given(path):
        return held(path)  # type: ignore[no-any-return]
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError) as error:  # TypeError: a relative name
        raise ValueError(f'{path!r}: {error}; give "package.module:function" of a module on the Python path') from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{path!r}: module {module_name} has no function {name!r}; it has {sorted(_public(module))}")
    return function  # type: ignore[no-any-return]


def _public(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
