"""The link that applies the rules of a run: codecs, narrow labels, and taps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import count
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from raysplit.cluster.arriving.check import Due, expected, require_form, require_numbers
from raysplit.cluster.arriving.forms import ANYTHING, BadValue, refused
from raysplit.cluster.codecs.codec import Codec, Passage
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.coded import Coded, CodedSize, unpacked
from raysplit.cluster.links.coding import coded, coded_bytes, decoded, is_buffer, label_type, narrowed, raw_bytes
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.leaves import is_coded_or_leaf, is_leaf, leaves_of, map_leaves
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.references import References
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.links.tap import Recorder
from raysplit.cluster.links.tensors import num_bytes as bytes_of
from raysplit.cluster.memories import Memories
from raysplit.cluster.spent import Coding, Spent, copy_of, error_of


class CodingLink(Link):
    """A link that applies codecs and taps."""

    codes = True
    adds = False

    def __init__(self, rules: LinkRules, network: Network | None = None) -> None:
        super().__init__(network)
        self._rules = rules
        self._recorders = [tap for tap in rules.taps if isinstance(tap, Recorder)]
        self.keeps_state = rules.keeps_state
        self._found: dict[tuple[str, Kind], Codec | None] = {}
        self._sent: Any = WeakTensorKeyDictionary()  # a tensor that is sent to several parties is coded once
        self._memories = Memories()
        self._references = References()
        self._spent = Spent()
        self._begun: dict[str, Any] = {}  # the latest round of each party, for calls that do not say theirs
        self._changes_gradients = any(codec.changes_gradients for _, codec in rules.all_codecs)
        self._has_differences = any(kind == "weights" and codec.lossy for kind, codec in rules.all_codecs)

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None, verb: str = "") -> Any:
        if source == destination:
            return value
        if kind == "labels" and self._rules.narrow_labels:
            return map_leaves(self._narrowed, value, is_leaf)
        is_warmup = self._rules.is_warmup(self._begun.get(source) if step is None else step)
        codec = None if is_warmup else self._codec(source, kind)
        is_weights = kind == "weights" and self._has_differences
        if codec is None:
            if is_weights and not destination and not self._references.has_sent(source, value):
                self._references.sent(source, value, leaves_of(value))
            return value
        reference = self._references.of_sender(source, destination) if is_weights else {}
        numbers = count()

        def leaf_leaves(leaf: Any, name: str) -> Any:
            at = self._passage(source, source, destination, kind, step, name, next(numbers))
            return self._leaving(codec, leaf, at, reference.get(name))

        sent = map_leaves(leaf_leaves, value, is_leaf)
        if is_weights and not destination and not self._references.has_sent(source, value):
            self._references.sent(source, value, self._as_received(source, sent))
        return sent

    def arriving(
        self,
        source: str,
        destination: str,
        value: Any,
        num_bytes: int,
        kind: Kind = "other",
        step: Any = None,
        due: Due | None = None,
    ) -> Any:
        if source == destination:
            return value
        if num_bytes:
            for tap in self._rules.taps:
                tap.arrived(source, destination, value, num_bytes)
        value = self._received(source, destination, value, num_bytes, kind, step, due)
        for recorder in self._recorders if num_bytes else ():
            recorder.received(source, destination, value, kind, step)
        corrects = kind == "gradients" and num_bytes and self._changes_gradients
        return self._of_sent(source, destination, value, step) if corrects else value

    def _of_sent(self, source: str, destination: str, value: Any, step: Any) -> Any:
        """Return gradients of smashed data as they were sent, given those of what has arrived."""
        codec, numbers = self._codec(destination, "smashed"), count()

        def of_sent(leaf: Any, name: str) -> Any:
            at = self._passage(destination, source, destination, "gradients", step, name, next(numbers))
            return codec.gradient_of_sent(leaf, at) if codec is not None and isinstance(leaf, Tensor) else leaf

        return map_leaves(of_sent, value, is_leaf)

    def _received(
        self, source: str, destination: str, value: Any, num_bytes: int, kind: Kind, step: Any, due: Due | None
    ) -> Any:
        """Return the decoded value, counted and checked."""
        if self._rules.is_plain or not num_bytes:
            return super().arriving(source, destination, value, num_bytes, kind, step, due)
        wanted = ANYTHING if due is None else expected(self.parties.get(destination), source, destination, due)
        try:
            if due is not None:
                require_form(value, due, source, destination, wanted)
            value = self._as_made(source, destination, value, kind, step)
        except BadValue:
            raise
        except ValueError as error:
            if due is None:
                raise
            raise refused(source, destination, f"a message that cannot be decoded ({error})", due.at) from error
        if due is not None:
            require_numbers(value, due, source, destination, wanted)
        self._count(source, destination, kind, num_bytes, bytes_of(value))
        if kind == "weights" and self._has_differences:
            self._references.received(destination, source, leaves_of(value))
        return value

    def _as_made(self, source: str, destination: str, value: Any, kind: Kind, step: Any) -> Any:
        """Return a value as its sender made it, decoded and with labels in their usual type."""
        numbers = count()

        def leaf_arrives(leaf: Any, name: str) -> Any:
            index = next(numbers)
            if isinstance(leaf, Coded):
                return self._decoded(leaf, self._passage(destination, source, destination, kind, step, name, index))
            return leaf.size if isinstance(leaf, CodedSize) else leaf

        value = map_leaves(leaf_arrives, value, is_coded_or_leaf)
        if kind == "labels" and self._rules.narrow_labels:
            value = map_leaves(_widened, value, is_leaf)
        return value

    def coding(self) -> dict[str, Coding]:
        return self._spent.taken()

    def begin(self, party: str, step: Any = None) -> None:
        self._references.forget(party)
        self._begun[party] = step
        if self.network is not None and self.network.coder is not None:
            self.network.coder.begin(step)

    def taken(self, source: str) -> None:
        if source in self._memories:
            self._memories.of(source).commit()
            self._memories.settle(source)

    def state(self, party: str) -> dict[str, Tensor]:
        if party not in self._memories:
            return {}
        kept = dict(self._memories.of(party).kept)
        self._memories.settle(party)
        return kept

    def load_state(self, party: str, state: Mapping[str, Tensor] | None) -> None:
        memory = self._memories.of(party)
        if state is not None:
            memory.kept = dict(state)
        memory.aside.clear()
        memory.passing.clear()
        self._memories.settle(party)
        self._references.forget(party)

    # -- one tensor ----------------------------------------------------------------------------------------------

    def _codec(self, source: str, kind: Kind) -> Codec | None:
        key = source, kind
        if key not in self._found:
            self._found[key] = self._rules.codec(source, kind)
        return self._found[key]

    def _passage(
        self, end: str, source: str, destination: str, kind: Kind, step: Any, name: str, index: int
    ) -> Passage:
        return Passage(source, destination, kind, step, name, index, self._rules.seed, self._memories.of(end))

    def _leaving(self, codec: Codec, leaf: Any, at: Passage, reference: Any) -> Any:
        plain: Codec | None = codec
        is_delta = False
        if at.kind == "weights":
            if is_buffer(at.leaf):
                return leaf
            is_delta = codec.lossy and _fits(leaf, reference)
            plain = codec.codec if isinstance(codec, Feedback) else codec
            if not is_delta and plain.needs_reference:
                return leaf
        used = codec if is_delta else plain
        assert used is not None
        if not isinstance(leaf, Tensor):
            return CodedSize(leaf, self._expected_bytes(used, leaf, at))
        if leaf.layout is not torch.strided:  # codecs take rows of numbers; the receiver says what it expects
            return leaf
        if is_delta:
            return self._encoded(used, leaf.detach().cpu() - reference.detach().cpu(), at, is_delta=True) or leaf
        return self._coded(used, leaf, at)

    def _encoded(self, codec: Codec, leaf: Tensor, at: Passage, *, is_delta: bool = False) -> Coded | None:
        is_reported = self._rules.is_reported(at.step)
        before = at._replace(memory=copy_of(at.memory)) if is_reported else at
        began_s = time.perf_counter()
        sent = coded(codec, leaf, at, is_delta=is_delta)
        self._spent.encoding(at.source, time.perf_counter() - began_s)
        if sent is not None and is_reported:
            self._spent.erring(at.source, error_of(codec, leaf, sent, before))
        return sent

    def _coded(self, codec: Codec, leaf: Tensor, at: Passage) -> Coded | Tensor:
        if leaf.is_inference():  # it has no version counter that would show a change
            return self._encoded(codec, leaf, at) or leaf
        as_it_is = at.kind, leaf._version
        known = self._sent.get(leaf)
        if known is None or known[0] != as_it_is:
            known = self._sent[leaf] = as_it_is, self._encoded(codec, leaf, at)
        return known[1] or leaf

    def _decoded(self, leaf: Coded, at: Passage) -> Tensor:
        try:
            header = unpacked(leaf.header)
        except ValueError as error:
            raise ValueError(f"{at.source} -> {at.destination}, {at.kind}: {error}") from error
        codec = self._codec(at.source, header.kind)
        if codec is None or codec.number != header.codec:
            raise ValueError(
                f"{at.source} sent {header.kind} with codec {header.codec} and {at.destination} decodes with "
                f"{'none' if codec is None else codec.number}; configure the same links at both ends"
            )
        try:
            began_s = time.perf_counter()
            values = decoded(codec, leaf, at._replace(kind=header.kind))
            self._spent.decoding(at.destination or at.source, time.perf_counter() - began_s)
            if not header.is_delta:
                return values
            reference = self._references.of_receiver(at.destination, at.leaf)
            if reference.shape != values.shape:
                raise ValueError(f"{at.leaf!r} has shape {list(reference.shape)} here and {list(values.shape)} there")
        except ValueError as error:
            raise ValueError(f"{at.source} -> {at.destination}, {header.kind}: {error}") from error
        sum_: Tensor = reference.detach().cpu() + values
        return sum_

    def _as_received(self, source: str, sent: Any) -> Mapping[str, Any]:
        """Return the leaves of a value as its receivers decode them."""
        found: dict[str, Any] = {}
        numbers = count()

        def note(leaf: Any, name: str) -> Any:
            at = self._passage("", source, "", "weights", None, name, next(numbers))
            is_coded = isinstance(leaf, Coded)
            found[name] = self._decoded(leaf, at) if is_coded else getattr(leaf, "size", leaf)
            return leaf

        map_leaves(note, sent, is_coded_or_leaf)
        return found

    # -- sizes of a simulation -----------------------------------------------------------------------------------

    def _expected_bytes(self, codec: Codec, size: Any, at: Passage) -> int:
        """Return the bytes of a value of which only the shapes are known."""
        total = 0
        for name, shape, dtype in size.named_leaves():
            most = None if at.kind == "weights" and is_buffer(name) else coded_bytes(codec, shape, dtype)
            if most is None:
                total += raw_bytes(shape, dtype)
            elif codec.size_depends_on_values:
                total += min(raw_bytes(shape, dtype), ceil(most * self._rules.expected_share(at.source, at.kind)))
            else:
                total += most
        return total

    def _narrowed(self, leaf: Any, name: str) -> Any:
        if isinstance(leaf, Tensor):
            return narrowed(leaf, self._rules.num_classes)
        dtype = label_type(self._rules.num_classes)
        return leaf if dtype is None else CodedSize(leaf, leaf.num_rows * dtype.itemsize)


def _fits(leaf: Any, reference: Any) -> bool:
    if reference is None:
        return False
    if not isinstance(leaf, Tensor):
        return True
    return leaf.is_floating_point() and leaf.shape == reference.shape and leaf.dtype == reference.dtype


def _widened(leaf: Any, name: str) -> Any:
    is_narrow = isinstance(leaf, Tensor) and leaf.dtype in (torch.uint8, torch.int16)
    return leaf.to(torch.int32) if is_narrow else leaf
