"""The transfer time of a message over a link with a fixed latency, a rate and losses.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) weigh compute against transmission: time = latency + 8 bytes /
rate. If a message is lost with probability p and sent again, the expected time grows by the factor 1 / (1 - p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class EdgeLink:
    """One direction of a link.

    Raises:
        ValueError: for a rate of 0 or less, a negative latency, or a loss probability outside 0 <= p < 1.
    """

    rate_bit_per_s: float
    latency_s: float = 0.0
    loss_probability: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate_bit_per_s > 0 or self.latency_s < 0 or not 0 <= self.loss_probability < 1:
            raise ValueError(
                f"a link needs a rate above 0, a latency of at least 0 and losses in 0 <= p < 1, got {self}"
            )

    def attempt_s(self, num_bytes: int) -> float:
        """Return the seconds of one attempt to send `num_bytes`."""
        return self.latency_s + 8 * num_bytes / self.rate_bit_per_s

    def expected_s(self, num_bytes: int) -> float:
        """Return the expected seconds until `num_bytes` have arrived."""
        return self.attempt_s(num_bytes) / (1 - self.loss_probability)

    def drawn_s(self, num_bytes: int, stream: np.random.Generator) -> float:
        """Return the seconds until `num_bytes` have arrived, with the number of attempts drawn from `stream`."""
        return self.attempt_s(num_bytes) * int(stream.geometric(1 - self.loss_probability))
