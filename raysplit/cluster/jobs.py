"""What this project asks of a Ray cluster without being a driver on it: its nodes, and jobs (Ray's job API)."""

from __future__ import annotations

from typing import Any

from raysplit.cluster.launch import prepare_environment


def alive_nodes(address: str) -> list[str]:
    """The names of the nodes that are alive at ``host:port``; none while the cluster does not answer."""
    prepare_environment(address)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RayError

    try:
        nodes: dict[Any, Any] = GcsClient(address=address).get_all_node_info()
    except RayError:
        return []
    return [node.node_name for node in nodes.values() if node.state == 0]
