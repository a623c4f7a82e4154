"""Checks of codecs against the rest of a run, before any party is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from raysplit.actors.expecting.forms import crossing
from raysplit.actors.parts.stage import PartRecipe
from raysplit.cluster.arriving.forms import ANY
from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.linear import C3
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.memory import Remembered, Skip
from raysplit.cluster.codecs.product import ProductQuantization
from raysplit.cluster.codecs.sparse import TopK
from raysplit.cluster.codecs.weights import STC, Feedback, PowerSGD
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules
from raysplit.data.transforms import draws
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import ReliabilityRules
from raysplit.models.spec import ModelSpec
from raysplit.registry import few, nearest, number_of

if TYPE_CHECKING:
    from raysplit.algorithms.base import Algorithm
    from raysplit.algorithms.setting import Cut


def check_links(links: LinkOptions, rules: ReliabilityRules, batch_size: int) -> None:
    """Refuse codecs that do not fit the rules of a run. Raises ``ValueError``."""
    found = links.link_rules()
    for kind, codec in found.all_codecs:
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
    to_owners = [rule.codec for rule in found.singles if rule.source == "aggregator"]
    codecs = [codec for kind, codec in found.all_codecs if kind == "weights" and codec not in to_owners]
    if rules.late == "merge" and any(codec.lossy for codec in codecs):
        raise ValueError(
            "links.weights codes differences to the weights of the round, which are gone when a late update is "
            "merged; set reliability.late to drop, or use a lossless codec such as zstd"
        )


def check_parties(links: LinkOptions, algorithm: Algorithm) -> None:
    """Refuse codecs that do not fit the parties and the data of a run. Raises ``ValueError``."""
    rules = links.link_rules()
    if rules.is_plain:
        return
    _check_senders(rules, algorithm)
    _check_words(rules, algorithm)
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


def _check_senders(rules: LinkRules, algorithm: Algorithm) -> None:
    """Refuse rules that no party follows, and codecs of differences for parties that send no differences."""
    parties = {party.name: party.role for party in algorithm.parties()} if rules.singles else {}
    taken: dict[tuple[str, Kind], str] = {}
    for single in rules.singles:
        senders = [name for name in parties if fnmatchcase(name, single.source)]
        if not senders:
            raise ValueError(
                f"links.rules: no party fits from: {single.source}{nearest(single.source, parties)} "
                f"(the run has {few(parties, 8)})"
            )
        earlier = [taken[name, single.kind] for name in senders if (name, single.kind) in taken]
        if len(earlier) == len(senders):
            raise ValueError(
                f"links.rules: {single.kind} from {single.source} have a codec by an earlier rule already, from: "
                f"{earlier[0]}, and the first that fits counts; leave one of the two out, or put the narrower one first"
            )
        taken = {(name, single.kind): single.source for name in senders} | taken
        others = [name for name in senders if parties[name] != "owner"]
        if single.kind == "weights" and single.codec is not None and single.codec.needs_reference and others:
            plain = single.codec.codec if isinstance(single.codec, Feedback) else single.codec
            raise ValueError(
                f"links.rules: {type(plain).__name__} codes differences of weights, which only owners send, and from: "
                f"{single.source} fits {others[0]}; set from: owner-*"
            )


def _check_words(rules: LinkRules, algorithm: Algorithm) -> None:
    """Refuse codebooks with more words than the smallest batch has vectors, which would go as it is."""
    has_words = any(isinstance(part, ProductQuantization) for _, codec in rules.all_codecs for part in _parts(codec))
    if not has_words or not algorithm.placed_cuts or not isinstance(algorithm.setting.spec, ModelSpec):
        return
    owners: dict[Any, tuple[str, int]] = {}  # one of those whose batches and codecs are alike
    for name in algorithm.setting.owners:
        sizes = algorithm.local_training(name).batch_sizes(algorithm.setting.num_samples(name))
        rows = min(sizes[: algorithm.num_steps(name)], default=0)
        owners.setdefault((rows, rules.codec(name, "smashed"), rules.codec(name, "gradients")), (name, rows))
    for owner, rows in owners.values():
        for kind, sender, recipe in _sent_at_cuts(algorithm, owner):
            codec = rules.codec(sender, kind)
            for part in _parts(codec) if rows and codec is not None else ():
                shapes = [_of_rows(form.shape, rows) for form in crossing(recipe)]
                if isinstance(part, ProductQuantization):
                    _require_vectors(part, f"links.{kind}", owner, [shape for shape in shapes if ANY not in shape])


def _sent_at_cuts(algorithm: Algorithm, owner: str) -> Iterator[tuple[Kind, str, PartRecipe]]:
    """Yield what crosses each cut with its sender, and the recipe of the part behind the cut."""
    nodes = tuple(party.name for party in algorithm.parties() if party.role == "node")
    ways: list[tuple[tuple[Cut, ...], list[tuple[str, ...]]]] = [
        (route.cuts, [(owner,), *((name,) for name in route.node_names), (owner,)]) for route in algorithm.routes
    ]
    for cuts, chain in ways or [(algorithm.placed_cuts, [(owner,), nodes])]:
        for i, (before, after) in enumerate(pairwise(chain)):
            recipe = algorithm.recipe(i + 1, cuts=cuts)
            yield from (("smashed", name, recipe) for name in before)
            yield from (("gradients", name, recipe) for name in after)


def _of_rows(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """Return the shape of a form for so many rows."""
    return tuple(-size * rows if size < 0 and size != ANY else size for size in shape)


def _require_vectors(codec: ProductQuantization, key: str, owner: str, shapes: Sequence[tuple[int, ...]]) -> None:
    for shape in shapes:
        if (found := codec.num_vectors(shape)) < codec.words:
            raise ValueError(
                f"{key}: a codebook of {codec.words} words needs as many vectors, and the smallest batch of {owner}, "
                f"{number_of(shape[0], 'row')}, has {found} of {codec.sub} values; give at most {found} words, or "
                f"larger batches (training.batch_size, training.last_batch)"
            )


def _parts(codec: Codec) -> Iterator[Codec]:
    if isinstance(codec, Feedback):
        yield from _parts(codec.codec)
    elif isinstance(codec, Chain):
        yield from codec.codecs
    else:
        yield codec
