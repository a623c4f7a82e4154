"""Metrics of a run for Ray's dashboard and Prometheus, published after every round by the coordinator's process.

Ray exports them on the metrics port of the coordinator's machine as ``ray_raysplit_...``, with the run's name and
algorithm as labels. The run folder is the authoritative record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from raysplit.cluster.contract import COORDINATOR, LinkTraffic, PartyLoad, PartySpec
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row

MAX_LABELLED = 200
"""Largest number of parties that are labels of their own; more parties are summed by role."""

_UNKNOWN = "unknown"  # role of a party that came and left within a round


class Publish(Protocol):
    """Function that publishes a value of a metric; ``keys`` are its labels."""

    def __call__(self, name: str, value: float, **keys: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Description of a metric; a counter adds up, a gauge has the latest value.

    Attributes:
        column: the column of a round's row that has the value; None for a metric by party or link.
        keys: the names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    column: str | None = None
    keys: tuple[str, ...] = ()


LINK_BYTES = Metric(
    name="raysplit_link_bytes",
    kind="counter",
    keys=("source", "destination"),
    description="tensor bytes over one link",
)
QUEUE_DEPTH = Metric(
    name="raysplit_queue_depth",
    kind="gauge",
    keys=("party",),
    description="calls that a party had taken and not answered, at the most in the last round",
)
WAIT_SECONDS = Metric(
    name="raysplit_wait_seconds",
    kind="counter",
    keys=("party",),
    description="seconds in which a party waited for others",
)
METRICS = (
    Metric(name="raysplit_round", kind="gauge", column="round", description="rounds that are done"),
    Metric(name="raysplit_owners", kind="gauge", column="num_owners", description="owners in the last round"),
    Metric(name="raysplit_samples", kind="counter", column="num_samples", description="samples trained on"),
    Metric(name="raysplit_bytes", kind="counter", column="bytes", description="tensor bytes over all links"),
    Metric(name="raysplit_train_seconds", kind="counter", column="seconds", description="seconds of training"),
    Metric(name="raysplit_samples_per_s", kind="gauge", column="samples_per_s", description="speed of the last round"),
    Metric(name="raysplit_train_loss", kind="gauge", column="train_loss", description="mean loss of the last round"),
    Metric(name="raysplit_test_accuracy", kind="gauge", column="test_accuracy", description="latest test accuracy"),
    LINK_BYTES,
    QUEUE_DEPTH,
    WAIT_SECONDS,
)


def measured(row: Row) -> Mapping[str, float]:
    """Return the metrics that a round's row has, by name."""
    return {metric.name: float(row[metric.column]) for metric in METRICS if metric.column in row}


def by_link(moved: Sequence[LinkTraffic], roles: Mapping[str, str]) -> Mapping[tuple[str, str], float]:
    """Return the bytes by source and destination."""
    names = _labels({party for link in moved for party in (link.source, link.destination)}, roles)
    found: Counter[tuple[str, str]] = Counter()
    for link in moved:
        found[names[link.source], names[link.destination]] += link.num_bytes
    return found


def by_party(loads: Sequence[PartyLoad], roles: Mapping[str, str]) -> Mapping[str, tuple[float, float]]:
    """Return the wait in seconds and the largest number of concurrent calls, by party."""
    names = _labels({load.party for load in loads}, roles)
    found: dict[str, tuple[float, float]] = {}
    for load in loads:
        wait_s, peak = found.get(names[load.party], (0.0, 0.0))
        found[names[load.party]] = wait_s + load.wait_s, max(peak, load.peak_calls)
    return found


def _labels(parties: set[str], roles: Mapping[str, str]) -> dict[str, str]:
    few = len(parties) <= MAX_LABELLED
    return {party: party if few else roles.get(party, _UNKNOWN) for party in parties}


class RayMetrics(Callback):
    """Callback that publishes the metrics of every round."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._loaded: set[str] = set()
        self._roles: dict[str, str] = {COORDINATOR: COORDINATOR}

    def deployed(self, parties: Sequence[PartySpec]) -> None:
        """Register deployed parties and their roles."""
        self._roles |= {party.name: party.role for party in parties}

    def round_ended(self, row: Row) -> None:
        for name, value in measured(row).items():
            self._publish(name, value)

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None:
        """Publish the traffic of a round and the load of the parties, with zero for parties that have left."""
        for (source, destination), num_bytes in by_link(moved, self._roles).items():
            self._publish(LINK_BYTES.name, num_bytes, source=source, destination=destination)
        load_of = by_party(loads, self._roles)
        for party in sorted(self._loaded | load_of.keys()):
            wait_s, peak = load_of.get(party, (0.0, 0.0))
            self._publish(WAIT_SECONDS.name, wait_s, party=party)
            self._publish(QUEUE_DEPTH.name, peak, party=party)
        self._loaded = set(load_of)
