"""Nodes, sizes, bandwidths and units as the options of the planning commands write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.profiles import NodeKind
    from raysplit.schedulers.cuts.solve import ComputeNodeSpec, FreeOwnerCuts


_BYTES = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for ending, base in (("iB", 1024), ("B", 1000))
}


_BITS = {f"{letter}bit": 1000**power / 8 for power, letter in enumerate(["", "K", "M", "G", "T"])}


def parse_nodes(nodes: Sequence[str], links: Sequence[str]) -> tuple[ComputeNodeSpec, ...]:
    """Parse nodes `node-1`, `node-2`, ... from MEMORY:SLOWDOWN[:PRICE] or names of kinds.

    `links` has no bandwidth, one for all nodes, or one for each node.
    """
    from raysplit.schedulers.cuts.solve import ComputeNodeSpec

    if len(links) not in (0, 1, len(nodes)):
        raise ValueError(f"{len(links)} --links for {len(nodes)} nodes; give none, one for all, or one for each")
    rates: list[float | None] = [parse_bandwidth(link) for link in links] or [None]
    per_node = rates * len(nodes) if len(rates) == 1 else rates
    return tuple(
        ComputeNodeSpec(name=f"node-{index}", kind=_parse_kind(text), link_bytes_per_s=rate)
        for index, (text, rate) in enumerate(zip(nodes, per_node, strict=True), start=1)
    )


def parse_bytes(text: str) -> int:
    """Parse a size in bytes from 16GiB, 500MB or a number of bytes."""
    return round(_quantity(text, _BYTES, "a size such as 16GiB, 500MB or 1000000"))


def parse_bandwidth(text: str) -> float:
    """Parse a bandwidth in bytes per second from 8Mbit, 7.13Gbit/s, 1MB/s or a number of bytes."""
    return _quantity(text.removesuffix("/s"), _BITS | _BYTES, "a bandwidth such as 8Mbit, 1Gbit/s or 1MB/s")


def _quantity(text: str, factors: dict[str, float] | dict[str, int], what: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in factors:
        raise ValueError(f"{text!r} is not {what}; known units are {', '.join(filter(None, factors))}")
    return float(match[1]) * factors[match[2]]


def _parse_kind(text: str) -> NodeKind:
    from raysplit.schedulers.cuts.profiles import NodeKind, node_kinds

    kinds = node_kinds()
    if text in kinds:
        return kinds[text]
    memory, *numbers = text.split(":")
    try:
        slowdown, price = (float(number) for number in [*numbers, "0"][:2])
        if not 1 <= len(numbers) <= 2:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"node {text!r} is not MEMORY:SLOWDOWN[:PRICE] such as 16GiB:1 or 8GiB:2:0.1, nor one of {', '.join(kinds)}"
        ) from None
    return NodeKind(name=text, memory_bytes=parse_bytes(memory), slowdown=slowdown, price_per_hour=price)


def parse_units(units: str | None, owner_memory: str | None) -> tuple[int, int] | FreeOwnerCuts:
    from raysplit.schedulers.cuts.solve import FreeOwnerCuts

    if (units is None) == (owner_memory is None):
        raise ValueError("give either --units FIRST:LAST or --owner-memory SIZE, which leaves the owner's cuts free")
    if owner_memory is not None:
        return FreeOwnerCuts(memory_bytes=parse_bytes(owner_memory))
    match = re.fullmatch(r"(\d+):(\d+)", units or "")
    if match is None:
        raise ValueError(f"--units {units!r} is not FIRST:LAST such as 3:21")
    return int(match[1]), int(match[2])
