"""Migration of parts between compute nodes at the end of a round, and its preconditions.

At the end of a round all replicas of a part equal their average, provided owners keep no state of their own. The whole
model is then the aggregator's weights and one average of each node, and cutting it elsewhere changes no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from raysplit.models.spec import ModelSpec

if TYPE_CHECKING:
    from raysplit.algorithms.route import Route
    from raysplit.algorithms.setting import Setting


def whole_state(spec: ModelSpec, states: Mapping[str, Any], nodes: Sequence[str]) -> dict[str, Tensor]:
    """Join the states of the aggregator and of the route's nodes to the weights of the whole model at a round end.

    Parts that have not been averaged yet have their initial weights.
    """
    averages = [states[name]["average"] or {} for name in nodes if name in states]
    state: dict[str, Tensor] = dict(spec.build().state_dict())
    for part in (*averages, states["aggregator"]["current"]):
        state |= part
    return state


def refuse_to_move(setting: Setting, routes: Sequence[Route], on_offer: Sequence[str]) -> None:
    """Raise ``ValueError`` if parts cannot move in this setting."""
    if not setting.training.restart_optimizer or setting.buffers == "local":
        raise ValueError(
            "on_offer lets parts move between nodes, but owners keep momentum or batch-norm statistics of their own; "
            "set training.owner_optimizer_state to restart and training.buffers to average, or leave on_offer out"
        )
    if setting.updates.judge_whole_models:
        raise ValueError(
            "on_offer moves parts whose replicas are averaged at their nodes, but reliability.aggregation krum and "
            "max_update_norm judge whole models at the aggregator; use another aggregation without max_update_norm, or "
            "leave on_offer out"
        )
    if len(routes) > 1:
        raise ValueError(
            f"on_offer moves parts for all owners together, but owner_routes gives {len(routes)} different routes; "
            f"leave owner_routes out, or on_offer"
        )
    if strangers := [name for name in routes[0].node_names if name not in on_offer]:
        raise ValueError(
            f"the route uses the compute node {strangers[0]!r}, which on_offer ({', '.join(on_offer)}) does not list; "
            f"add it to on_offer"
        )
