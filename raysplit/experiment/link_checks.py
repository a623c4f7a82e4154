"""Checks of codecs against the rest of a run, before any party is made."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.linear import C3
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.memory import Remembered, Skip
from raysplit.cluster.codecs.sparse import TopK
from raysplit.cluster.codecs.weights import STC, Feedback, PowerSGD
from raysplit.data.transforms import draws
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import ReliabilityRules
from raysplit.registry import nearest

if TYPE_CHECKING:
    from raysplit.algorithms.base import Algorithm


def check_links(links: LinkOptions, rules: ReliabilityRules, batch_size: int) -> None:
    """Refuse codecs that do not fit the rules of a run. Raises ``ValueError``."""
    for kind, codec in links.link_rules().all_codecs:
        for part in _parts(codec):
            name = type(part).__name__
            if isinstance(part, C3) and part.rows > batch_size:
                raise ValueError(
                    f"links.{kind}: C3 adds up {part.rows} rows and a batch has {batch_size}; give at most {batch_size}"
                )
            if kind == "weights" and isinstance(part, TopK | STC | PowerSGD) and rules.aggregation != "mean":
                raise ValueError(
                    f"links.{kind}: {name} sends few of the values, and reliability.aggregation: {rules.aggregation} "
                    f"compares all of them; use int8, or aggregation: mean"
                )
        if kind == "weights" and codec.lossy and rules.late == "merge":
            raise ValueError(
                "links.weights codes differences to the weights of the round, which are gone when a late update is "
                "merged; set reliability.late to drop, or use a lossless codec such as zstd"
            )


def check_parties(links: LinkOptions, algorithm: Algorithm) -> None:
    """Refuse codecs that do not fit the parties and the data of a run. Raises ``ValueError``."""
    rules = links.link_rules()
    if rules.is_plain:
        return
    names = [party.name for party in algorithm.parties()] if rules.singles else []
    for single in rules.singles:
        if not any(fnmatchcase(name, single.source) for name in names):
            raise ValueError(
                f"links.rules: no party fits from: {single.source}{nearest(single.source, names)} "
                f"(the run has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
            )
    remembering = [codec for _, codec in rules.all_codecs if isinstance(codec, Remembered | Skip)]
    if not remembering:
        return
    for name, data in algorithm.setting.owners.items():
        if draws(data.transform):
            raise ValueError(
                f"links.smashed: {remembering[0]!r} needs a sample to look the same at every visit, and the transform "
                f"of {name} is random; set data.augment=false, or use another codec"
            )
    nodes = [node for route in algorithm.routes for node in route.node_names]
    for node in nodes:
        if isinstance(rules.codec(node, "smashed"), Remembered | Skip):
            raise ValueError(
                f"links.smashed: {remembering[0]!r} needs the numbers of the samples, which {node} does not know; give "
                f"it to owners alone: rules: [{{from: owner-*, kind: smashed, codec: ...}}]"
            )


def _parts(codec: Codec) -> Iterator[Codec]:
    if isinstance(codec, Feedback):
        yield from _parts(codec.codec)
    elif isinstance(codec, Chain):
        yield from codec.codecs
    else:
        yield codec
