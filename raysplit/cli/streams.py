"""Standard output and error that can show any text: where an encoding lacks a character, a plain one stands for it."""

from __future__ import annotations

import codecs
import io
import sys

import click

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
    """Print a line in the encoding of the stream, where `click.echo` would take UTF-8 in the place of ASCII."""
    click.echo(text, file=sys.stderr if err else sys.stdout)
