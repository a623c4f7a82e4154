"""What an error in a round is: a lost place, an owner's bad update, or bad values of another party."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raysplit.actors.aggregation import UpdateRefused
from raysplit.actors.parts.gradient_record import ReceivedGradient
from raysplit.actors.records import BadValue, NonFiniteLoss
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import PlaceLost, original
from raysplit.schedulers.failure import BadParty, BadUpdate, Failure, LostPlace
from raysplit.training.recovery.watch import RoundOverdue

OF_VALUES = (NonFiniteLoss, UpdateRefused, BadValue)
"""The errors that are about a value, whose sender counts; no place is lost with them."""
RECOVERABLE = (PlaceLost, RoundOverdue, *OF_VALUES)


class RunStopped(RuntimeError):
    """Exception for a loss that ends the run by its rules; the message has the reason and the way out."""


class Failures:
    """The failures of a run, which count the bad updates of each owner."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._bad_updates: Counter[str] = Counter()

    async def of(self, error: Exception, remade: Sequence[str]) -> Failure:
        """Return what an error is; ``remade`` are the parties that had to be created again after it."""
        if isinstance(error, RoundOverdue):
            place, reason, parties = ", ".join(error.waits_for), "it did not answer in time", error.waits_for
        elif isinstance(error, PlaceLost):
            place, reason, parties = error.place, error.reason, tuple(remade)
        else:
            return await self._of_value(error)
        return LostPlace(place=place, reason=reason, parties=tuple({original(name): None for name in parties}))

    async def _of_value(self, error: Exception) -> BadUpdate | BadParty:
        sender = original(error.sender if isinstance(error, BadValue) else getattr(error, "owner", ""))
        if sender not in self._algorithm.setting.owners:
            return BadParty(party=sender, reason=str(error))
        led_to = await self._led_to(sender) if isinstance(error, NonFiniteLoss) else None
        if led_to is not None:
            when = "" if led_to.step is None else f" in step {led_to.step + 1}"
            told = f"{led_to.sender} had sent {sender} a gradient of norm {led_to.norm:.3g}{when}"
            error.add_note(told)
            return BadParty(party=led_to.sender, reason=f"{error}, after {told}")
        self._bad_updates[sender] += 1
        return BadUpdate(owner=sender, reason=str(error), times=self._bad_updates[sender])

    async def _led_to(self, owner: str) -> ReceivedGradient | None:
        """Return the gradient out of all proportion that an owner got before its loss was no number, if there is one.

        The owner is asked, since nobody else has seen it.
        """
        if owner not in self._algorithm.handles or not hasattr(self._algorithm.owner_type, "largest_gradient"):
            return None
        found: ReceivedGradient | None = await self._algorithm.owner(owner).largest_gradient()
        return found
