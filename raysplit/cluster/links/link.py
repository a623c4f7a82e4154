"""The link through which parties send values to one another, on every cluster.

``leaving`` encodes the tensors of a value that is sent. ``arriving`` counts the received bytes, shows the value to the
taps, and decodes it. Bytes are counted nowhere else. Every process has one `Link`; the handles of all clusters send
arguments and answers through it.

By default, values are sent unchanged and counted. `LinkRules` add a `Codec` for a kind of value, or a `Tap` that
observes. A codec with state from one value to the next keeps it by the keys of its `Passage`, in the process of the
party that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from raysplit.cluster.codecs.codec import Codec, Passage
from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.coded import (
    DTYPES,
    MAX_PAYLOAD_BYTES,
    Coded,
    CodedSize,
    Header,
    header_bytes,
    unpacked,
)
from raysplit.cluster.links.kinds import VERBS, Crossing, Kind, declared

MIN_VALUES = 64
"""The smallest number of values of a tensor that is coded."""


class Tap(Protocol):
    """An observer of all counted values in the form in which they cross, coded or not; it must not change them.

    On Ray every place has its own copy, which observes the values that arrive there.
    """

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """The processing of values on all links of a run.

    Attributes:
        codecs: codecs by kind of value; values of other kinds are sent unchanged.
        taps: observers of the values.

    Raises:
        ValueError: for a codec that may not be used for its kind.
    """

    codecs: Mapping[Kind, Codec] = field(default_factory=dict)
    taps: tuple[Tap, ...] = ()

    def __post_init__(self) -> None:
        for kind, codec in self.codecs.items():
            if kind not in codec.kinds:
                fit = " and ".join(sorted(codec.kinds)) or "nothing"
                raise ValueError(f"{type(codec).__name__} is a codec for {fit}, not for {kind}; leave {kind} uncoded")


PLAIN = LinkRules()


class Link:
    """The link of one process, which counts values and sends them unchanged.

    Args:
        network: emulated network, which determines the time of transfers; None if nothing is emulated.
    """

    def __init__(self, network: Network | None = None) -> None:
        self.network = network
        self._carried: dict[tuple[str, str], list[int]] = {}  # bytes and messages by (source, destination)

    def crossings(self, own: Mapping[str, Crossing]) -> Mapping[str, Crossing]:
        """Return the verbs of a party whose values are coded; ``own`` are the verbs that its class declares."""
        return {}

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None) -> Any:
        """Return what is sent for a value; ``destination`` is empty for an answer."""
        return value

    def arriving(self, source: str, destination: str, value: Any, num_bytes: int) -> Any:
        """Count ``num_bytes`` and return the decoded value. Calls of a party to itself are not counted."""
        if num_bytes and source != destination:
            ends = source, destination
            carried = self._carried.get(ends)
            if carried is None:
                carried = self._carried[ends] = [0, 0]
            carried[0] += num_bytes
            carried[1] += 1
        return value

    def traffic(self) -> list[LinkTraffic]:
        """Return the traffic that has arrived here so far, sorted by source and destination."""
        return [
            LinkTraffic(source=source, destination=destination, num_bytes=num_bytes, num_messages=num_messages)
            for (source, destination), (num_bytes, num_messages) in sorted(self._carried.items())
        ]


class CodingLink(Link):
    """A link that applies codecs and taps."""

    def __init__(self, rules: LinkRules, network: Network | None = None) -> None:
        super().__init__(network)
        self._codecs = dict(rules.codecs)
        self._verbs = {verb: found for verb, found in VERBS.items() if found.kinds & self._codecs.keys()}
        self._taps = rules.taps
        self._sent: Any = WeakTensorKeyDictionary()  # a tensor that is sent to several parties is coded once

    def crossings(self, own: Mapping[str, Crossing]) -> Mapping[str, Crossing]:
        return {**self._verbs, **own} if own else self._verbs

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None) -> Any:
        codec = self._codecs.get(kind)
        if codec is None or source == destination:
            return value

        def leaf_leaves(leaf: Any, name: str) -> Any:
            if isinstance(leaf, Tensor):
                return self._coded(codec, leaf, Passage(source, destination, kind, step, name))
            return CodedSize(leaf, sum(coded_bytes(codec, *each) or _raw_bytes(*each) for each in leaf.leaves()))

        return _map_leaves(leaf_leaves, value, _is_leaf)

    def arriving(self, source: str, destination: str, value: Any, num_bytes: int) -> Any:
        if num_bytes and source != destination:
            for tap in self._taps:
                tap.arrived(source, destination, value, num_bytes)
        super().arriving(source, destination, value, num_bytes)

        def leaf_arrives(leaf: Any, name: str) -> Any:
            return leaf.size if isinstance(leaf, CodedSize) else self._decoded(leaf, source, destination, name)

        return _map_leaves(leaf_arrives, value, _is_coded) if self._codecs else value

    def _coded(self, codec: Codec, leaf: Tensor, at: Passage) -> Coded | Tensor:
        if leaf.is_inference():  # it has no version counter that would show a change
            return coded(codec, leaf, at) or leaf
        as_it_is = at.kind, leaf._version
        known = self._sent.get(leaf)
        if known is None or known[0] != as_it_is:
            known = self._sent[leaf] = as_it_is, coded(codec, leaf, at)
        return known[1] or leaf

    def _decoded(self, leaf: Coded, source: str, destination: str, name: str) -> Tensor:
        header = unpacked(leaf.header)
        codec = self._codecs.get(header.kind)
        if codec is None or codec.number != header.codec:
            raise ValueError(
                f"{source} sent {header.kind} with codec {header.codec} and {destination} decodes with "
                f"{'none' if codec is None else codec.number}; configure the same links at both ends"
            )
        return decoded(codec, leaf, Passage(source, destination, header.kind, None, name))


def make_link(rules: LinkRules, network: Network | None = None) -> Link:
    """Return the link for these rules: a plain `Link` if they have no codecs and no taps."""
    return CodingLink(rules, network) if rules.codecs or rules.taps else Link(network)


def own_crossings(rules: LinkRules, build: Callable[..., Any]) -> Mapping[str, Crossing]:
    """Return the verbs that a party's class declares, or none if no codec is used."""
    return declared(build) if rules.codecs else {}


def arguments_leaving(
    link: Link, crossing: Crossing, caller: str, party: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Encode the arguments of a call; promises among them are encoded by the party that computes their values."""
    step = crossing.step_of(args, kwargs)
    return (
        tuple([link.leaving(caller, party, v, crossing.positional(i), step) for i, v in enumerate(args)]),
        {name: link.leaving(caller, party, v, crossing.named(name), step) for name, v in kwargs.items()},
    )


def coded_bytes(codec: Codec, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
    """Return the bytes of a coded tensor with its header, or None if tensors of this shape are not coded."""
    if dtype not in DTYPES or prod(shape) < MIN_VALUES:
        return None
    payload_bytes = codec.size(shape, dtype)
    num_bytes = header_bytes(len(shape)) + payload_bytes
    return num_bytes if num_bytes < _raw_bytes(shape, dtype) and payload_bytes <= MAX_PAYLOAD_BYTES else None


def coded(codec: Codec, leaf: Tensor, at: Passage) -> Coded | None:
    """Return the coded tensor, or None if it is sent unchanged: integer, small, not finite, or no smaller if coded."""
    num_bytes = coded_bytes(codec, tuple(leaf.shape), leaf.dtype)
    if num_bytes is None:
        return None
    leaf = leaf.detach().cpu()
    if not all(map(torch.isfinite, torch.aminmax(leaf))):  # unchanged, so that the receiver can report the sender
        return None
    channels_last = leaf.dim() == 4 and not leaf.is_contiguous()
    channels_last = channels_last and leaf.is_contiguous(memory_format=torch.channels_last)
    arrays = codec.encode(leaf.contiguous(), at)
    payload_bytes = sum(array.nbytes for array in arrays)
    header = Header(codec.number, at.kind, leaf.dtype, tuple(leaf.shape), payload_bytes, channels_last)
    sent = Coded(header.packed(), arrays)
    if sent.num_bytes != num_bytes:
        found = f"{type(codec).__name__}.encode made {payload_bytes} bytes of a tensor of shape {list(leaf.shape)}"
        raise ValueError(f"{found} and size gave {codec.size(tuple(leaf.shape), leaf.dtype)}; make them equal")
    return sent


def decoded(codec: Codec, sent: Coded, at: Passage) -> Tensor:
    """Return the decoded tensor in its original type, shape and memory format."""
    header = unpacked(sent.header)
    leaf = codec.decode(sent.arrays, header.shape, header.dtype, at)
    return leaf.contiguous(memory_format=torch.channels_last) if header.channels_last else leaf


def _raw_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _is_leaf(value: Any) -> bool:
    """Return whether a value is a tensor, or a simulated size of tensors, which has ``leaves``."""
    return isinstance(value, Tensor) or hasattr(type(value), "leaves")


def _is_coded(value: Any) -> bool:
    return isinstance(value, Coded | CodedSize)


def _map_leaves(function: Callable[[Any, str], Any], value: Any, is_leaf: Callable[[Any], bool], name: str = "") -> Any:
    """Apply a function to leaves and their names in nested tuples, lists and mappings; other values pass through."""
    if is_leaf(value):
        return function(value, name)
    prefix = f"{name}/" if name else ""
    if isinstance(value, tuple):
        items = [_map_leaves(function, item, is_leaf, f"{prefix}{i}") for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [_map_leaves(function, item, is_leaf, f"{prefix}{i}") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _map_leaves(function, item, is_leaf, f"{prefix}{key}") for key, item in value.items()}
    return value
