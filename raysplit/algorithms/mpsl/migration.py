"""Parts of a model that move between compute nodes at the end of a round, and what must hold for that.

At the end of a round all replicas of a part are its average, where owners keep nothing of their own. The whole model is
then the aggregator's weights and one average of each node, and it can be cut elsewhere without a trace.
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
    """The whole model at a round end, out of the states of the aggregator and of the nodes of its route; parts that
    have not been averaged yet are as they were made."""
    averages = [states[name]["average"] or {} for name in nodes if name in states]
    state: dict[str, Tensor] = dict(spec.build().state_dict())
    for part in (*averages, states["aggregator"]["current"]):
        state |= part
    return state


def refuse_to_move(setting: Setting, routes: Sequence[Route], on_offer: Sequence[str]) -> None:
    """Raises ``ValueError`` where parts cannot move."""
    if not setting.training.restart_optimizer or setting.buffers == "local":
        raise ValueError(
            "on_offer lets parts move between nodes, and owners keep momentum or batch-norm statistics of their own; "
            "set training.owner_optimizer_state to restart and training.buffers to average, or leave on_offer out"
        )
    if len(routes) > 1:
        raise ValueError("on_offer lets parts move for all owners alike; leave owner_routes out, or on_offer")
    if strangers := [name for name in routes[0].node_names if name not in on_offer]:
        raise ValueError(f"on_offer has {', '.join(on_offer)} and the cuts want {strangers[0]!r} as well; add it")
