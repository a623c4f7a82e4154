"""Standard output and error that can show any text.

Where an encoding lacks a character, a plain one stands for it. Brackets and colons are no styles and pictures, and
characters that cannot be seen are written by their numbers, whoever chose them.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from typing import Any

import click
import rich.console
from rich.segment import Segment
from rich.text import Text

from raysplit.registry import printable

_ERRORS = "raysplit.plain"
_PLAIN = {"–": "-", "—": "-", "±": "+-", "×": "x", "·": "-", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "’": "'"}


def plain(error: UnicodeError) -> tuple[str, int]:
    """Error handler of `codecs`: write what an encoding lacks in ASCII, as a similar character or by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


def show_any_text() -> None:
    """Let standard output and error show text that their encoding cannot, instead of ending in an error."""
    codecs.register_error(_ERRORS, plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def echo(text: str, *, err: bool = False) -> None:
    """Print lines in the encoding of the stream, where `click.echo` would take UTF-8 in the place of ASCII."""
    click.echo(printable(text), file=sys.stderr if err else sys.stdout)


class Console(rich.console.Console):
    """Console of rich that shows text as it is.

    Names and reasons of users hold brackets and colons, which rich takes for styles and pictures: a run named ``[/x]``
    ended in an error. What is styled here is a `rich.text.Text`, or has the argument ``style``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text whose width is that of what is shown."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """Yield the pieces of whatever is printed, a `rich.text.Text` among them; control codes are rich's own."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def on_broken_pipe(self) -> None:
        """Let the command end as it does when the reader of its pipe, such as head, has what it wanted."""
        raise BrokenPipeError
