"""Weights that both ends of a link have, to which differences of weights are coded.

An owner submits the difference to the weights that it has received in this round, as it decoded them; the aggregator
adds it to the weights that it sent last. For all values that are sent unchanged or absolutely, nothing is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class References:
    """The latest weights that parties of this process have sent and received, by party."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[Any, Mapping[str, Any]]] = {}
        self._received: dict[str, tuple[str, Mapping[str, Any]]] = {}

    def has_sent(self, source: str, value: Any) -> bool:
        """Return whether this very value was sent last."""
        return source in self._sent and self._sent[source][0] is value

    def sent(self, source: str, value: Any, leaves: Mapping[str, Any]) -> None:
        """Note the leaves of a value as its receivers decode them."""
        self._sent[source] = value, leaves

    def received(self, party: str, source: str, leaves: Mapping[str, Any]) -> None:
        """Note the leaves of weights that a party has received."""
        self._received[party] = source, leaves

    def of_sender(self, source: str, destination: str) -> Mapping[str, Any]:
        """Return the weights that ``source`` has from ``destination`` in this round; none if there are none."""
        sender, leaves = self._received.get(source, ("", {}))
        return leaves if sender == destination else {}

    def of_receiver(self, destination: str, name: str) -> Any:
        """Return the leaf that ``destination`` has sent last."""
        try:
            return self._sent[destination][1][name]
        except KeyError:
            raise ValueError(f"{destination} has no weights {name!r} to which this difference belongs") from None

    def forget(self, party: str) -> None:
        """Forget what a party has received, because its next round begins."""
        self._received.pop(party, None)
