"""Arguments that name runs: a folder, a name below ``runs``, or a URI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run as the user named it, with a local folder to read it from; for a URI, the folder is a copy."""

    location: str
    folder: Path


def run_records(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """Click callback: turn names of runs into folders; of runs at URIs, only the records are copied."""
    return tuple(_records(value) if "://" in value else Path(value) for value in values)


def whole_run(ctx: click.Context, parameter: click.Parameter, value: str) -> NamedRun:
    """Click callback: turn the name of a run into a `NamedRun` with all its files."""
    if "://" in value:
        from raysplit.runs.remote import fetched

        return NamedRun(location=value, folder=fetched(value))
    folder = run_folder(Path(value))
    return NamedRun(location=str(folder), folder=folder)


def runs_in(root: str) -> list[NamedRun]:
    """List the runs in a folder or below a URI, sorted by name."""
    if "://" in root:
        from raysplit.runs.remote import runs_below

        return [NamedRun(location=uri, folder=_records(uri)) for uri in runs_below(root)]
    folders = sorted(path.parent for path in Path(root).glob("*/config.yaml"))
    return [NamedRun(location=str(folder), folder=folder) for folder in folders]


def run_folder(run: Path) -> Path:
    """Return the folder of a run that was given as a folder or as a name below ``runs``."""
    return run if run.exists() else Path("runs") / run


def _records(uri: str) -> Path:
    from raysplit.runs.remote import RECORDS, fetched

    return fetched(uri, only=RECORDS)
