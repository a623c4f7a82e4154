"""The bounds within which the front serves: time for a request, connections, and memory for bodies."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class FrontLimits:
    """Bounds that keep slow or greedy clients from stopping the others.

    Attributes:
        header_s: seconds from a connection, or from the first byte of a later request, to the end of its header; a
            TLS handshake before it has as many.
        body_s: seconds from the header to the end of the body.
        answer_s: seconds for the answer of the heads.
        idle_s: seconds for which a connection stays open between two requests.
        max_connections: connections open at once.
        connections_per_peer: connections open at once from one IPv4 address or one IPv6 network of 64 bits. At either
            limit a new connection closes the one that has kept the server waiting for the longest time.
        held_bytes: memory for all bodies that are being read or answered; at least one largest body fits.

    Raises:
        ValueError: for a bound that is not above 0, or more connections per peer than in all.
    """

    header_s: float = 5.0
    body_s: float = 30.0
    answer_s: float = 30.0
    idle_s: float = 30.0
    max_connections: int = 500
    connections_per_peer: int = 100
    held_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 or math.isinf(value):
                raise ValueError(f"{field.name} must be above 0 and finite, got {value!r}")
        if self.connections_per_peer > self.max_connections:
            raise ValueError(
                f"one peer cannot have more connections than there are in all, got connections_per_peer="
                f"{self.connections_per_peer} and max_connections={self.max_connections}; lower the first or "
                f"raise the second"
            )
