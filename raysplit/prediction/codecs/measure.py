"""Error, bytes and time of codecs on what crosses the cuts of a model."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from raysplit.cluster.codecs import IDENTITY, codec_for
from raysplit.cluster.codecs.adaptive import Adaptive, Kept
from raysplit.cluster.codecs.codec import Codec, Memory, Passage
from raysplit.cluster.codecs.linear import C3
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.sparse import Selected
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.links.coding import coded, coded_bytes, decoded, raw_bytes
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules
from raysplit.experiment.codec_costs import CodecCost, CodecCosts
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.codecs.crossing import Crossing, crossings
from raysplit.seeding import one_thread

_Choose = Callable[[Sequence[Passage]], None]

_BATCHES = (
    "float16",
    "bfloat16",
    "float8",
    {"codec": "int8", "by": "tensor"},
    "int8",
    ["int8", "zstd"],
    {"codec": "int4", "by": "tensor"},
    "int4",
    ["int4", "zstd"],
    {"codec": "int4", "bits": "adaptive"},
    {"codec": "int2", "by": "tile"},
    ["bitmap", "int8"],
    "top_k",
    "rand_top_k",
    "c3",
    "project",
    "product_quantization",
    "zstd",
)
_WEIGHTS = (
    "float16",
    "bfloat16",
    "int8",
    "int4",
    {"codec": "top_k", "ratio": 0.01},
    "stc",
    "power_sgd",
    "zstd",
)
CANDIDATES: Mapping[Kind, Sequence[Any]] = {"smashed": _BATCHES, "gradients": _BATCHES, "weights": _WEIGHTS}
"""The codecs that are measured for each kind, as they are written in YAML."""


def measure_codecs(
    experiment: Experiment, *, steps: int = 200, repeats: int = 7, device: str | None = None
) -> CodecCosts:
    """Measure codecs, and those of the configuration, on the experiment's own model and data.

    Args:
        experiment: the experiment.
        steps: number of training steps before the values are taken.
        repeats: number of timed repetitions, of which the median is taken.
        device: name of this machine; by default its host name.

    Raises:
        ValueError: for an experiment that cannot be built.
    """
    with one_thread():
        found, rules = crossings(experiment, steps=steps), experiment.link_rules()
        costs = [
            _cost(crossing, text, codec, repeats, seed=experiment.seed, choose=_chooser(codec, crossing, found, rules))
            for crossing in found
            for text, codec in _codecs(experiment, crossing)
        ]
    return CodecCosts(
        device=device or platform.node(),
        model=experiment.setting.spec.name,
        cuts=tuple(experiment.algorithm.bound(experiment.setting).placed_cuts),
        batch_size=experiment.batch_size,
        costs=tuple(costs),
    )


def _codecs(experiment: Experiment, crossing: Crossing) -> list[tuple[Any, Codec]]:
    """Return the codecs to measure for a kind: the candidates, and those that the run has."""
    kind, found = crossing.kind, dict[str, tuple[Any, Codec]]()
    configured = [rule.codec for rule in experiment.links.rules if rule.kind == kind]
    for text in (*CANDIDATES[kind], getattr(experiment.links, kind), *configured):
        codec = codec_for(kind, text) if text != IDENTITY else None
        if codec is None or (codec.keeps_state and not isinstance(codec, Feedback)):
            continue  # what remembers samples cannot be measured on one batch
        codec = codec.codec if isinstance(codec, Feedback) else codec
        if not any(isinstance(part, C3) and part.rows > experiment.batch_size for part in _parts(codec)):
            found.setdefault(repr(codec), (text, codec))
    for of, chosen in experiment.link_rules().all_codecs:
        if of == kind and any(isinstance(part, Selected | Kept) for part in _parts(chosen)):
            found[repr(chosen)] = "through", chosen
    return list(found.values())


def _parts(codec: Codec) -> Sequence[Codec]:
    return codec.codecs if isinstance(codec, Chain) else (codec,)


def _cost(crossing: Crossing, text: Any, codec: Codec, repeats: int, *, seed: int, choose: _Choose) -> CodecCost:
    encode_s, decode_s = [], []
    for _ in range(1 + repeats):
        memory = Memory()
        passages = [
            Passage("owner-0", "", crossing.kind, None, str(i), i, seed, memory) for i in range(len(crossing.tensors))
        ]
        choose(passages)
        began_s = time.perf_counter()
        sent = [coded(codec, t, at) for t, at in zip(crossing.tensors, passages, strict=True)]
        encoded_s = time.perf_counter()
        back = [
            tensor if each is None else decoded(codec, each, at)
            for each, tensor, at in zip(sent, crossing.tensors, passages, strict=True)
        ]
        decode_s.append(time.perf_counter() - encoded_s)
        encode_s.append(encoded_s - began_s)
    pairs = [*zip(sent, crossing.tensors, strict=True)]
    coded_size = sum(tensor.nbytes if each is None else each.num_bytes for each, tensor in pairs)
    most = sum(coded_bytes(codec, tuple(t.shape), t.dtype) or raw_bytes(tuple(t.shape), t.dtype) for _, t in pairs)
    x = torch.cat([tensor.reshape(-1).double() for tensor in crossing.tensors])
    y = torch.cat([tensor.reshape(-1).double() for tensor in back])
    squares = float(x @ x)
    norms = (squares * float(y @ y)) ** 0.5
    mib = max(crossing.num_bytes, 1) / 2**20
    return CodecCost(
        kind=crossing.kind,
        cut=crossing.cut,
        codec=text,
        name=repr(codec),
        raw_bytes=crossing.num_bytes,
        coded_bytes=coded_size,
        share=coded_size / max(most, 1),
        error=float((y - x) @ (y - x)) / squares if squares else 0.0,
        cosine=float(x @ y) / norms if norms else 1.0,
        encode_ms_per_mib=1e3 * statistics.median(encode_s[1:]) / mib,
        decode_ms_per_mib=1e3 * statistics.median(decode_s[1:]) / mib,
    )


def _chooser(codec: Codec, crossing: Crossing, found: Sequence[Crossing], rules: LinkRules) -> _Choose:
    """Return what lets a codec of gradients know which of the smashed data crossed in the step."""
    chosen: list[Any] = [part for part in _parts(codec) if isinstance(part, Selected)]
    values = crossing.tensors
    if any(isinstance(part, Kept) for part in _parts(codec)):
        forth = [part for kind, each in rules.all_codecs if kind == "smashed" for part in _parts(each)]
        chosen = [part for part in forth if isinstance(part, Adaptive)]
        values = next(each.tensors for each in found if (each.kind, each.cut) == ("smashed", crossing.cut))

    def choose(passages: Sequence[Passage]) -> None:
        for at, tensor in zip(passages, values, strict=False) if chosen else ():
            chosen[0].choose(tensor, at)

    return choose
