"""What all that has left an owner promises together.

For one sample of the owner in place of another: squared mu of all Gaussian releases add up, pure releases are composed,
and both are added. A total is only said where nothing has left without a mechanism: an owner whose smashed data are
guarded and whose weights are not tells of a sample through the smashed data of others, later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raysplit.guards.account.accounting import basic, gaussian_epsilon, pure_epsilon
from raysplit.guards.account.charges import NONE, OPAQUE, Charge, LedgerRefused, charge_of, lines_of
from raysplit.guards.account.ledger import SUFFIX
from raysplit.guards.account.verbs import VALUES

Guarantee = Literal["total", "conditional", "none", "rehearsal"]
GIVEN_WEIGHTS = "given the weights"
"""The reason of a charge for smashed data of a part that is trained on them without a guard of its own."""
_OF_WEIGHTS = frozenset({"weights", "snapshot"})


@dataclass(frozen=True, kw_only=True)
class Total:
    """What an owner has given away.

    Attributes:
        epsilon: of all charges with a mechanism, at ``delta``; what it is worth is in ``guarantee``.
        delta: the delta of it.
        mu2: squared mu of all Gaussian releases.
        guarantee: ``total``; ``conditional`` where it holds for each message given the weights; ``none``; or
            ``rehearsal`` where noise came from the seed of the run.
        reason: why it is not a total; empty where it is.
    """

    epsilon: float
    delta: float
    mu2: float
    guarantee: Guarantee
    reason: str

    @property
    def bound(self) -> float | None:
        """The epsilon that is promised; None where nothing is."""
        return self.epsilon if self.guarantee == "total" else None


def total_of(charges: Iterable[Charge], delta: float) -> Total:
    """Return what these charges promise together."""
    charges = list(charges)
    mu2 = math.fsum(charge.mu2 for charge in charges)
    guarantee, reason = _guarantee(charges)
    return Total(epsilon=_epsilon(charges, mu2, delta), delta=delta, mu2=mu2, guarantee=guarantee, reason=reason)


def _epsilon(charges: Sequence[Charge], mu2: float, delta: float) -> float:
    laplace = [c.epsilon_pure for c in charges if c.mechanism == "laplace" for _ in range(c.uses)]
    flips = [c.epsilon_pure for c in charges if c.mechanism == "rr"]
    if not mu2:
        return pure_epsilon(laplace, flips, delta=delta)
    mu = math.sqrt(mu2)
    whole = basic([*laplace, *flips]) + gaussian_epsilon(mu, delta)
    if not laplace:
        return whole
    return min(whole, pure_epsilon(laplace, flips, delta=delta / 2) + gaussian_epsilon(mu, delta / 2))


def _guarantee(charges: Sequence[Charge]) -> tuple[Guarantee, str]:
    if any(charge.rehearsal for charge in charges):
        return "rehearsal", "noise comes from the seed of the run, which everybody has"
    open_ = {charge.value: charge for charge in charges if charge.mechanism in (NONE, OPAQUE)}
    others = [name for name in VALUES if name in open_ and name not in _OF_WEIGHTS]
    if others:
        return "none", f"{_listed(others)} {'leaves' if len(others) == 1 else 'leave'} without a mechanism that has one"
    paid = {charge.value for charge in charges if charge.mechanism not in (NONE, OPAQUE)}
    if open_ and "z" not in paid:
        return (
            "none",
            f"{_listed([*open_])} {'leaves' if len(open_) == 1 else 'leave'} without a mechanism that has one",
        )
    if open_ or any(GIVEN_WEIGHTS in charge.reason for charge in charges):
        return "conditional", (
            "it holds for each message, given the weights: the owner's part is trained without DP-SGD, and later "
            "messages about other samples depend on this one through its weights"
        )
    return "total", ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What has left an owner of one kind of value.

    Attributes:
        value: the kind.
        num_bytes, num_messages: how much, as far as the owner came to note it.
        mechanisms: what was done to it, in the order in which it began.
        uses: most uses of one sample.
        epsilon: of this kind alone, at the delta of the account; None without a mechanism that has one.
        to: who received it.
    """

    value: str
    num_bytes: int
    num_messages: int
    mechanisms: tuple[str, ...]
    uses: int
    epsilon: float | None
    to: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Account:
    """A ledger as it is read.

    Attributes:
        owner: the name of the owner.
        samples: the number of its samples.
        charges: all charges.
        sent: bytes and messages by kind of value.
    """

    owner: str
    samples: int
    charges: tuple[Charge, ...]
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """The number of different rounds."""
        return len({charge.round for charge in self.charges if charge.round >= 0})

    def total(self, delta: float) -> Total:
        """Return what all of it promises."""
        return total_of(self.charges, delta)

    def by_value(self, delta: float) -> list[Sent]:
        """Return what has left by kind of value, in the order of `VALUES`."""
        found = []
        for value in VALUES:
            charges = [charge for charge in self.charges if charge.value == value]
            if not charges and value not in self.sent:
                continue
            num_bytes, num_messages = self.sent.get(value, (0, 0))
            mechanisms = tuple(dict.fromkeys(charge.mechanism for charge in charges)) or (NONE,)
            is_open = {NONE, OPAQUE} & {*mechanisms}
            uses = sum(charge.uses for charge in charges)
            found.append(
                Sent(
                    value=value,
                    num_bytes=num_bytes,
                    num_messages=num_messages,
                    mechanisms=mechanisms,
                    uses=uses,
                    epsilon=None if is_open else total_of(charges, delta).epsilon,
                    to=tuple(dict.fromkeys(name for charge in charges for name in charge.to)),
                )
            )
        return found


def read_account(path: Path) -> Account:
    """Read a ledger. Raises `LedgerRefused` for a file that is none."""
    content = path.read_bytes()
    owner, samples, charges = "", 0, list[Charge]()
    num_bytes, num_messages = Counter[str](), Counter[str]()
    for line in lines_of(content[: content.rfind(b"\n") + 1], path):
        if "version" in line:
            owner, samples = line["owner"], line["samples"]
        elif "step" in line:
            for value, (size, count) in line["sent"].items():
                num_bytes[value] += size
                num_messages[value] += count
        else:
            charges.append(charge_of(line))
    if not owner:
        raise LedgerRefused(f"{path} is empty; the ledger of an owner begins with its name")
    sent = {value: (num_bytes[value], num_messages[value]) for value in num_bytes}
    return Account(owner=owner, samples=samples, charges=tuple(charges), sent=sent)


def accounts_in(folder: Path) -> list[Account]:
    """Read all ledgers of a folder, in the order of the owners' numbers."""
    found = [read_account(path) for path in folder.glob(f"*{SUFFIX}")]
    return sorted(found, key=lambda account: (len(account.owner), account.owner))
