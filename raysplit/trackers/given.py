"""Trackers as a configuration gives them: names, or mappings of a name and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysplit.options import checked_options
from raysplit.registry import one_of, shown
from raysplit.trackers import TRACKERS
from raysplit.trackers.tracker import Tracker

Given = str | dict[str, Any]


def checked_trackers(given: Sequence[Given]) -> tuple[Given, ...]:
    """Return the trackers as they were given.

    Raises ``ValueError`` for a name that is unknown or there twice, and for an option.
    """
    names = [_checked(each)[0] for each in given]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there {names.count(name)} times; name each tracker once")
    return tuple(given)


def trackers_of(given: Sequence[Given], folder: Path | None) -> list[Tracker]:
    """Make the trackers of a run. Raises ``ValueError`` where the package of one is not installed."""
    checked = [_checked(each) for each in given]
    return [TRACKERS[name](folder=folder, **options) for name, options in checked]


def _checked(given: Given) -> tuple[str, dict[str, Any]]:
    options: Mapping[str, Any] = {"name": given} if isinstance(given, str) else given
    name = options.get("name")
    if not isinstance(name, str):
        raise ValueError(
            f"a tracker is a name or a mapping with a name, got {shown(given)}; write {{name: tensorboard}}"
        )
    one_of("tracker", name, TRACKERS)
    rest = {key: value for key, value in options.items() if key != "name"}
    return name, checked_options(TRACKERS[name], rest, name=name, given=("folder", "self"))
