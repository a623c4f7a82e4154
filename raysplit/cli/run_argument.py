"""Runs on the command line: their folders, or the URIs of them."""

from __future__ import annotations

from pathlib import Path

import click


def run_paths(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """The folders of the runs, as a callback of an argument; those of URIs are fetched first."""
    return tuple(_path(value) for value in values)


def _path(value: str) -> Path:
    if "://" not in value:
        return Path(value)
    from raysplit.train.mirror import fetched  # the command line's help does not wait for torch

    return fetched(value)
