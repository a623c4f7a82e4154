"""What the coordinator expects of the weights that parties send it: those of the parts that it gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.expecting.forms import infinite_in, part_weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import recipes_of
from raysplit.cluster.arriving.forms import SENDER, Expected
from raysplit.cluster.contract import PartySpec


class AtCoordinator:
    """The expectations of the coordinator of a run.

    Args:
        algorithm: the algorithm of the run.
        parties: the deployed parties.
    """

    def __init__(self, algorithm: Algorithm, parties: Sequence[PartySpec]) -> None:
        self._algorithm = algorithm
        self._parties = {party.name: party for party in parties}

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value of a party; weights are those of its parts, with others or without."""
        anything = Expected(infinite=infinite_in(self._algorithm.setting.spec))
        party = self._parties.get(given[SENDER])
        if content != "weights" or party is None or self._algorithm.on_offer:  # whose parts move
            return anything
        if getattr(party.build, "current", None) is Aggregator.current:
            state = party.arguments["state"]
            return (
                anything._replace(weights=state, required=state, others=True)
                if "state" in party.arguments
                else anything
            )
        if getattr(party.build, "weights", None) in (DataOwner.weights, ComputeNode.weights):
            recipes = tuple(recipes_of(party))
            if len({recipe.cuts for recipe in recipes}) == 1:
                return part_weights(*recipes)._replace(others=True)
        return anything
