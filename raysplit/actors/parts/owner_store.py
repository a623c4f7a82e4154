"""A store for the parts of thousands of logical owners in one process, of which only a limited number are live.

An owner that has not computed yet costs only its shard; its parts are built when it first computes. If more owners than
a limit have live parts, and more bytes of them than another, those of the one that computed last are packed: their
tensors are kept, in memory up to a limit and in an unnamed file beyond it, and the module (hundreds of Python objects,
still in the processor's cache) is reused by the next owner that needs one of this kind. Owners compute in the same
order round after round, so the one that has been idle longest is the one that is needed first. Packing and unpacking
change no bit, so results depend neither on the limits nor on the assignment of owners to processes.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

from torch import nn

from raysplit.actors.parts.packed import PackedPart, kept_tensors
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.cluster.device import Device
from raysplit.disk import SpillFile
from raysplit.models.crossing.tied import tie

MAX_AT_HAND = 64
MAX_BYTES_AT_HAND = 64 * 2**20
_COPIES = 3  # of a weight: itself and an optimizer's moments
MAX_PACKED_BYTES = 256 * 2**20
_KEYS = count()  # unlike addresses, keys are never used twice


class OwnerParts:
    """The stages of one owner, which are built or unpacked on access.

    Args:
        recipes: recipes of the parts, in order.
        device: device on which they compute.
        store: the process's store; None keeps the parts live, for owners that store references to their modules.
    """

    def __init__(self, recipes: Sequence[PartRecipe], device: Device, store: OwnerStore | None) -> None:
        self._recipes = recipes
        self._device = device
        self._store = store
        self._stages: list[Stage] = []
        self._num_busy = 0
        self._is_live = False  # not packed, of parts in a store
        self.key = next(_KEYS)
        if store is not None:
            weakref.finalize(self, store.forget, self.key).atexit = False

    @property
    def stages(self) -> list[Stage]:
        """The stages, built or unpacked if necessary. Outside of `busy`, access them again after every await."""
        if self._num_busy and self._is_live:
            return self._stages
        if self._store is None:
            if not self._stages:
                self._stages = [recipe.build(self._device) for recipe in self._recipes]
                self._tie()
        else:
            self._store.bring(self)
        return self._stages

    def recut(self, recipes: Sequence[PartRecipe]) -> OwnerParts:
        """Return other parts for the same owner and store."""
        return OwnerParts(recipes, self._device, self._store)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the parts live within this context."""
        self._num_busy += 1
        try:
            yield
        finally:
            self._num_busy -= 1
            if self._store is not None:
                self._store.make_room()

    @property
    def is_busy(self) -> bool:
        return self._num_busy > 0

    def unpack(self, shells: Sequence[nn.Module | None], packed: Sequence[PackedPart] | None) -> None:
        """Build or restore the parts, in modules that other owners released if there are any."""
        self._is_live = True
        if not self._stages:
            self._stages = [
                recipe.build(self._device) if shell is None else recipe.build_in(shell, self._device)
                for recipe, shell in zip(self._recipes, shells, strict=True)
            ]
            self._tie()
            return
        assert packed is not None
        for stage, recipe, shell, content in zip(self._stages, self._recipes, shells, packed, strict=True):
            stage.part.unpack(recipe.module() if shell is None else shell, content)
        self._tie()

    def _tie(self) -> None:
        tie([stage.part.module for stage in self._stages])

    def pack(self) -> tuple[list[nn.Module], list[PackedPart]]:
        """Release the modules, and return them with the packed parts."""
        self._is_live = False
        modules = [stage.part.module for stage in self._stages]
        return modules, [stage.part.pack() for stage in self._stages]

    @property
    def num_bytes(self) -> int:
        """The most that the live parts take, with their optimizers."""
        kept = [tensor for stage in self._stages for tensor in kept_tensors(stage.part.module)]
        return _COPIES * sum(tensor.numel() * tensor.element_size() for tensor in kept)

    @property
    def kinds(self) -> list[Any]:
        """The kind of each part's module; modules of one kind can be exchanged."""
        return [recipe.kind for recipe in self._recipes]


class OwnerStore:
    """The live and the packed parts of all owners of a process.

    Args:
        max_at_hand: largest number of idle owners with live parts; busy owners always have live parts.
        max_bytes_at_hand: size of live parts, with optimizers, up to which the number does not matter: packing small
            parts and unpacking them takes a good part of a step.
        max_packed_bytes: largest size of packed parts in memory; those of the longest idle owners go to an unnamed
            temporary file.
    """

    def __init__(
        self,
        *,
        max_at_hand: int = MAX_AT_HAND,
        max_bytes_at_hand: int = MAX_BYTES_AT_HAND,
        max_packed_bytes: int = MAX_PACKED_BYTES,
    ) -> None:
        self.max_at_hand = max_at_hand
        self.max_bytes_at_hand = max_bytes_at_hand
        self.max_packed_bytes = max_packed_bytes
        self._at_hand: OrderedDict[int, weakref.ref[OwnerParts]] = OrderedDict()  # longest idle first
        self._sizes: dict[int, int] = {}  # of the parts at hand
        self._bytes_at_hand = 0
        self._packed: OrderedDict[int, list[PackedPart]] = OrderedDict()
        self._packed_bytes = 0
        self._spilled = SpillFile()
        self._shells: defaultdict[Any, list[nn.Module]] = defaultdict(list)
        self._gone: list[int] = []  # owners that have been garbage-collected

    @property
    def num_at_hand(self) -> int:
        self._forget_those_gone()
        return len(self._at_hand)

    @property
    def num_spilled(self) -> int:
        self._forget_those_gone()
        return len(self._spilled)

    def bring(self, parts: OwnerParts) -> None:
        """Make these parts live, and mark them as the latest used."""
        key = parts.key
        self._forget_those_gone()
        if key in self._at_hand:
            self._at_hand.move_to_end(key)
            return
        shells = [self._shells[kind].pop() if self._shells[kind] else None for kind in parts.kinds]
        parts.unpack(shells, self._taken(key))
        self._at_hand[key] = weakref.ref(parts)
        self._sizes[key] = parts.num_bytes
        self._bytes_at_hand += self._sizes[key]
        self.make_room()

    def make_room(self) -> None:
        """Pack the parts of the owners that became idle last until the limit is kept, or all others are busy."""
        self._forget_those_gone()
        excess = len(self._at_hand) - self.max_at_hand
        if excess <= 0 or self._bytes_at_hand <= self.max_bytes_at_hand:
            return
        latest_first = ((key, ref()) for key, ref in reversed(self._at_hand.items()))
        idle = ((key, parts) for key, parts in latest_first if parts is not None and not parts.is_busy)
        chosen: list[tuple[int, OwnerParts]] = []
        too_many = self._bytes_at_hand - self.max_bytes_at_hand
        for key, parts in islice(idle, 1, 1 + excess):  # the caller may be using the latest
            if too_many <= 0:
                break
            chosen.append((key, parts))
            too_many -= self._sizes[key]
        for key, parts in reversed(chosen):
            self._let_go(key)
            self._pack(key, parts)

    def forget(self, key: int) -> None:
        """Note that an owner is gone; its parts are dropped later, as the garbage collector calls this at any time."""
        self._gone.append(key)

    def _forget_those_gone(self) -> None:
        while self._gone:
            key = self._gone.pop()
            self._let_go(key)
            self._packed_bytes -= sum(part.num_bytes for part in self._packed.pop(key, ()))
            self._spilled.forget(key)

    def _let_go(self, key: int) -> None:
        self._at_hand.pop(key, None)
        self._bytes_at_hand -= self._sizes.pop(key, 0)

    def _pack(self, key: int, parts: OwnerParts) -> None:
        modules, packed = parts.pack()
        for kind, module in zip(parts.kinds, modules, strict=True):
            if len(self._shells[kind]) < max(1, self.max_at_hand):
                self._shells[kind].append(module)
        self._packed[key] = packed
        self._packed_bytes += sum(part.num_bytes for part in packed)
        while self._packed_bytes > self.max_packed_bytes and self._packed:
            oldest, content = self._packed.popitem(last=False)
            self._packed_bytes -= sum(part.num_bytes for part in content)
            self._spilled.put(oldest, [part._asdict() for part in content])

    def _taken(self, key: int) -> list[PackedPart] | None:
        if key in self._spilled:
            return [PackedPart(**part) for part in self._spilled.take(key)]
        packed = self._packed.pop(key, None)
        if packed is not None:
            self._packed_bytes -= sum(part.num_bytes for part in packed)
        return packed


STORE = OwnerStore()
"""The store of this process."""
