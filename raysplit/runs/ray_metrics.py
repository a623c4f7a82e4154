"""A run as Ray's dashboard and Prometheus see it: what each round did, as metrics of the coordinator's process.

Ray exports them on the metrics port of the coordinator's machine as ``ray_raysplit_...``, with the run's name and
algorithm as labels. The rows of the run folder stay the source of truth.
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
"""Of more parties the names are no labels any more: they are summed up by role."""

_UNKNOWN = "unknown"  # the role of a party that has come and gone within a round


class Publish(Protocol):
    """Publishes a value of a metric; ``keys`` tell the values of one metric apart."""

    def __call__(self, name: str, value: float, **keys: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric; a counter adds up, a gauge is the latest value.

    Attributes:
        column: of a round's row, which it tells; None for one that is told by party or link.
        keys: the labels that tell its values apart.
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
    """The metrics that a round's row tells, by name."""
    return {metric.name: float(row[metric.column]) for metric in METRICS if metric.column in row}


def by_link(moved: Sequence[LinkTraffic], roles: Mapping[str, str]) -> Mapping[tuple[str, str], float]:
    """Bytes by source and destination."""
    names = _labels({party for link in moved for party in (link.source, link.destination)}, roles)
    found: Counter[tuple[str, str]] = Counter()
    for link in moved:
        found[names[link.source], names[link.destination]] += link.num_bytes
    return found


def by_party(loads: Sequence[PartyLoad], roles: Mapping[str, str]) -> Mapping[str, tuple[float, float]]:
    """The wait in seconds, and the largest number of calls at once, by party."""
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
    """Publishes every round."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._pressed: set[str] = set()
        self._roles: dict[str, str] = {COORDINATOR: COORDINATOR}

    def deployed(self, parties: Sequence[PartySpec]) -> None:
        """These parties have been made, the first ones or later ones."""
        self._roles |= {party.name: party.role for party in parties}

    def round_ended(self, row: Row) -> None:
        for name, value in measured(row).items():
            self._publish(name, value)

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None:
        """What has crossed the links in a round, and how hard the parties were pressed; zero for who is not there."""
        for (source, destination), num_bytes in by_link(moved, self._roles).items():
            self._publish(LINK_BYTES.name, num_bytes, source=source, destination=destination)
        pressed = by_party(loads, self._roles)
        for party in sorted(self._pressed | pressed.keys()):
            wait_s, peak = pressed.get(party, (0.0, 0.0))
            self._publish(WAIT_SECONDS.name, wait_s, party=party)
            self._publish(QUEUE_DEPTH.name, peak, party=party)
        self._pressed = set(pressed)
