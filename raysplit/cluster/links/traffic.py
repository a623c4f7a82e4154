"""Tables of the traffic that each `Link` has counted: merging over places, and differences."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from raysplit.cluster.codecs.adaptive import Kept
from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.links.kinds import KINDS
from raysplit.cluster.links.rules import LinkRules

logger = logging.getLogger(__name__)


def merge_traffic(parts: list[list[LinkTraffic]]) -> list[LinkTraffic]:
    """Add up the tables of several places into one, sorted by source and destination."""
    total: dict[tuple[str, str], LinkTraffic] = {}
    for record in (record for part in parts for record in part):
        key = (record.source, record.destination)
        before = total.get(key)
        total[key] = record if before is None else _combined(record, before, 1)
    return [total[key] for key in sorted(total)]


def difference(after: Sequence[LinkTraffic], before: Sequence[LinkTraffic]) -> list[LinkTraffic]:
    """Return the traffic between two counts, without links that carried no message."""
    earlier = {(r.source, r.destination): r for r in before}
    moved = []
    for record in after:
        old = earlier.get((record.source, record.destination))
        link = record if old is None else _combined(record, old, -1)
        if link.num_messages:
            moved.append(link)
    return moved


class IdleCodecs:
    """Tells in the log, once, which codecs of a run have no effect.

    Args:
        rules: codecs of the run.

    Attributes:
        codes: whether anything is to be coded.
    """

    def __init__(self, rules: LinkRules) -> None:
        self._rules = rules
        self._told = False
        self.codes = not rules.is_plain

    def tell(self, round: int, moved: Sequence[LinkTraffic]) -> None:
        """Take the traffic of a round, of which the first that is coded is told of."""
        if not self._told and round >= self._rules.warmup_rounds:
            self._told = True
            for line in without_effect(self._rules, moved):
                logger.warning("%s", line)


def without_effect(rules: LinkRules, traffic: Sequence[LinkTraffic]) -> list[str]:
    """Return a line for each codec that has made nothing smaller in the traffic of a round.

    A rule for single parties counts only where they have sent something: the others may not have been drawn.
    """
    lines = []
    configured = [
        *((f"links.{kind}", kind, codec) for kind, codec in rules.codecs.items()),
        *((f"links.rules, from: {rule.source}", rule.kind, rule.codec) for rule in rules.singles),
    ]
    for where, kind, codec in configured:
        if isinstance(codec, Kept):  # nobody has configured it
            continue
        sent = [record for record in traffic if codec is not None and rules.codec(record.source, kind) is codec]
        found = [each for record in sent for each in record.kinds if each.kind == kind]
        if not found and (sent or rules.codecs.get(kind) is codec):
            lines.append(f"{where}: no {kind} crossed a link in this round, so {codec!r} had no effect")
        elif found and all(each.num_bytes >= each.raw_bytes for each in found):
            why = "values of fewer than 64 numbers, integers, and what would not become smaller go as they are"
            lines.append(f"{where}: {codec!r} has made no {kind} smaller ({why})")
    return lines


def _combined(record: LinkTraffic, other: LinkTraffic, sign: int) -> LinkTraffic:
    return LinkTraffic(
        source=record.source,
        destination=record.destination,
        num_bytes=record.num_bytes + sign * other.num_bytes,
        num_messages=record.num_messages + sign * other.num_messages,
        kinds=_kinds(record.kinds, other.kinds, sign),
    )


def _kinds(kinds: Sequence[KindTraffic], others: Sequence[KindTraffic], sign: int) -> tuple[KindTraffic, ...]:
    found = {kind: (num_bytes, raw_bytes) for kind, num_bytes, raw_bytes in kinds}
    for kind, num_bytes, raw_bytes in others:
        own = found.get(kind, (0, 0))
        found[kind] = own[0] + sign * num_bytes, own[1] + sign * raw_bytes
    return tuple(KindTraffic(kind, *found[kind]) for kind in KINDS if any(found.get(kind, ())))
