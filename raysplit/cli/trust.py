"""The question before code of a run folder that somebody else has written is imported and run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from raysplit.cli.streams import echo


def allowed(folder: Path, what: str, *, trust: bool) -> None:
    """Return if the configuration of a run may be imported and run.

    The user has written it, it names neither code nor places, ``trust`` was given, or the user says yes on a terminal.
    Raises `NotTrusted` otherwise, with what it names.
    """
    from raysplit.runs.records.origin import NotTrusted, require_own

    if trust:
        return
    try:
        require_own(folder, what)
    except NotTrusted as error:
        if not sys.stdin.isatty():
            raise
        echo(str(error), err=True)
        if not click.confirm("go on?", default=False, err=True):
            raise click.Abort from None


def asking(trust: bool) -> Callable[[Path, str], None]:
    """Return the function that `raysplit.kept.resume_run` calls before it imports anything."""
    return lambda folder, what: allowed(folder, what, trust=trust)
