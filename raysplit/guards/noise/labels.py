"""Labels by randomized response, and the loss that knows how they were drawn.

Warner (1965): with probability e^eps / (e^eps + K - 1) a label is kept, otherwise it is one of the K - 1 others. A
label is drawn once and kept, so that it may be sent in every epoch. The node that has the loss multiplies the
probabilities of the classes by the K x K matrix of the draw before the logarithm (Patrini et al. 2017, arXiv
1609.03798, "forward").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.data.labels import NO_LABEL
from raysplit.guards.account.accounting import keep_probability


def flipped(labels: Tensor, num_classes: int, epsilon: float, draws: np.random.Generator) -> Tensor:
    """Return labels [N] by randomized response; a missing label stays missing."""
    kept = torch.from_numpy(draws.random(len(labels)) < keep_probability(epsilon, num_classes))
    others = torch.from_numpy(draws.integers(1, num_classes, len(labels)))
    moved = (labels.long() + others) % num_classes
    return torch.where(kept | (labels == NO_LABEL), labels, moved.to(labels.dtype))


@dataclass(frozen=True, kw_only=True)
class FlippedCrossEntropy:
    """The mean cross-entropy of logits [B, K] and labels [B] that come from randomized response.

    Attributes:
        epsilon: of the draw.
        num_classes: the number K of classes.
    """

    epsilon: float
    num_classes: int

    def __call__(self, logits: Any, y: Any) -> Tensor:
        keep = keep_probability(self.epsilon, self.num_classes)
        other = (1.0 - keep) / (self.num_classes - 1)
        # log(keep p_y + other (1 - p_y)), in logs, as p_y may be 0 in floating point
        own = torch.log_softmax(logits, dim=1) + math.log(keep - other)
        mixed = torch.logaddexp(own, torch.full_like(own, math.log(other)))
        return F.nll_loss(mixed, y.long(), ignore_index=NO_LABEL)
