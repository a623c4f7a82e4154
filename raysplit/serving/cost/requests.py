"""The transfer times of many requests over a link that varies, in virtual time.

Request k of n begins at k / n of the link's trace, so that all of the trace counts, and has the link to itself. The
attempts and their jitter come from one stream of the seed, so that messages of all sizes have the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysplit.seeding import generator
from raysplit.serving.links import PERCENTS, EdgeLink


@dataclass(frozen=True, kw_only=True)
class Requests:
    """How many requests are drawn, and the seed of the draws."""

    count: int = 1000
    seed: int = 0


class Transfer(NamedTuple):
    """The seconds of a message up to the server: expected, and one drawn value per request."""

    expected_s: float
    drawn_s: NDArray[np.float64]


def transfer(num_bytes: int, link: EdgeLink, requests: Requests) -> Transfer:
    """Return the seconds of a message; over a trace the mean of the drawn ones is expected."""
    stream = generator(requests.seed, "emulated link")
    every_s = 0.0 if link.trace is None else link.trace.end_s / requests.count
    drawn_s = np.array([link.drawn_s(num_bytes, stream, start_s=k * every_s) for k in range(requests.count)])
    return Transfer(link.expected_s(num_bytes) if link.trace is None else float(drawn_s.mean()), drawn_s)


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Return the `PERCENTS` of some times, as {"p50": seconds, ...}."""
    return {f"p{percent}": float(np.percentile(seconds, percent)) for percent in PERCENTS}
