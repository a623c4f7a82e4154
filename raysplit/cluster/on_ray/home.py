"""What a process has beside its parties: its end of the links, its measure of load, and handles of who lives in it."""

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
        place: its name among the places; empty for the driver.
        link: what leaves and arrives here.
        load: how hard the parties here are pressed.
        handles: of the parties here, by name.
    """

    place: str = ""
    link: Link = field(default_factory=Link)
    load: LoadMeter = field(default_factory=LoadMeter)
    handles: dict[str, Any] = field(default_factory=dict)

    def furnish(self, rules: LinkRules, network: Network | None) -> None:
        """Begin with nobody here, and with links of these rules; of an emulated run, over this network."""
        self.link = make_link(rules, network)
        self.handles.clear()

    def now_s(self) -> float:
        """When a value that is made now is made, on the clock of an emulated run."""
        network = self.link.network
        return network.now_s() if network is not None else 0.0

    def crossing(self, verb: str, party: str) -> Crossing | None:
        """What a verb of a party here carries, where something of it is coded."""
        found: Crossing | None = self.handles[party].crossings.get(verb)
        return found


here: ContextVar[Home] = ContextVar("here")
"""The home of the party on whose behalf the running coroutine acts, inside of a place."""
