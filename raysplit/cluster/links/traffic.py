"""Tables of the traffic that each `Link` has counted: merging over places, and differences."""

from __future__ import annotations

from collections.abc import Sequence

from raysplit.cluster.contract import LinkTraffic


def merge_traffic(parts: list[list[LinkTraffic]]) -> list[LinkTraffic]:
    """Add up the tables of several places into one, sorted by source and destination."""
    total: dict[tuple[str, str], LinkTraffic] = {}
    for record in (record for part in parts for record in part):
        key = (record.source, record.destination)
        before = total.get(key)
        total[key] = LinkTraffic(
            source=record.source,
            destination=record.destination,
            num_bytes=record.num_bytes + (before.num_bytes if before else 0),
            num_messages=record.num_messages + (before.num_messages if before else 0),
        )
    return [total[key] for key in sorted(total)]


def difference(after: Sequence[LinkTraffic], before: Sequence[LinkTraffic]) -> list[LinkTraffic]:
    """Return the traffic between two counts, without links that carried no message."""
    earlier = {(r.source, r.destination): r for r in before}
    moved = []
    for record in after:
        old = earlier.get((record.source, record.destination))
        link = LinkTraffic(
            source=record.source,
            destination=record.destination,
            num_bytes=record.num_bytes - (old.num_bytes if old else 0),
            num_messages=record.num_messages - (old.num_messages if old else 0),
        )
        if link.num_messages:
            moved.append(link)
    return moved
