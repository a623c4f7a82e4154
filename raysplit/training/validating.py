"""Evaluation of the models of a run on the samples that owners set aside, by which rates and rounds are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.at_cuts import AtCuts
from raysplit.actors.verbs import DomainEvaluatorHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import Promise, gather
from raysplit.training.metrics import Row, tested


async def validated(
    algorithm: Algorithm, models: Mapping[str, Sequence[Promise[Weights]]], at_cuts: AtCuts | None
) -> Row:
    """Return the columns ``val_loss``, ``val_accuracy`` and so on; empty where owners set nothing aside.

    Every model is evaluated on the samples of its own owners, and the figures are the means over the owners, alike for
    models of all owners and of single ones.

    Args:
        algorithm: the algorithm, attached to its parties.
        models: the promised states of each model by label, as `Algorithm.models` returns them.
        at_cuts: codecs at the cuts of the models; None evaluates them without.
    """
    setting = algorithm.setting
    held = {party.name: [domain.owner for domain in party.arguments["domains"]] for party in setting.own_validators}
    if not held:
        return {}
    asked: list[Promise[Evaluation]] = []
    for label, states in models.items():
        served = set(algorithm.owners_of(label))
        for name, owners in held.items():
            own = [owner for owner in owners if owner in served]
            handle: DomainEvaluatorHandle = algorithm.handles[name]
            if own:
                asked.append(handle.evaluate(*states, spec=algorithm.spec_of(label), at_cuts=at_cuts, owners=own))
    by_owner: dict[str, list[Evaluation]] = {name: [] for name in setting.owners}
    for found in await gather(*asked):
        for owner, evaluation in found.by_domain.items():
            by_owner[owner].append(evaluation)
    row = tested([evaluation for own in by_owner.values() for evaluation in own], setting.task)
    return {f"val_{name.removeprefix('test_')}": row[name] for name in row if name.startswith("test_")}
