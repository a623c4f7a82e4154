"""What pages take from the code: the commands as click describes them, methods, the files of `examples/`."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from raysplit.algorithms import ALGORITHMS
from raysplit.cli.main import by_purpose, cli
from raysplit.config.reference import options_table

EXAMPLES = Path(__file__).parents[2] / "examples"
_LANGUAGES = {".py": "python", ".yaml": "yaml"}


def slug(title: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def escaped(text: str) -> str:
    """Return text whose characters have no meaning to Markdown."""
    return re.sub(r"([\\`*_<>\[\]#|~$])", r"\\\1", text)


def commands(argument: str = "") -> str:
    """Return a section for each command, under the headings of ``raysplit --help``."""
    parts = []
    for heading, names in by_purpose().items():
        parts.append(f"## {heading}\n")
        for name in names:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            parts += _command(command, f"raysplit {name}", "###")
    return "\n".join(parts)


def _command(command: click.Command, path: str, level: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, max_content_width=80)
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"{level} {path}\n\n```text\n{usage}\n```\n"
    yield from map(_paragraph, inspect.cleandoc(command.help or "").split("\n\n"))
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    yield from (f"`{option}`\n: {escaped(meaning)}\n" for option, meaning in records if meaning)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(inner, f"{path} {name}", level + "#")


def _paragraph(text: str) -> str:
    """Return a paragraph of a help text; what begins with a backspace keeps its lines, as in the terminal."""
    first, _, rest = text.partition("\n")
    if first.strip() != "\b":
        return escaped(text) + "\n"
    lines = rest.splitlines()
    title = "" if lines[0].startswith(" ") else lines.pop(0)
    shown = textwrap.dedent("\n".join(lines))
    return f"{escaped(title)}\n\n```text\n{shown}\n```\n"


def options(name: str) -> str:
    """Return the table of a method's own options."""
    return options_table(ALGORITHMS[name])


def code(name: str) -> str:
    """Return the source of a function, by its import path."""
    return f"```python\n{inspect.getsource(pkgutil.resolve_name(name))}```\n"


def examples(pattern: str) -> str:
    """Return a section for each file of the examples that a pattern fits: what it is, and its text."""
    return "\n".join(_example(path) for path in sorted(EXAMPLES.glob(pattern)))


def _example(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    fence = f"```{_LANGUAGES[path.suffix]}\n{text}```\n"
    return f"### {path.name}\n\n{escaped(told(path, text))}\n\n{fence}"


def told(path: Path, text: str) -> str:
    """Return the first sentence of a file: of its docstring, or of the comment at its top."""
    if path.suffix == ".py":
        whole = ast.get_docstring(ast.parse(text)) or ""
    else:
        whole = " ".join(line[1:].strip() for line in re.match(r"(#[^\n]*\n)*", text)[0].splitlines())  # type: ignore[index]
    return re.split(r"(?<=\.)\s|\n\n", whole.replace("\n", " "), maxsplit=1)[0]


WRITERS: dict[str, Callable[[str], str]] = {
    "commands": commands,
    "options": options,
    "code": code,
    "examples": examples,
}
"""The blocks of pages, and what writes their text."""
