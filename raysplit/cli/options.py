"""Types of arguments and options: paths, names of new runs, and runs that are there.

A run is named by its folder, by its name below ``runs`` as ``raysplit list`` shows it, or by a URI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from raysplit.paths import checked_name, expanded, is_uri
from raysplit.registry import nearest

ROOT = "runs"
"""Folder in which runs are looked for by name."""
_MARKS = frozenset({"environment.json", "metrics.jsonl", "summary.json"})


class FilePath(click.Path):
    """Path in which ``~`` and environment variables are expanded; given as a `pathlib.Path`."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = False) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            full = expanded(os.fspath(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return super().convert(full, param, ctx)


class NewFile(FilePath):
    """Path of a file to write, in a folder that is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{path} cannot be written: there is no folder {path.parent}; make it first", param, ctx)
        return path


class RunName(click.ParamType[str]):
    """Name of a new run."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return checked_name(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run as the user named it, with a local folder to read it from; for a URI, the folder is a copy."""

    location: str
    folder: Path
    name: str = ""


def complete_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of runs that a shell completes; none where they cannot be listed."""
    try:
        return [run.name for run in runs_in(ROOT) if run.name.startswith(incomplete)]
    except (OSError, ValueError):
        return []


def run_records(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """Click callback: turn runs into folders; of runs at URIs, only the records are copied."""
    return tuple(_records(expanded(value)) if is_uri(value) else found_run(value) for value in values)


def whole_run(ctx: click.Context, parameter: click.Parameter, value: str) -> NamedRun:
    """Click callback: turn a run into a `NamedRun` with all its files."""
    location = run_location(value)
    if is_uri(location):
        from raysplit.runs.remote import fetched

        return NamedRun(location=location, folder=fetched(location))
    return NamedRun(location=location, folder=Path(location))


def run_location(value: str) -> str:
    """Return the folder or URI of a run. Raises ``ValueError`` as `found_run` does."""
    return expanded(value) if is_uri(value) else str(found_run(value))


def found_run(value: str) -> Path:
    """Return the folder of a run that was given as a folder, or as a name below ``runs``.

    Raises ``ValueError`` where there is neither, with the nearest name.
    """
    path = Path(expanded(value))
    places = [path] if path.is_absolute() else [path, ROOT / path]
    # an exported model that was copied to another machine has no config.yaml
    for mark in ("config.yaml", "serving.json"):
        for place in places:
            if (place / mark).is_file():
                return place
    if path.exists():
        return path  # whoever reads it says what is missing
    names = [run.name for run in runs_in(ROOT)]
    where = "" if path.is_absolute() else f", nor is {ROOT}/{path}"
    raise ValueError(f"{path} is not a run folder{where}; raysplit list shows the runs{nearest(value, names)}")


def runs_in(root: str) -> list[NamedRun]:
    """List the runs in a folder or below a URI at any depth, sorted by name; names are relative to the root."""
    if is_uri(root):
        from raysplit.runs.remote import runs_below

        return [NamedRun(name=name, location=uri, folder=_records(uri)) for name, uri in runs_below(root, _MARKS)]
    found = [(folder.relative_to(root).as_posix(), folder) for folder in _run_folders(Path(root))]
    return [
        NamedRun(name=folder.resolve().name if name == "." else name, location=str(folder), folder=folder)
        for name, folder in sorted(found)
    ]


def _run_folders(root: Path) -> Iterator[Path]:
    """Yield the run folders in a folder at any depth; a run folder holds no others."""
    for folder, subfolders, files in os.walk(root):
        if "config.yaml" in files and not _MARKS.isdisjoint(files):
            subfolders.clear()
            yield Path(folder)


def _records(uri: str) -> Path:
    from raysplit.runs.remote import RECORDS, fetched

    return fetched(uri, only=RECORDS)
