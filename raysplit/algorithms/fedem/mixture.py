"""A mixture of learners of one architecture: p(y | x) = sum_k pi_k p_k(y | x).

Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated Multi-Task Learning under a Mixture of Distributions" (2021,
arXiv 2108.10252): all owners share the learners, and each has mixing weights pi of its own. Classes of samples, pixels
and tokens have mixed probabilities, labels of which a sample has several each a mixed probability of its own, and
numbers a mixed mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.models.spec import DTYPES, ModelSpec
from raysplit.seeding import derive
from raysplit.tasks.outputs import answer

OF_TOKENS = ("language_model", "token_classification")
"""Kinds of tasks whose logits have the classes in the last dimension."""
MIXTURE = "mixture"
"""Name of the buffer [K] with the mixing weights."""


def mixed(kind: str, outputs: Sequence[Tensor], log_weights: Tensor) -> Tensor:
    """Mix the answers of K learners, each [N, ...], by the logarithms [K] of their weights.

    Args:
        kind: the kind of the task.
        outputs: logits, or numbers of a regression.
        log_weights: the logarithms of the mixing weights.

    Returns:
        Log-probabilities of classes, logits of several labels, or numbers.
    """
    weights = log_weights.reshape(-1, *[1] * outputs[0].ndim)
    if kind == "regression":
        return (torch.stack(list(outputs)) * weights.exp()).sum(0)
    if kind == "multi_label":
        yes, no = (torch.stack([F.logsigmoid(sign * output) for output in outputs]) for sign in (1, -1))
        return torch.logsumexp(yes + weights, 0) - torch.logsumexp(no + weights, 0)
    dim = -1 if kind in OF_TOKENS else 1
    return torch.logsumexp(torch.stack([output.log_softmax(dim) for output in outputs]) + weights, 0)


class Mixture(nn.Module):
    """A network that returns the mixed answers of its learners, by the kind of the task (`mixed`)."""

    mixture: Tensor

    def __init__(self, learners: Sequence[nn.Module], dtype: torch.dtype, kind: str) -> None:
        super().__init__()
        self.learners = nn.ModuleList(learners)
        self.kind = kind
        self.register_buffer(MIXTURE, torch.full((len(learners),), 1 / len(learners), dtype=dtype))

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        return mixed(self.kind, [answer(learner(*x, **named)) for learner in self.learners], self.mixture.log())


@dataclass(frozen=True, kw_only=True)
class MixtureSpec(ModelSpec):
    """A mixture of ``num_learners``. The first has the plain model's initial weights, so that K = 1 is FedAvg."""

    __hash__ = ModelSpec.__hash__

    num_learners: int
    kind: str = "classification"

    @classmethod
    def of(cls, spec: ModelSpec, num_learners: int, kind: str = "classification") -> MixtureSpec:
        content = {field.name: getattr(spec, field.name) for field in fields(ModelSpec)}
        return cls(**content, num_learners=num_learners, kind=kind)

    def learner_specs(self) -> list[ModelSpec]:
        content = {field.name: getattr(self, field.name) for field in fields(ModelSpec)}
        seeds = [self.seed, *(derive(self.seed, "learner", k) for k in range(1, self.num_learners))]
        return [ModelSpec(**content | {"seed": seed}) for seed in seeds]

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the whole mixture. Raises ``ValueError`` for any cut."""
        if cuts:
            raise ValueError(f"a mixture of learners cannot be cut, got cuts {list(cuts)}; leave them out")
        return [Mixture([spec.parts(())[0] for spec in self.learner_specs()], DTYPES[self.dtype], self.kind)]

    def build(self) -> nn.Module:
        return Mixture([spec.build() for spec in self.learner_specs()], DTYPES[self.dtype], self.kind)
