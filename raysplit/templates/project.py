"""Write a new project from a template.

A template is a folder beside this file; what it does not have comes from ``base``. Files that end in ``.jinja`` are
rendered with the name of the project, others are copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysplit.disk import told_where
from raysplit.registry import few, one_line, one_of

_HERE = Path(__file__).parent
_BASE = "base"
_SUFFIX = ".jinja"
_HIDDEN = {"gitignore": ".gitignore"}


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template of a project.

    Attributes:
        meaning: what the project is about, in a line.
        values: what its files are rendered with, beside the name of the project.
    """

    meaning: str
    values: Mapping[str, Any]


TEMPLATES: Mapping[str, Template] = {
    "own-data": Template(meaning="your own data, a file of each owner", values={"rounds": 8, "accuracy": 0.7}),
    "own-model": Template(meaning="your own model, cut in two", values={"rounds": 3, "accuracy": 0.5}),
    "own-algorithm": Template(meaning="your own algorithm", values={"rounds": 5, "accuracy": 0.4}),
    "cluster": Template(meaning="owners and server on machines of their own", values={"rounds": 5, "accuracy": 0.5}),
}
"""The templates by name; the values of their tests were measured with room to spare."""


def write_project(folder: Path, template: str) -> list[Path]:
    """Write a new project into a folder that is missing or empty; return its files, sorted.

    Raises:
        ValueError: the folder is not empty, it is a file, or there is no such template.
        NotWritten: the disk does not take it.
    """
    one_of("template", template, TEMPLATES)
    refuse_used(folder)
    contents = _contents(template, one_line(folder.resolve().name))
    for name, text in contents.items():
        path = folder / name
        with told_where(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return sorted(folder / name for name in contents)


def refuse_used(folder: Path) -> None:
    """Raise ``ValueError`` for a folder that a new project cannot be in."""
    if folder.is_dir():
        found = sorted(path.name for path in folder.iterdir())
        if found:
            raise ValueError(
                f"{folder} is not empty: it has {few(found, 3)}; a new project needs a folder of its own, give another "
                f"name"
            )
    elif folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} is a file; a new project needs a folder of its own, give another name")


def _contents(template: str, project: str) -> dict[str, str]:
    """Return the text of each file of a project by its relative path."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    values = {"project": project, **TEMPLATES[template].values}
    sources = {name: path for kind in (_BASE, template) for name, path in _sources(kind)}
    return {
        name: environment.get_template(path.relative_to(_HERE).as_posix()).render(values)
        if path.suffix == _SUFFIX
        else path.read_text(encoding="utf-8")
        for name, path in sources.items()
    }


def _sources(kind: str) -> list[tuple[str, Path]]:
    root = _HERE / kind
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    named = [(path.relative_to(root).as_posix().removesuffix(_SUFFIX), path) for path in paths]
    return [(_HIDDEN.get(name, name), path) for name, path in named]
