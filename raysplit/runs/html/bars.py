"""Bars of the HTML page, and those of who waited for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysplit.runs.records.tables import Wait

MOST_OWNERS = 60
"""Rows of a map of owners, and bars of parties; the others are counted."""
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar: its label, its text, and the width of each of its pieces in percent, by kind."""

    label: str
    text: str
    pieces: tuple[tuple[str, float], ...]


def bars_of_waits(waits: Sequence[Wait]) -> tuple[tuple[Bar, ...], str]:
    """Return a bar for each party that waited, longest first, and the rounds that they are of."""
    told = [wait for wait in waits if wait.wait_s > 0]
    most = max((wait.wait_s for wait in told), default=0.0) or 1.0
    ranked = sorted(told, key=lambda wait: -wait.wait_s)
    bars = [
        Bar(label=wait.party, text=_text(wait), pieces=(("wait", 100 * wait.wait_s / most),))
        for wait in ranked[:MOST_OWNERS]
    ]
    if len(ranked) > MOST_OWNERS:
        bars.append(Bar(label=f"and {len(ranked) - MOST_OWNERS:,} more", text="", pieces=()))
    return tuple(bars), str(told[0].rounds) if told else ""


def _text(wait: Wait) -> str:
    """Format how long a party waited, and for whom longest."""
    named = [f"{each.party} {each.wait_s:,.2f} s" for each in wait.waited_for[:_MOST_NAMED]]
    if len(wait.waited_for) > _MOST_NAMED:
        named.append(f"and {len(wait.waited_for) - _MOST_NAMED:,} more")
    return f"{wait.wait_s:,.2f} s" + (f": for {', '.join(named)}" if named else "")
