"""A tap that keeps messages as their receiver gets them, for the question what they tell.

It keeps copies and changes nothing: a run with it ends with the bits of a run without. One process is needed for all
parties, since on Ray every place has a tap of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from raysplit.cluster.contract import current_samples
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.leaves import leaves_of


@dataclass(frozen=True, kw_only=True)
class Message:
    """A value that has crossed a link, decoded.

    Attributes:
        source: the party that computed it.
        destination: the party that received it.
        kind: kind of its tensors.
        step: `StepId` or `RoundContext` of the call; None for a call without one.
        tensors: copies of its tensors by the name of their place in the value; the value itself has the name "".
        samples: the numbers of the samples [B] in the owner's batch, which the receiver is *not* told; None outside of
            an owner's steps.
        beside: what the recorder was asked to keep with it; None without.
    """

    source: str
    destination: str
    kind: Kind
    step: Any
    tensors: Mapping[str, Tensor] = field(repr=False)
    samples: Tensor | None = field(default=None, repr=False)
    beside: Any = field(default=None, repr=False)

    @property
    def round(self) -> int | None:
        """The round of the call, counted from 0; None for a call without one."""
        return getattr(self.step, "round", None)


class Recorder:
    """A tap that keeps the messages that are wanted, in the order of their arrival.

    Args:
        wanted: says of a message's source, destination, kind and step whether to keep it.
        beside: function whose value for the name of the receiver, at the moment of arrival, is kept with a message.

    Example:
        >>> recorder = Recorder(lambda source, destination, kind, step: kind == "smashed")
        >>> recorder.messages  # those of a cluster that was made with links=LinkRules(taps=(recorder,))
        []
    """

    def __init__(
        self, wanted: Callable[[str, str, Kind, Any], bool], *, beside: Callable[[str], Any] | None = None
    ) -> None:
        self._wanted = wanted
        self._beside = beside
        self.messages: list[Message] = []

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None:
        """Ignore the form in which a value crosses."""

    def received(self, source: str, destination: str, value: Any, kind: Kind, step: Any) -> None:
        """Keep a decoded value if it is wanted."""
        if not self._wanted(source, destination, kind, step):
            return
        tensors = {name: leaf.detach().cpu().clone() for name, leaf in leaves_of(value).items()}
        self.messages.append(
            Message(
                source=source,
                destination=destination,
                kind=kind,
                step=step,
                tensors=tensors,
                samples=current_samples.get(),
                beside=None if self._beside is None else self._beside(destination),
            )
        )
