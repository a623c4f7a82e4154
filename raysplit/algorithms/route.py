"""Routes: the cuts of a model, and the compute nodes that run the parts between the owner's two.

For an algorithm whose options are `RouteOptions`, ``cuts: auto`` and ``raysplit plan`` compute cuts and nodes.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from raysplit.algorithms.setting import Cut, Options


class Route(Options):
    """The cuts of a model, and the compute nodes that run the parts between the owner's two."""

    cuts: tuple[Cut, ...]
    """Cuts in rising order, one more than there are nodes: numbers of units from 1 on, or names of modules after which
    to cut."""
    nodes: tuple[str, ...] | None = None
    """Names of the compute nodes in the order of their parts; None takes ``node-1``, ``node-2``, ..."""

    @model_validator(mode="after")
    def _consistent(self) -> Route:
        if len(self.cuts) < 2:
            raise ValueError(
                f"a route that keeps both ends of the model at the owner needs at least 2 cuts, got {list(self.cuts)}; "
                f"cuts: [1, 3] gives units 1 and 2 to one node"
            )
        units = [cut for cut in self.cuts if isinstance(cut, int)]
        if units != sorted(set(units)) or (units and units[0] < 1):
            raise ValueError(
                f"cuts {list(self.cuts)} must rise and start at 1 or later, so that the owner keeps the inputs and "
                f"every node runs at least one unit; use fewer nodes or other cuts (raysplit plan finds them)"
            )
        if self.nodes is not None and (len(self.nodes) != len(self.cuts) - 1 or len(set(self.nodes)) < len(self.nodes)):
            raise ValueError(
                f"{len(self.nodes)} compute nodes {list(self.nodes)} need {len(self.nodes) + 1} cuts and different "
                f"names, got cuts {list(self.cuts)}; run raysplit plan or give, for example, cuts: [2, 18, 36] for 2"
            )
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """The nodes in the order of their parts."""
        return self.nodes or tuple(f"node-{i}" for i in range(1, len(self.cuts)))


class RouteOptions(Options):
    """Options of methods that route batches through compute nodes."""

    cuts: tuple[Cut, ...] | Literal["auto"] = (1, 2, 3)
    """Cuts in rising order, one more than there are compute nodes; ``auto`` plans cuts and nodes from the profile of
    the topology."""
    nodes: tuple[str, ...] | None = None
    """Names of the compute nodes in the order of their parts; None takes ``node-1``, ``node-2``, ..."""
    units: tuple[int, int] | None = None
    """First and last unit that the nodes run, both included, for ``cuts: auto``."""
    plan_links: Literal["left_out", "stages"] = "left_out"
    """How ``cuts: auto`` and ``raysplit plan`` treat the nodes' links: ``stages`` counts them as stages of the
    pipeline, like processors; ``left_out`` ignores them, as the paper does."""
    on_offer: tuple[str, ...] | None = None
    """Names of the compute nodes to which parts may move in an elastic run; None takes those of the topology if
    ``cuts`` is ``auto``, and otherwise leaves parts where they are."""

    @model_validator(mode="after")
    def _cuts_and_nodes_fit(self) -> Self:
        if self.cuts != "auto":
            self.route()
        return self

    def route(self) -> Route:
        """The route of all owners without one of their own. Raises ``ValueError`` while the cuts are not planned."""
        if self.cuts == "auto":
            raise ValueError(
                "cuts: auto is planned from topology.devices, which have no profile here; give the devices a profile, "
                "or list the cuts"
            )
        return Route(cuts=self.cuts, nodes=self.nodes)
