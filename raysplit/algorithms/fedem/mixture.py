"""A mixture of learners of one architecture: p(y | x) = sum_k pi_k softmax_k(x).

Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated Multi-Task Learning under a Mixture of Distributions" (2021,
arXiv 2108.10252): all owners share the learners, and each has mixing weights pi of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from raysplit.models.spec import DTYPES, ModelSpec
from raysplit.seeding import derive

MIXTURE = "mixture"
"""Name of the buffer [K] with the mixing weights."""


class Mixture(nn.Module):
    """A network that returns the log-probabilities [B, C] of a mixture; each learner returns logits [B, C]."""

    mixture: Tensor

    def __init__(self, learners: Sequence[nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.learners = nn.ModuleList(learners)
        self.register_buffer(MIXTURE, torch.full((len(learners),), 1 / len(learners), dtype=dtype))

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        each = torch.stack([learner(*x, **named).log_softmax(1) for learner in self.learners])  # [K, B, C]
        return torch.logsumexp(each + self.mixture.log()[:, None, None], 0)


@dataclass(frozen=True, kw_only=True)
class MixtureSpec(ModelSpec):
    """A mixture of ``num_learners``. The first has the plain model's initial weights, so that K = 1 is FedAvg."""

    __hash__ = ModelSpec.__hash__

    num_learners: int

    @classmethod
    def of(cls, spec: ModelSpec, num_learners: int) -> MixtureSpec:
        return cls(**{field.name: getattr(spec, field.name) for field in fields(ModelSpec)}, num_learners=num_learners)

    def learner_specs(self) -> list[ModelSpec]:
        content = {field.name: getattr(self, field.name) for field in fields(ModelSpec)}
        seeds = [self.seed, *(derive(self.seed, "learner", k) for k in range(1, self.num_learners))]
        return [ModelSpec(**content | {"seed": seed}) for seed in seeds]

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the whole mixture. Raises ``ValueError`` for any cut."""
        if cuts:
            raise ValueError(f"a mixture of learners cannot be cut, got cuts {list(cuts)}; leave them out")
        return [Mixture([spec.parts(())[0] for spec in self.learner_specs()], DTYPES[self.dtype])]

    def build(self) -> nn.Module:
        return Mixture([spec.build() for spec in self.learner_specs()], DTYPES[self.dtype])
