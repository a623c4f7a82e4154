"""What the setting ``data.by_owner`` says of other settings, before any of them is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysplit.options import OptionsRefused
from raysplit.registry import number_of

BY_OWNER = "by_owner"
"""Name of data that each owner reads by itself."""
OWN = "natural_id"
"""Name of the partition by the owners that the data come with."""


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
    """Return plain settings whose partition is that of the owners that ``data.by_owner`` names.

    Raises ``ValueError`` for another partition, which nothing would heed.
    """
    data = tree.get("data") if isinstance(tree, Mapping) else None
    sources = data.get(BY_OWNER) if isinstance(data, Mapping) else None
    given = (tree.get("partition") or {}) if sources is not None else None
    if not isinstance(given, Mapping):
        return tree
    name, num_owners = given.get("name", OWN), given.get("num_owners")
    num_sources = len(sources) if isinstance(sources, Mapping) else None
    if name != OWN or not (num_sources is None or num_owners in (None, num_sources)):
        said = name if num_owners is None else f"{name} over {num_owners}"
        sources_said = number_of(num_sources, "owner") if num_sources else "a source for each owner"
        raise ValueError(
            f"data.by_owner has {sources_said} and the partition is {said}; nothing is divided where each owner has "
            f"its own data, so leave it out" + ("" if num_sources is not None else " but for partition.num_owners")
        )
    counted = {} if num_sources is None else {"num_owners": max(1, num_sources)}
    return {**tree, "partition": {"name": OWN, **counted, **given}}


def refuse_options_beside(options: Mapping[str, Any]) -> dict[str, Any]:
    """Raise `OptionsRefused` for an option of a loader that stands beside ``by_owner`` instead of in a source."""
    if options:
        said = "belongs into the source of an owner (data.by_owner.OWNER), which is read on its own"
        raise OptionsRefused(dict.fromkeys(options, said), "")
    return {}
