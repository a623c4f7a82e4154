"""Runs on the command line: their folders, their names below ``runs``, or the URIs of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run as it was named, and the folder that it can be read from: its own, or a copy of what is at a URI."""

    location: str
    folder: Path


def run_records(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """The folders of runs, as a callback of an argument; of those at URIs, what tells how they went."""
    return tuple(_records(value) if "://" in value else Path(value) for value in values)


def whole_run(ctx: click.Context, parameter: click.Parameter, value: str) -> NamedRun:
    """One run with all its files, as a callback of an argument."""
    if "://" in value:
        from raysplit.runs.remote import fetched  # the command line's help does not wait for torch

        return NamedRun(location=value, folder=fetched(value))
    folder = run_folder(Path(value))
    return NamedRun(location=str(folder), folder=folder)


def runs_in(root: str) -> list[NamedRun]:
    """All runs in a folder or below a URI, by name."""
    if "://" in root:
        from raysplit.runs.remote import runs_below

        return [NamedRun(location=uri, folder=_records(uri)) for uri in runs_below(root)]
    folders = sorted(path.parent for path in Path(root).glob("*/config.yaml"))
    return [NamedRun(location=str(folder), folder=folder) for folder in folders]


def run_folder(run: Path) -> Path:
    """A run by its folder, or by its name below ``runs``."""
    return run if run.exists() else Path("runs") / run


def _records(uri: str) -> Path:
    from raysplit.runs.remote import RECORDS, fetched

    return fetched(uri, only=RECORDS)
