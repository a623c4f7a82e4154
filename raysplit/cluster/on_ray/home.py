"""The state of a process beside its parties: its link, its load meter, and the handles of its parties."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.kinds import Crossing
from raysplit.cluster.links.link import Link, LinkRules, make_link
from raysplit.cluster.load import LoadMeter


@dataclass(kw_only=True)
class Home:
    """One process of a Ray cluster.

    Attributes:
        place: name of the place; empty for the driver.
        link: link of this process.
        load: meter of the load of the parties in this process.
        handles: handles of the parties in this process, by name.
    """

    place: str = ""
    link: Link = field(default_factory=Link)
    load: LoadMeter = field(default_factory=LoadMeter)
    handles: dict[str, Any] = field(default_factory=dict)

    def furnish(self, rules: LinkRules, network: Network | None) -> None:
        """Remove all parties, and start a new link with these rules and this network."""
        self.link = make_link(rules, network)
        self.handles.clear()

    def now_s(self) -> float:
        """Return the time of a value that is computed now, on the clock of an emulated run."""
        network = self.link.network
        return network.now_s() if network is not None else 0.0

    def crossing(self, verb: str, party: str) -> Crossing | None:
        """Return the kinds of values of a verb of a party in this process, or None if none of them is coded."""
        found: Crossing | None = self.handles[party].crossings.get(verb)
        return found


here: ContextVar[Home] = ContextVar("here")
"""The process of the party whose coroutine is running, inside a place."""
