"""What the setting ``data.by_owner`` says of other settings, before any of them is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysplit.options import OptionsRefused

BY_OWNER = "by_owner"
"""Name of data that each owner reads by itself."""


def named_by_owner(values: Any) -> Any:
    """Return the plain section ``data`` with the name of such data, and each source as a mapping."""
    if not isinstance(values, Mapping) or values.get(BY_OWNER) is None:
        return values
    sources = values[BY_OWNER]
    if isinstance(sources, Mapping):
        if not sources:
            raise ValueError("by_owner names no owner; give a source for each, or leave it out")
        sources = {str(owner): {"name": s} if isinstance(s, str) else s for owner, s in sources.items()}
    elif ":" not in str(sources):
        raise ValueError(
            f"by_owner is {sources!r}; give a mapping from the name of each owner to its source, or the import path "
            f"module:function of a function that takes the name of an owner"
        )
    return {"name": BY_OWNER, **values, BY_OWNER: sources}


def with_owners(tree: Any) -> Any:
    """Return plain settings whose partition has as many owners as ``data.by_owner`` names, unless they say more."""
    data = tree.get("data") if isinstance(tree, Mapping) else None
    sources = data.get(BY_OWNER) if isinstance(data, Mapping) else None
    if not isinstance(sources, Mapping):
        return tree
    given = tree.get("partition") or {}
    if not isinstance(given, Mapping):
        return tree
    return {**tree, "partition": {"name": "natural_id", "num_owners": max(1, len(sources)), **given}}


def refuse_options_beside(options: Mapping[str, Any]) -> dict[str, Any]:
    """Raise `OptionsRefused` for an option of a loader that stands beside ``by_owner`` instead of in a source."""
    if options:
        said = "belongs into the source of an owner (data.by_owner.OWNER), which is read on its own"
        raise OptionsRefused(dict.fromkeys(options, said), "")
    return {}
