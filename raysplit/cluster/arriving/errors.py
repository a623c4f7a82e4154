"""The errors for values that a party cannot have expected, which import without torch."""

from __future__ import annotations

import math
from typing import Any


class NonFiniteLoss(ArithmeticError):
    """Raised when a loss is NaN or infinite.

    The message counts rounds and steps from 1, as the metrics do; the attributes ``round`` and ``step`` count from 0.

    Attributes:
        owner: the name of the owner.
        round, step: the place in the run.
        value: the loss.
    """

    def __init__(self, owner: str, round: int, step: int, value: float) -> None:
        super().__init__(
            f"the loss of {owner} is {value} in round {round + 1}, step {step + 1}; lower the learning rate or look at "
            f"this owner's data"
        )
        self.owner, self.round, self.step, self.value = owner, round, step, value

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[Any, ...]]:
        return type(self), (self.owner, self.round, self.step, self.value)


class BadValue(RuntimeError, ValueError):
    """Raised by the receiver of a value that no honest sender sends: of another type, shape or dtype, say.

    Attributes:
        sender: the party that sent it.
        receiver: the party that got it.
        what: what is wrong with it.
        round, step: the place in the run, counted from 0; None outside of rounds and steps.
    """

    def __init__(
        self, sender: str, receiver: str, what: str, round: int | None = None, step: int | None = None
    ) -> None:
        self.sender, self.receiver, self.what, self.round, self.step = sender, receiver, what, round, step
        when = "" if round is None else f" in round {round + 1}" + ("" if step is None else f", step {step + 1}")
        RuntimeError.__init__(self, f"{sender} sent {receiver} {what}{when}; look at the program of {sender}")

    def __reduce__(self) -> tuple[type[BadValue], tuple[Any, ...]]:
        return type(self), (self.sender, self.receiver, self.what, self.round, self.step)


class NonFiniteValue(BadValue, NonFiniteLoss):  # type: ignore[misc]  # its round and step may be unknown
    """Raised by the receiver of a value with NaN or infinite numbers; ``owner`` is the sender."""

    def __init__(
        self, sender: str, receiver: str, what: str, round: int | None = None, step: int | None = None
    ) -> None:
        BadValue.__init__(self, sender, receiver, what, round, step)
        self.owner, self.value = sender, math.nan
        self.args = (f"{self.args[0]}, or lower the learning rate",)


def refused(sender: str, receiver: str, what: str, at: Any = None, *, kind: type[BadValue] = BadValue) -> BadValue:
    """Return the error for a value; ``at`` is the `StepId` or `RoundContext` of its call, if it has one."""
    return kind(sender, receiver, what, getattr(at, "round", None), getattr(at, "step", None))
