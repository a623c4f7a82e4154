"""The rules of a run for its links: which codec, and who watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.links.kinds import Kind


class Tap(Protocol):
    """An observer of all counted values in the form in which they cross, coded or not; it must not change them.

    On Ray every place has its own copy, which observes the values that arrive there.
    """

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SingleRule:
    """The codec of one kind of value that some parties send.

    Attributes:
        source: name of the sending party, or a pattern such as ``owner-*``.
        kind: kind of value.
        codec: its codec; None sends the values unchanged.
        expected: bytes of coded values in proportion to the largest size that the codec may have, for a simulation.
    """

    source: str
    kind: Kind
    codec: Codec | None
    expected: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """The processing of values on all links of a run.

    Attributes:
        codecs: codecs by kind of value; values of other kinds are sent unchanged.
        singles: codecs for the values of single parties, before ``codecs``; the first that fits counts.
        taps: observers of the values.
        narrow_labels: whether class labels are sent as the smallest integer type that holds ``num_classes``.
        num_classes: number of classes, for ``narrow_labels``.
        seed: seed of the random streams of codecs.
        warmup_rounds: number of rounds at the start whose values no codec changes.
        report_every: number of rounds between rounds in which the errors of codecs are measured; 0 never measures them.
        expected: bytes of coded values in proportion to the largest size that the codec may have, by kind; for the
            simulation of codecs whose sizes depend on values.
        guarded: whether owners have guards, which see all that leaves them and arrives at them.

    Raises:
        ValueError: for a codec that may not be used for its kind.
    """

    codecs: Mapping[Kind, Codec] = field(default_factory=dict)
    singles: tuple[SingleRule, ...] = ()
    taps: tuple[Tap, ...] = ()
    narrow_labels: bool = False
    num_classes: int = 0
    seed: int = 0
    warmup_rounds: int = 0
    report_every: int = 0
    expected: Mapping[Kind, float] = field(default_factory=dict)
    guarded: bool = False

    def __post_init__(self) -> None:
        for kind, codec in self.codecs.items():
            codec.for_kind(kind)
        for rule in self.singles:
            if rule.codec is not None:
                rule.codec.for_kind(rule.kind)

    def codec(self, source: str, kind: Kind) -> Codec | None:
        """Return the codec of a kind of value that a party sends."""
        for rule in self.singles:
            if rule.kind == kind and fnmatchcase(source, rule.source):
                return rule.codec
        return self.codecs.get(kind)

    def is_warmup(self, step: Any) -> bool:
        """Return whether the step of a call is in a round whose values are sent without codecs."""
        return self.warmup_rounds > 0 and 0 <= getattr(step, "round", -1) < self.warmup_rounds

    def is_reported(self, step: Any) -> bool:
        """Return whether the step of a call is in a round whose errors are measured: the N-th, 2N-th and so on."""
        number = getattr(step, "round", -1) + 1  # counted from 1; 0 for a call without a step
        return self.report_every > 0 and number > 0 and number % self.report_every == 0

    def expected_share(self, source: str, kind: Kind) -> float:
        """Return the bytes of what a party sends in proportion to the largest size that its codec may have."""
        for rule in self.singles:
            if rule.kind == kind and fnmatchcase(source, rule.source):
                return rule.expected
        return self.expected.get(kind, 1.0)

    @property
    def all_codecs(self) -> list[tuple[Kind, Codec]]:
        """All codecs with their kinds."""
        return [*self.codecs.items(), *((rule.kind, rule.codec) for rule in self.singles if rule.codec is not None)]

    @property
    def is_plain(self) -> bool:
        """Whether all values are sent unchanged."""
        return not (self.codecs or self.singles or self.narrow_labels)

    @property
    def keeps_state(self) -> bool:
        """Whether a codec keeps something from one round to the next, which belongs into checkpoints."""
        return any(codec.keeps_state for _, codec in self.all_codecs)


PLAIN = LinkRules()
