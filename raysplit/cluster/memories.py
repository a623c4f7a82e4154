"""What the codecs of all parties of a process keep, with a limit on the memory that it takes."""

from __future__ import annotations

from collections import OrderedDict

from raysplit.cluster.codecs.codec import Memory
from raysplit.disk import SpillFile

MAX_KEPT_BYTES = 256 * 2**20


class Memories:
    """The `Memory` of each party; beyond a limit, those of the longest idle parties are in an unnamed file.

    A party is idle from the time at which its update was taken until it next sends or receives. Restoring from the file
    changes no bit.

    Args:
        max_bytes: largest size of what idle parties keep in memory.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = MAX_KEPT_BYTES if max_bytes is None else max_bytes
        self._at_hand: dict[str, Memory] = {}
        self._idle: OrderedDict[str, int] = OrderedDict()  # bytes, longest idle first
        self._idle_bytes = 0
        self._file = SpillFile()

    def __contains__(self, party: str) -> bool:
        return party in self._at_hand

    @property
    def num_spilled(self) -> int:
        """Number of parties whose memory is in the file."""
        return len(self._file)

    def of(self, party: str) -> Memory:
        """Return the memory of a party, which is at hand until `settle`."""
        memory = self._at_hand.get(party)
        if memory is None:
            memory = self._at_hand[party] = Memory()
        if party in self._file:
            memory.kept = self._file.take(party)
        elif party in self._idle:
            self._idle_bytes -= self._idle.pop(party)
        return memory

    def settle(self, party: str) -> None:
        """Note that a party is idle, and make room; nothing moves while a value of it is under way."""
        memory = self.of(party)
        if memory.aside:
            return
        self._idle[party] = sum(tensor.nbytes for tensor in memory.kept.values())
        self._idle_bytes += self._idle[party]
        while self._idle_bytes > self._max_bytes:
            oldest, num_bytes = self._idle.popitem(last=False)
            self._idle_bytes -= num_bytes
            if num_bytes:
                self._file.put(oldest, self._at_hand[oldest].kept)
                self._at_hand[oldest].kept = {}
