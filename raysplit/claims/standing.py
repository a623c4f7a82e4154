"""Where every claim stands by the records that were made for this version, as kept in this package."""

from __future__ import annotations

from pathlib import Path

from raysplit.claims.protocol import Protocol
from raysplit.claims.verdict import Verdict, from_data

FILE = Path(__file__).parent / "standing.json"


def standing(protocol: Protocol) -> list[Verdict]:
    """Return the kept verdicts of a protocol."""
    return from_data(protocol, FILE.read_text(encoding="utf-8"))
