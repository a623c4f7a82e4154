"""The parties that evaluate models on the test set of a run, and whose its samples are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from raysplit.actors.evaluation import Ownership
from raysplit.actors.evaluator import Domain, DomainEvaluator, Evaluator
from raysplit.algorithms.setting import OwnerData
from raysplit.cluster.contract import PartySpec
from raysplit.data.partition.by_label import Indices
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.spec import ModelSpec
from raysplit.seeding import derive
from raysplit.tasks import Task

logger = logging.getLogger(__name__)

NUM_EVALUATORS = 4
"""Number of evaluators that share the test set; the same for any number of places, so that sums are the same."""
MAX_DOMAIN_EVALUATORS = 16
"""Largest number of evaluators of owners with inputs of their own; sums by owner are the same for any number."""


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """How test samples are evaluated.

    Attributes:
        spec: the model of the run.
        loss: name or import path of the loss of samples with one label, or the task.
        seed: seed of the run.
    """

    spec: ModelSpec
    loss: str | Task
    seed: int


def evaluating_parties(
    kind: str,
    samples: Samples,
    *,
    owners: Mapping[str, OwnerData],
    transform: Transform,
    how: Evaluating,
    tests: Mapping[str, Indices] | None = None,
    drawn: bool = False,
) -> tuple[PartySpec, ...]:
    """Describe the parties that evaluate a model of all owners, each of its samples once for each way to see it.

    Args:
        kind: beginning of the names of the parties.
        samples: everybody's samples.
        owners: the data of each owner. Where the inputs of one differ from everybody's, the samples are evaluated as
            each owner sees them.
        transform: transform of everybody's inputs.
        how: the model, the loss and the seed.
        tests: the indices of each owner's own samples; None where it is not known whose they are.
        drawn: whether owners may share samples, of which they are tested on their own alone.
    """
    if drawn and tests is not None and any(map(len, tests.values())):
        own = {name: (samples.subset(indices), None) for name, indices in tests.items() if len(indices)}
        return _domain_evaluators(kind, own, owners, how)
    if all(data.eval_transform is transform for data in owners.values()):
        return _evaluators(kind, samples, transform, how, None if drawn else tests)
    seen = {name: (samples, None if tests is None else _mask(tests[name], len(samples))) for name in owners}
    return _domain_evaluators(kind, seen, owners, how)


def own_validators(
    held: Mapping[str, Samples], owners: Mapping[str, OwnerData], how: Evaluating
) -> tuple[PartySpec, ...]:
    """Describe the parties that evaluate models on samples that owners set aside, each owner's by itself.

    Args:
        held: the samples of each owner that set some aside.
        owners: the data of each owner, whose transforms its samples have.
        how: the model, the loss and the seed.
    """
    seen: dict[str, tuple[Samples, torch.Tensor | None]] = {name: (samples, None) for name, samples in held.items()}
    return _domain_evaluators("own-validator", seen, owners, how)


def tell_untested(owners: Mapping[str, OwnerData], tests: Sequence[Indices] | None) -> None:
    """Warn of owners without test samples of their own, where it is known whose they are."""
    without = [name for name, data in owners.items() if data.test is None]
    if tests is not None and without:
        named = f"{', '.join(without[:5])}{' and others' if len(without) > 5 else ''}"
        logger.warning(
            "%d of %d owners have no test samples of their own and count in no mean over owners: %s; more test samples "
            "may help",
            len(without),
            len(owners),
            named,
        )


def _evaluators(
    kind: str, samples: Samples, transform: Transform, how: Evaluating, tests: Mapping[str, Indices] | None
) -> tuple[PartySpec, ...]:
    count = min(NUM_EVALUATORS, len(samples))
    owner_of = None if tests is None else _owner_of(tests, len(samples))
    return tuple(
        PartySpec(
            name=f"{kind}-{i}",
            role="evaluator",
            build=Evaluator,
            arguments={
                "samples": samples.subset(range(i, len(samples), count)),
                "transform": transform,
                "spec": how.spec,
                "loss": how.loss,
                "seed": how.seed,
                "ownership": None
                if owner_of is None
                else Ownership(names=tuple(tests or ()), index=owner_of[i::count]),
            },
        )
        for i in range(count)
    )


def _domain_evaluators(
    kind: str,
    seen: Mapping[str, tuple[Samples, torch.Tensor | None]],
    owners: Mapping[str, OwnerData],
    how: Evaluating,
) -> tuple[PartySpec, ...]:
    domains = [
        Domain(
            owner=name,
            samples=samples,
            transform=owners[name].eval_transform,
            own=own,
            seed=derive(how.seed, name, "evaluation"),
        )
        for name, (samples, own) in seen.items()
    ]
    count = min(MAX_DOMAIN_EVALUATORS, len(domains))
    return tuple(
        PartySpec(
            name=f"{kind}-{i}",
            role="evaluator",
            build=DomainEvaluator,
            arguments={"domains": tuple(domains[i::count]), "spec": how.spec, "loss": how.loss},
        )
        for i in range(count)
    )


def _owner_of(tests: Mapping[str, Indices], num_samples: int) -> torch.Tensor:
    found = torch.full((num_samples,), -1)
    for number, indices in enumerate(tests.values()):
        found[torch.from_numpy(indices)] = number
    return found


def _mask(indices: Indices, num_samples: int) -> torch.Tensor:
    found = torch.zeros(num_samples, dtype=torch.bool)
    found[torch.from_numpy(indices)] = True
    return found
