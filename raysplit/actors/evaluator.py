"""Parties that hold test samples: everybody's in one form, or as each owner sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from raysplit.actors.evaluation import AtCuts, Ownership
from raysplit.actors.evaluation import Evaluation as Evaluation
from raysplit.actors.evaluation import evaluate as evaluate
from raysplit.actors.expecting.forms import whole_model
from raysplit.actors.parts.losses import resolve_loss
from raysplit.cluster.arriving.forms import Expected
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.spec import ModelSpec
from raysplit.tasks import Task


class Evaluator:
    """A party that holds everybody's test samples, or a share of them.

    Args:
        samples: the test samples.
        transform: transform of their inputs.
        spec: the model of the run.
        loss: name or import path of the loss of samples with one label, or the task.
        seed: seed of the transform's random stream.
        device: torch device of the computation.
        ownership: whose the samples are; None where it is not known.
    """

    def __init__(
        self,
        *,
        name: str,
        samples: Samples,
        transform: Transform,
        spec: ModelSpec,
        loss: str | Task,
        seed: int = 0,
        device: str = "cpu",
        ownership: Ownership | None = None,
    ) -> None:
        self.name = name
        self._ownership = ownership
        self._samples = samples
        self._transform = transform
        spec.require_base()
        self._spec = spec
        self._loss = resolve_loss(loss)
        self._seed = seed
        self._device = device

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect the weights of the model that is evaluated."""
        return whole_model(given.get("spec") or self._spec, len(given["states"]))

    async def evaluate(
        self, *states: Mapping[str, Tensor], spec: ModelSpec | None = None, at_cuts: AtCuts | None = None
    ) -> Evaluation:
        """Evaluate the model whose weights are the union of ``states``: the run's, or that of ``spec`` if given.

        ``at_cuts`` are codecs at the cuts of the model.
        """
        return evaluate(
            spec or self._spec,
            states,
            self._samples,
            self._transform,
            self._loss,
            seed=self._seed,
            device=self._device,
            ownership=self._ownership,
            at_cuts=at_cuts,
        )


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Test samples as one owner sees them.

    Attributes:
        owner: the name of the owner.
        samples: the samples.
        transform: the owner's transform of their inputs.
        own: whether each sample [N] is the owner's own; None where all are.
        seed: seed of the transform's random stream.
    """

    owner: str
    samples: Samples
    transform: Transform
    own: Tensor | None = None
    seed: int = 0

    @property
    def ownership(self) -> Ownership | None:
        return None if self.own is None else Ownership(names=(self.owner,), index=self.own.long() - 1)


class DomainEvaluator:
    """A party that holds the test samples of owners with inputs of their own, and evaluates a model on each of them.

    Args:
        domains: the samples of some owners, each as that owner sees them.
        spec: the model of the run.
        loss: name or import path of the loss of samples with one label, or the task.
        device: torch device of the computation.
    """

    def __init__(
        self, *, name: str, domains: Sequence[Domain], spec: ModelSpec, loss: str | Task, device: str = "cpu"
    ) -> None:
        self.name = name
        self._domains = domains
        self._spec = spec
        self._loss = resolve_loss(loss)
        self._device = device

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect the weights of the model that is evaluated."""
        return whole_model(given.get("spec") or self._spec, len(given["states"]))

    async def evaluate(
        self,
        *states: Mapping[str, Tensor],
        spec: ModelSpec | None = None,
        at_cuts: AtCuts | None = None,
        owners: Sequence[str] | None = None,
    ) -> Evaluation:
        """Evaluate as `Evaluator` does, for each owner by itself: for those of ``owners``, or all."""
        total: Evaluation | None = None
        for domain in self._domains:
            if owners is not None and domain.owner not in owners:
                continue
            found = evaluate(
                spec or self._spec,
                states,
                domain.samples,
                domain.transform,
                self._loss,
                seed=domain.seed,
                device=self._device,
                ownership=domain.ownership,
                at_cuts=at_cuts,
            )
            own = found.by_owner if domain.own is not None else {domain.owner: found}
            found = replace(found, by_owner=own, by_domain={domain.owner: replace(found, by_owner={})})
            total = found if total is None else total + found
        assert total is not None
        return total
