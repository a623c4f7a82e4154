"""The transfer time of a message over a link with latency, jitter, a rate and losses, which may change over time.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) weigh compute against transmission: time = latency + 8 bytes /
rate. If a message is lost with probability p and sent again, the expected time grows by the factor 1 / (1 - p). Jitter
is a time that every attempt takes in addition, drawn from the exponential distribution: its standard deviation is its
mean J, and one attempt in a hundred takes more than 4.6 J. A trace says how rates and latency change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysplit.cluster.emulation.trace import LinkTrace, State, sent_at

PERCENTS = (50, 95, 99)
"""The percentiles of latencies that are reported."""

Way = Literal["up", "down"]
"""Up is from the edge to the server."""

_UNLIMITED = (None, State(math.inf, math.inf, 0.0, math.inf))


@dataclass(frozen=True, kw_only=True)
class EdgeLink:
    """The link between an edge and a server.

    Attributes:
        rate_bit_per_s: rate of either direction.
        latency_s: latency of every attempt.
        loss_probability: probability that an attempt is lost and the message sent again.
        jitter_s: mean of the exponential time that every attempt takes in addition.
        trace: rates and latency over time, instead of `rate_bit_per_s` and `latency_s`.

    Raises:
        ValueError: for a rate of 0 or less, a negative or infinite latency or jitter, a loss probability outside
            0 <= p < 1, or a rate or latency beside a trace.
    """

    rate_bit_per_s: float = math.inf
    latency_s: float = 0.0
    loss_probability: float = 0.0
    jitter_s: float = 0.0
    trace: LinkTrace | None = None

    def __post_init__(self) -> None:
        times_s = self.latency_s, self.jitter_s
        if (
            not self.rate_bit_per_s > 0
            or not all(0 <= time_s < math.inf for time_s in times_s)
            or not 0 <= self.loss_probability < 1
        ):
            raise ValueError(
                f"a link needs a rate above 0, a finite latency and jitter of at least 0, and losses in 0 <= p < 1, "
                f"got a rate of {self.rate_bit_per_s:g} bit/s, a latency of {self.latency_s:g} s, a jitter of "
                f"{self.jitter_s:g} s and losses of {self.loss_probability:g}"
            )
        if self.trace is not None and (self.rate_bit_per_s < math.inf or self.latency_s):
            raise ValueError("a link with a trace has rates and latency from it; leave rate and latency out")

    @property
    def varies(self) -> bool:
        """Whether messages of equal size can take different times."""
        return bool(self.loss_probability or self.jitter_s) or self.trace is not None

    def attempt_s(self, num_bytes: int) -> float:
        """Return the seconds of one attempt to send `num_bytes`, without jitter and without a trace."""
        return self.latency_s + 8 * num_bytes / self.rate_bit_per_s

    def expected_s(self, num_bytes: int) -> float:
        """Return the expected seconds until `num_bytes` have arrived.

        Raises:
            ValueError: with a trace, where they depend on the time of sending.
        """
        if self.trace is not None:
            raise ValueError("the time over a link with a trace depends on when a message is sent; draw it instead")
        return (self.attempt_s(num_bytes) + self.jitter_s) / (1 - self.loss_probability)

    def drawn_s(self, num_bytes: int, stream: np.random.Generator, *, start_s: float = 0.0, way: Way = "up") -> float:
        """Return the seconds until `num_bytes` have arrived, with attempts and jitter drawn from `stream`.

        Args:
            num_bytes: size of the message.
            stream: random numbers.
            start_s: when the first attempt begins, in seconds of the trace.
            way: direction of the message.
        """
        attempts = int(stream.geometric(1 - self.loss_probability))
        late_s = stream.exponential(self.jitter_s, attempts).tolist() if self.jitter_s else [0.0] * attempts
        if self.trace is None:
            return self.attempt_s(num_bytes) * attempts + math.fsum(late_s)
        edge = (self.trace, _UNLIMITED[1])
        ends = (edge, _UNLIMITED) if way == "up" else (_UNLIMITED, edge)
        time_s = start_s
        for late in late_s:
            left_s = sent_at(time_s, num_bytes, *ends)
            time_s = left_s + self.trace.at(left_s).latency_s + late
        return time_s - start_s
