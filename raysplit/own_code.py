"""Where users' own modules are: the working directory, which goes last on the import path.

A file there such as ``queue.py`` or ``random.py`` must not take the place of a module of Python or of a package that is
installed. So the directory is appended, and only when a part of the user's own is imported.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

VARIABLE = "RAYSPLIT_OWN_CODE"
"""Environment variable that tells the processes of a Ray cluster the working directory of the driver."""


def folder() -> str:
    """Return the directory of users' own modules."""
    return os.environ.get(VARIABLE) or os.getcwd()


def make_reachable() -> None:
    """Append the directory of users' own modules to the import path, unless it is there."""
    if folder() not in sys.path:
        sys.path.append(folder())


def put_last() -> None:
    """Take away the working directory that ``python -m`` puts first on the import path."""
    if sys.path and not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]


def own_module(name: str) -> ModuleType:
    """Import a module, which may lie in the directory of users' own modules.

    Raises:
        ValueError: a file there has the name of another module, which comes first.
        Exception: what the import raises.
    """
    make_reachable()
    module: ModuleType = pkgutil.resolve_name(f"{name}:")
    top = name.partition(".")[0]
    here = PathFinder.find_spec(top, [folder()])
    if here is not None and here.origin is not None:
        _refuse_other(sys.modules[top], top, here.origin)
    return module


def _refuse_other(found: ModuleType, name: str, own: str) -> None:
    file = getattr(found, "__file__", None)
    if file is not None and Path(file).exists() and os.path.samefile(file, own):
        return
    if file is None and getattr(found, "__spec__", None) is None:
        return  # made by a program, without a file
    raise ValueError(
        f"{Path(own).name if Path(own).stem != '__init__' else name} in {folder()} has the name of another module, "
        f"{file or 'a part of Python'}, which comes first; give your file another name"
    )
