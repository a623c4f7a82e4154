"""The link: all that parties send one another leaves through it and arrives through it, on every cluster.

``leaving`` makes of a value what crosses: its tensors, coded. ``arriving`` counts the bytes that came, shows the value
to whoever watches, and gives it back as it was before it left. Nothing else counts bytes. Every process has one
`Link`; the handles of a cluster, in whatever way they carry calls, send arguments and answers through it.

By default, values go as they are and are counted. What works on values is described by `LinkRules`, and every such
thing is a class: a `Codec` by kind of value, a `Tap` that watches. A codec that keeps something from one value to the
next keeps it by the keys of its `Passage`, in the process of the party that it belongs to.
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
"""A tensor of fewer values is not coded."""


class Tap(Protocol):
    """Sees every value that is counted, as it crosses: coded where it is coded, and not to be changed.

    On Ray every place has a copy of its own, which sees what arrives there.
    """

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """What works on the values that cross; the same for all links of a run.

    Attributes:
        codecs: by kind of value; a kind without one goes as it is.
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
    """Where values leave and arrive in one process, as they are.

    Args:
        network: of an emulated run: what transfers take.
    """

    def __init__(self, network: Network | None = None) -> None:
        self.network = network
        self._carried: dict[tuple[str, str], list[int]] = {}  # bytes and messages by link

    def crossings(self, own: Mapping[str, Crossing]) -> Mapping[str, Crossing]:
        """The verbs of a party that carry something to be coded; ``own`` are those that its class declares."""
        return {}

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None) -> Any:
        """What crosses in the place of a value; ``destination`` is empty for an answer."""
        return value

    def arriving(self, source: str, destination: str, value: Any, num_bytes: int) -> Any:
        """The value that left, after so many bytes of it have come. A party's calls to itself are not counted."""
        if num_bytes and source != destination:
            ends = source, destination
            carried = self._carried.get(ends)
            if carried is None:
                carried = self._carried[ends] = [0, 0]
            carried[0] += num_bytes
            carried[1] += 1
        return value

    def traffic(self) -> list[LinkTraffic]:
        """What has arrived here so far, sorted by source and destination."""
        return [
            LinkTraffic(source=source, destination=destination, num_bytes=num_bytes, num_messages=num_messages)
            for (source, destination), (num_bytes, num_messages) in sorted(self._carried.items())
        ]


class CodingLink(Link):
    """A link on which something works, as its rules say."""

    def __init__(self, rules: LinkRules, network: Network | None = None) -> None:
        super().__init__(network)
        self._codecs = dict(rules.codecs)
        self._verbs = {verb: found for verb, found in VERBS.items() if found.kinds & self._codecs.keys()}
        self._taps = rules.taps
        self._sent: Any = WeakTensorKeyDictionary()  # a tensor that goes to several is coded once

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
        if leaf.is_inference():  # which does not tell whether it was changed
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
                f"{source} sent {header.kind} in codec {header.codec} and {destination} reads "
                f"{'none' if codec is None else codec.number}; give both ends the same links"
            )
        return decoded(codec, leaf, Passage(source, destination, header.kind, None, name))


def make_link(rules: LinkRules, network: Network | None = None) -> Link:
    """The link of these rules; one that only counts where they leave values as they are."""
    return CodingLink(rules, network) if rules.codecs or rules.taps else Link(network)


def own_crossings(rules: LinkRules, build: Callable[..., Any]) -> Mapping[str, Crossing]:
    """What the class of a party declares of its verbs; nothing where nobody asks."""
    return declared(build) if rules.codecs else {}


def arguments_leaving(
    link: Link, crossing: Crossing, caller: str, party: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as they cross; promises among them were coded by who makes their values."""
    step = crossing.step_of(args, kwargs)
    return (
        tuple([link.leaving(caller, party, v, crossing.positional(i), step) for i, v in enumerate(args)]),
        {name: link.leaving(caller, party, v, crossing.named(name), step) for name, v in kwargs.items()},
    )


def coded_bytes(codec: Codec, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
    """What a tensor of this shape weighs coded, its header included; None where it is not coded."""
    if dtype not in DTYPES or prod(shape) < MIN_VALUES:
        return None
    payload_bytes = codec.size(shape, dtype)
    num_bytes = header_bytes(len(shape)) + payload_bytes
    return num_bytes if num_bytes < _raw_bytes(shape, dtype) and payload_bytes <= MAX_PAYLOAD_BYTES else None


def coded(codec: Codec, leaf: Tensor, at: Passage) -> Coded | None:
    """The coded tensor; None for one that goes as it is: of integers, small, not finite, or no smaller if coded."""
    num_bytes = coded_bytes(codec, tuple(leaf.shape), leaf.dtype)
    if num_bytes is None:
        return None
    leaf = leaf.detach().cpu()
    if not all(map(torch.isfinite, torch.aminmax(leaf))):  # so that whoever made it can be named
        return None
    channels_last = leaf.dim() == 4 and not leaf.is_contiguous()
    channels_last = channels_last and leaf.is_contiguous(memory_format=torch.channels_last)
    arrays = codec.encode(leaf.contiguous(), at)
    payload_bytes = sum(array.nbytes for array in arrays)
    header = Header(codec.number, at.kind, leaf.dtype, tuple(leaf.shape), payload_bytes, channels_last)
    sent = Coded(header.packed(), arrays)
    if sent.num_bytes != num_bytes:
        told = f"{type(codec).__name__} made {payload_bytes} bytes of a tensor {list(leaf.shape)}"
        raise ValueError(f"{told}, and its size says {codec.size(tuple(leaf.shape), leaf.dtype)}; make them equal")
    return sent


def decoded(codec: Codec, sent: Coded, at: Passage) -> Tensor:
    """The tensor, in the type, shape and memory order that it had."""
    header = unpacked(sent.header)
    leaf = codec.decode(sent.arrays, header.shape, header.dtype, at)
    return leaf.contiguous(memory_format=torch.channels_last) if header.channels_last else leaf


def _raw_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _is_leaf(value: Any) -> bool:
    """A tensor, or the size of one, which has ``leaves``."""
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
