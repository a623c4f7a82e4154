"""The codec of each link that makes the predicted round shortest within a budget of error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import inf, prod
from typing import Any

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.codecs import IDENTITY, codec_for
from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules, SingleRule
from raysplit.experiment.codec_costs import CodecCost, CodecCosts
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.machines import interface, party_devices
from raysplit.prediction.simulate import simulate

CANDIDATES: tuple[Any, ...] = (IDENTITY, "bfloat16", "int8", "int4", ["int8", "zstd"], ["int4", "zstd"])
"""The codecs among which is chosen, as they are written in YAML."""
_MOST_EXHAUSTIVE = 216  # predictions; three links of six codecs
_S_TO_MS = 1e3


@dataclass(frozen=True, kw_only=True)
class CutLink:
    """What crosses one cut in one direction.

    Attributes:
        sender, receiver: the parties; owners are ``owner-*``.
        kind: ``smashed`` or ``gradients``.
        cut: number of the cut, counted from 0.
        bytes_per_s: rate of the link.
    """

    sender: str
    receiver: str
    kind: Kind
    cut: int
    bytes_per_s: float = inf


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The codec of one link.

    Attributes:
        link: the link.
        codec: the codec as it is written in YAML.
        cost: its measured cost; None for ``identity``.
        raw_bytes: bytes of a batch without a codec.
    """

    link: CutLink
    codec: Any
    cost: CodecCost | None
    raw_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes of a batch with the codec."""
        return self.raw_bytes if self.cost is None else self.cost.coded_bytes

    @property
    def error(self) -> float:
        """Relative squared error of the codec."""
        return 0.0 if self.cost is None else self.cost.error

    @property
    def plain_ms(self) -> float:
        """Milliseconds of a batch on the link without a codec."""
        return _S_TO_MS * self.raw_bytes / self.link.bytes_per_s

    @property
    def coded_ms(self) -> float:
        """Milliseconds of a batch on the link with the codec, encoding and decoding included."""
        return _S_TO_MS * self.num_bytes / self.link.bytes_per_s + (self.cost.coding_ms if self.cost else 0.0)


@dataclass(frozen=True, kw_only=True)
class CodecPlan:
    """The chosen codecs.

    Attributes:
        choices: the codec of each link.
        round_s: predicted length of a round with them.
        plain_round_s: predicted length of a round without codecs.
        num_predictions: number of rounds that were predicted.
    """

    choices: tuple[Choice, ...]
    round_s: float
    plain_round_s: float
    num_predictions: int

    def links(self) -> dict[str, Any]:
        """Return the ``links`` section that has these codecs."""
        section: dict[str, Any] = {}
        rules = []
        for kind in ("smashed", "gradients"):
            of_kind = [choice for choice in self.choices if choice.link.kind == kind]
            if len({repr(choice.codec) for choice in of_kind}) == 1:
                section[kind] = of_kind[0].codec
            else:
                rules += [{"from": c.link.sender, "kind": kind, "codec": c.codec} for c in of_kind]
        section = {kind: codec for kind, codec in section.items() if codec != IDENTITY}
        return section | ({"rules": rules} if rules else {})


def choose_codecs(
    experiment: Experiment, costs: CodecCosts, *, budget_z: float = 0.01, budget_g: float = 0.1
) -> CodecPlan:
    """Choose the codec of each link between parts.

    Up to three links, all combinations are predicted; for more, single codecs are changed, beginning with none, until
    nothing improves. Of equal times the one with less error is taken.

    Args:
        experiment: the experiment, with a topology and given cuts.
        costs: measured costs of the candidates at these cuts.
        budget_z, budget_g: largest sum over all cuts of the relative squared errors of smashed data and of gradients.

    Raises:
        ValueError: the algorithm has no cuts, or the costs are of other cuts.
    """
    links = cut_links(experiment)
    options = [_options(link, costs) for link in links]
    budgets: Mapping[Kind, float] = {"smashed": budget_z, "gradients": budget_g}

    def is_admissible(choices: Sequence[Choice]) -> bool:
        return all(sum(c.error for c in choices if c.link.kind == kind) <= most for kind, most in budgets.items())

    predicted: dict[str, float] = {}

    def round_s(choices: Sequence[Choice]) -> float:
        key = repr([choice.codec for choice in choices])
        if key not in predicted:
            predicted[key] = simulate(experiment, links=_rules(experiment, choices), costs=costs).round_s[0]
        return predicted[key]

    plain = tuple(each[0] for each in options)
    best = (
        _exhaustive(options, round_s, is_admissible)
        if prod(map(len, options)) <= _MOST_EXHAUSTIVE
        else _descent(plain, options, round_s, is_admissible)
    )
    return CodecPlan(choices=best, round_s=round_s(best), plain_round_s=round_s(plain), num_predictions=len(predicted))


def cut_links(experiment: Experiment) -> list[CutLink]:
    """Return what crosses the cuts of an experiment, forward and back. Raises ``ValueError`` if it has no cuts."""
    algorithm = experiment.algorithm.bound(experiment.setting)
    if not algorithm.cuts:
        raise ValueError(
            f"algorithm.name is {experiment.method}, which cuts no model, so nothing but weights crosses its links; "
            f"raysplit codecs shows the codecs of weights"
        )
    chain = _chain(algorithm)
    rates = _rates(experiment, algorithm)
    links = []
    for cut, (before, after) in enumerate(pairwise(chain)):
        there, back = rates(before, after), rates(after, before)
        links.append(CutLink(sender=before, receiver=after, kind="smashed", cut=cut, bytes_per_s=there))
        links.append(CutLink(sender=after, receiver=before, kind="gradients", cut=cut, bytes_per_s=back))
    return links


def _chain(algorithm: Algorithm) -> list[str]:
    if algorithm.routes:
        return ["owner-*", *algorithm.routes[0].node_names, "owner-*"]
    return ["owner-*", next(party.name for party in algorithm.parties() if party.role == "node")]


def _rates(experiment: Experiment, algorithm: Algorithm) -> Callable[[str, str], float]:
    topology = experiment.required_topology
    devices = party_devices(topology, algorithm.parties())
    owner = next(iter(algorithm.setting.owners))

    def rate(sender: str, receiver: str) -> float:
        ends = [interface(topology.devices[devices[owner if end == "owner-*" else end]]) for end in (sender, receiver)]
        return min(ends[0].up_bytes_per_s, ends[1].down_bytes_per_s)

    return rate


def _options(link: CutLink, costs: CodecCosts) -> list[Choice]:
    measured = [cost for cost in costs.costs if (cost.kind, cost.cut) == (link.kind, link.cut)]
    if not measured:
        raise ValueError(
            f"the measured codecs are of cuts {list(costs.cuts)} and have none for cut {link.cut + 1} of this run; "
            f"measure them again with raysplit codecs --output"
        )
    found = [Choice(link=link, codec=IDENTITY, cost=None, raw_bytes=measured[0].raw_bytes)]
    for text in CANDIDATES[1:]:
        codec = codec_for(link.kind, text)
        assert codec is not None
        cost = costs.of(link.kind, codec, link.cut)
        found.append(Choice(link=link, codec=text, cost=cost, raw_bytes=cost.raw_bytes))
    return found


def _rules(experiment: Experiment, choices: Sequence[Choice]) -> LinkRules:
    singles = [
        SingleRule(
            source=choice.link.sender,
            kind=choice.link.kind,
            codec=codec_for(choice.link.kind, choice.codec),
            expected=choice.cost.share if choice.cost is not None else 1.0,
        )
        for choice in choices
    ]
    given = experiment.link_rules()
    codecs: dict[Kind, Codec] = {kind: codec for kind, codec in given.codecs.items() if kind == "weights"}
    return replace(given, codecs=codecs, singles=tuple(singles), warmup_rounds=0)


def _exhaustive(
    options: Sequence[Sequence[Choice]],
    round_s: Callable[[Sequence[Choice]], float],
    is_admissible: Callable[[Sequence[Choice]], bool],
) -> tuple[Choice, ...]:
    return min(filter(is_admissible, product(*options)), key=lambda choices: (round_s(choices), _loss(choices)))


def _descent(
    start: tuple[Choice, ...],
    options: Sequence[Sequence[Choice]],
    round_s: Callable[[Sequence[Choice]], float],
    is_admissible: Callable[[Sequence[Choice]], bool],
) -> tuple[Choice, ...]:
    best, improved = start, True
    while improved:
        improved = False
        for i, of_link in enumerate(options):
            changed = [(*best[:i], choice, *best[i + 1 :]) for choice in of_link]
            better = min(filter(is_admissible, changed), key=lambda choices: (round_s(choices), _loss(choices)))
            if (round_s(better), _loss(better)) < (round_s(best), _loss(best)):
                best, improved = better, True
    return best


def _loss(choices: Sequence[Choice]) -> float:
    return sum(choice.error for choice in choices)
