"""Evaluation of the models of a run: on everybody's test samples, and owner by owner.

A model of all owners is evaluated once on everybody's samples, and its sums are divided by owner where it is known
whose samples they are. A model of some owners alone, such as a personal one, is evaluated by these owners on their own
samples; where no owner has samples of its own, on everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.at_cuts import AtCuts
from raysplit.actors.verbs import EvaluatorHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import OwnerData
from raysplit.cluster.contract import Promise, gather
from raysplit.cluster.links.at_cut import CodecAtCut
from raysplit.experiment.experiment import Experiment
from raysplit.guards.noise.smashed import GuardAtCut

Side = Literal["all", "own"]
"""Whose test samples a model is evaluated on: everybody's, or those of its own owners."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Evaluations of the models of a run.

    Attributes:
        evaluations: those whose mean is the result: one per model, or one per model and owner.
        by_owner: by owner, those of the models that serve it, on its own samples; empty where nobody knows whose
            samples they are.
        on: whose samples the result is of; ``own`` is the mean over the owners, each on its own.
    """

    evaluations: tuple[Evaluation, ...]
    by_owner: Mapping[str, tuple[Evaluation, ...]] = field(default_factory=dict)
    on: Side = "all"


async def evaluated(
    algorithm: Algorithm,
    models: Mapping[str, Sequence[Promise[Weights]]],
    owners: Mapping[str, OwnerData],
    at_cuts: AtCuts | None = None,
) -> Tested:
    """Evaluate models of an algorithm.

    Where some owners have test samples of their own, a model whose owners have none is left out.

    Args:
        algorithm: the algorithm, attached to its parties.
        models: the promised states of each model by label, as `Algorithm.models` returns them.
        owners: the owners of the run, whose order sums follow.
        at_cuts: codecs at the cuts of the models; None evaluates them without.
    """
    given = {} if at_cuts is None else {"at_cuts": at_cuts}  # classes of one's own need not know it
    testers = {label: _testers(algorithm, label) for label in models}
    known = any(testers.values()) and any(data.test is not None for data in owners.values())
    found: list[tuple[Side, tuple[Evaluation, ...], Mapping[str, Evaluation]]] = []
    for label, states in models.items():
        pooled = algorithm.setting.tests_at_owners and _is_everybodys(algorithm, label)
        if testers[label]:
            found.append(await _at_owners(algorithm, testers[label], states, given, pooled=pooled))
        elif not known or _is_everybodys(algorithm, label):
            found.append(await _by_evaluators(algorithm, label, states, list(owners), given))
    by_owner: dict[str, tuple[Evaluation, ...]] = {}
    for _, _, own in found:
        for name, evaluation in own.items():
            by_owner[name] = (*by_owner.get(name, ()), evaluation)
    sides = {side for side, _, _ in found}
    return Tested(
        evaluations=tuple(evaluation for _, results, _ in found for evaluation in results),
        by_owner={name: by_owner[name] for name in owners if name in by_owner},
        on="own" if sides == {"own"} else "all",
    )


def _is_everybodys(algorithm: Algorithm, label: str) -> bool:
    return set(algorithm.owners_of(label)) == set(algorithm.setting.owners)


def _testers(algorithm: Algorithm, label: str) -> list[str]:
    """Return the owners that evaluate a model on their own samples."""
    setting = algorithm.setting
    if setting.evaluators and _is_everybodys(algorithm, label):
        return []
    return [n for n in algorithm.owners_of(label) if setting.owners[n].test is not None and n in algorithm.handles]


async def _at_owners(
    algorithm: Algorithm,
    names: Sequence[str],
    states: Sequence[Promise[Weights]],
    given: Mapping[str, Any],
    *,
    pooled: bool = False,
) -> tuple[Side, tuple[Evaluation, ...], Mapping[str, Evaluation]]:
    results = await gather(*[algorithm.owner(name).evaluate(*states, **given) for name in names])
    own = dict(zip(names, results, strict=True))
    if not pooled:
        return "own", tuple(results), own
    total, *others = results
    for part in others:
        total += part
    return "all", (total,), own


async def _by_evaluators(
    algorithm: Algorithm,
    label: str,
    states: Sequence[Promise[Weights]],
    owners: Sequence[str],
    given: Mapping[str, Any],
) -> tuple[Side, tuple[Evaluation, ...], Mapping[str, Evaluation]]:
    if not algorithm.setting.evaluators:
        raise ValueError(
            "there are no test samples to evaluate on; give Setting evaluators, or owners test samples of their own"
        )
    asked: list[EvaluatorHandle] = [algorithm.handles[party.name] for party in algorithm.setting.evaluators]
    total, *others = await gather(*[e.evaluate(*states, spec=algorithm.spec_of(label), **given) for e in asked])
    for part in others:
        total += part
    own = total.by_owner if _is_everybodys(algorithm, label) else {}
    if not total.by_domain:
        return "all", (total,), own
    seen = {name: total.by_domain[name] for name in owners if name in total.by_domain}
    are_own = all(name in own and own[name].num_samples == seen[name].num_samples for name in seen)
    return "own" if are_own else "all", tuple(seen.values()), own


def codecs_at_cuts(experiment: Experiment, algorithm: Algorithm) -> AtCuts | None:
    """Return the codecs and guards at the cuts of the evaluated model; None where none of them changes values."""
    cuts = algorithm.placed_cuts
    if not cuts or experiment.evaluation.links == "none":
        return None
    rules = experiment.link_rules()
    codecs = [rules.codec(maker, "smashed") for maker in _makers(algorithm)]
    seed = experiment.seed
    used = tuple(CodecAtCut(codec=codec, seed=seed) if codec is not None and codec.lossy else None for codec in codecs)
    privacy = experiment.setting.privacy
    guard = GuardAtCut(rules=privacy, seed=seed) if privacy.guards_smashed else None
    if guard is None and not any(used):
        return None
    return AtCuts(cuts=cuts, codecs=used, batch_size=experiment.batch_size, guard=guard)


def _makers(algorithm: Algorithm) -> list[str]:
    """Return the party that makes the smashed data at each cut."""
    owner = next(iter(algorithm.setting.owners))
    nodes = algorithm.routes[0].node_names if algorithm.routes else ()
    return [owner, *nodes, *[owner] * len(algorithm.cuts)][: len(algorithm.cuts)]
