"""Samples that only their owner can read: what stands for them everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NoReturn

from raysplit.data.by_owner.source import Opened, OwnSource
from raysplit.data.samples import Indices


@dataclass(frozen=True, kw_only=True)
class SealedSamples:
    """One side of an owner's data, of which everybody else has the number of samples and no sample.

    It is sent to the owner's place, which opens the source there, and again whenever the place is started anew. Every
    method of `Samples` but ``len`` raises ``ValueError``.

    Attributes:
        source: where the data lie.
        side: which side.
        num_samples: number of samples of the training and of the test side.
        digest: digest of both sides when the run began.
    """

    source: OwnSource
    side: Literal["train", "test"]
    num_samples: tuple[int, int]
    digest: str

    def __len__(self) -> int:
        return self.num_samples[self.side == "test"]

    def opened(self) -> Opened:
        """Read the source, which the owner does at its place.

        Raises ``ValueError`` where it cannot be read, or no longer holds what it held when the run began.
        """
        return _opened_once(_Key(self))

    def read_again(self) -> Opened:
        """Read the source anew. Raises as `opened`."""
        found = self.source.open()
        counts = len(found.train), len(found.test)
        if counts != self.num_samples:
            raise ValueError(
                f"data of {self.source} have {counts[0]} training and {counts[1]} test samples, and had "
                f"{self.num_samples[0]} and {self.num_samples[1]} when the run began; put back what was there, or "
                f"train a new run"
            )
        if found.digest != self.digest:
            refuse_changed(self.source, found.digest, self.digest)
        return found

    @property
    def x(self) -> Any:
        self._refuse()

    @property
    def y(self) -> Any:
        self._refuse()

    def take(self, indices: Any) -> Any:
        """Raise ``ValueError``."""
        self._refuse()

    def subset(self, indices: Any) -> Any:
        """Raise ``ValueError``."""
        self._refuse()

    def shuffled(self, rng: Any) -> Indices:
        """Raise ``ValueError``."""
        self._refuse()

    @staticmethod
    def concatenated(parts: Sequence[SealedSamples]) -> Any:
        """Raise ``ValueError``, since no party may have the samples of several owners."""
        parts[0]._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"the data of {self.source} are read by their owner alone (data.by_owner), and this method needs them "
            f"elsewhere; use another algorithm, or one source with a partition"
        )


def refuse_changed(source: OwnSource, digest: str, before: str) -> NoReturn:
    """Raise ``ValueError`` for a source that holds other samples than when the run began."""
    raise ValueError(
        f"data of {source} have changed since the run began: their digest is {digest[:12]} and was {before[:12]}; put "
        f"back what was there, or train a new run"
    )


class _Key:
    """A sealed side as a key: both sides of a source have the same."""

    def __init__(self, sealed: SealedSamples) -> None:
        self.sealed = sealed
        self.text = repr((sealed.source, sealed.num_samples, sealed.digest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=1)
def _opened_once(key: _Key) -> Opened:
    return key.sealed.read_again()
