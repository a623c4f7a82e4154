"""The lines of a ledger: the owner, charges and steps, and what is checked of them when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

VERSION = 1
NONE, OPAQUE, PAID = "none", "opaque", "paid"
"""Mechanisms: nothing is changed; something is, and nothing is promised; what leaves follows from what is charged."""


class LedgerRefused(ValueError):
    """Raised for a ledger that is shorter than it was, changed, or not one."""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What the messages of one kind in a round cost an owner.

    Attributes:
        value: kind of value, one of `raysplit.guards.account.verbs.VALUES`.
        round, attempt: the round and its attempt, counted from 0.
        first_step, last_step: the mini-batches of the round that it is for; -1 for values of no step.
        to: who receives them.
        mechanism: ``gaussian``, ``laplace``, ``rr``, `PAID`, `OPAQUE` or `NONE`.
        clip, sigma: largest norm, and standard deviation or scale of the noise.
        mu2: squared mu of all uses together.
        epsilon_pure: epsilon of one use of a pure mechanism.
        uses: most uses of one sample.
        key: of the messages.
        reason: what is to be known where nothing is promised.
        rehearsal: whether the noise is drawn from the seed of the run.
        rng, floating_point: how noise is drawn and added.
    """

    value: str
    round: int
    attempt: int = 0
    first_step: int = -1
    last_step: int = -1
    to: tuple[str, ...] = ()
    mechanism: str = NONE
    clip: float | None = None
    sigma: float | None = None
    mu2: float = 0.0
    epsilon_pure: float = 0.0
    uses: int = 0
    key: str = ""
    reason: str = ""
    rehearsal: bool = False
    rng: str = "philox-blake2b"
    floating_point: str = "rounded"


def lines_of(content: bytes, path: Path | None) -> Iterator[Mapping[str, Any]]:
    """Return the lines of a ledger. Raises `LedgerRefused` for one that is not of a ledger."""
    for number, raw in enumerate(content.splitlines(), start=1):
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or (number == 1) != ("version" in line):
                raise ValueError("no line of a ledger")
            if "version" in line:
                if (
                    line["version"] != VERSION
                    or not isinstance(line["owner"], str)
                    or line["samples"] != int(line["samples"])
                ):
                    raise ValueError(f"a ledger of version {line['version']}")
            elif "step" in line:
                _ = (
                    line["key"] + line["at"],
                    int(line["step"]),
                    {k: (int(a), int(b)) for k, (a, b) in line["sent"].items()},
                )
            else:
                charge_of(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerRefused(f"{path}, line {number}, is not of a ledger: {error}") from None
        yield line


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "float | None": (int, float),
    "bool": bool,
    "tuple[str, ...]": list,
}


def charge_of(line: Mapping[str, Any]) -> Charge:
    """Return the charge in a line. Raises ``ValueError`` or ``TypeError`` for anything else."""
    kinds = {field.name: _TYPES[str(field.type)] for field in fields(Charge)}
    for name, value in line.items():
        kind = kinds[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} is {value!r}")
        if isinstance(value, int | float) and name in ("mu2", "epsilon_pure", "uses") and not value >= 0:
            raise ValueError(f"{name} is {value!r}")
    return Charge(**{**line, "to": tuple(line.get("to", ()))})
