"""Labels from gradient rows when the owner's last part is known, or another one like it can be built.

* `from_linear`: the tail is one linear layer W with softmax. A row of the gradient is ``W'(p - e_y) / b``; the only
  negative number of ``p - e_y`` is that of the label. Exact while p - e_y is not 0.
* `by_trial`: a tail of the attacker; each class is tried, and the one whose gradient is nearest is the label (Erdoğan
  et al., UnSplit, 2022, arXiv 2108.09033).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.attacks.labels.directions import directed


def from_linear(g: Tensor, weight: Tensor) -> Tensor:
    """Return the label of each gradient row [n, h] from the weights [C, h] of a linear tail; -1 for rows of zeros."""
    rows = g.detach().flatten(1).double()
    errors = torch.linalg.lstsq(weight.detach().double().T, rows.T).solution.T  # [n, C], p - e_y times a positive
    _, has_direction = directed(g)
    return torch.where(has_direction, errors.argmin(dim=1), -1)


def by_trial(z: Tensor, g: Tensor, tail: Callable[[Tensor], Tensor], num_classes: int) -> Tensor:
    """Return the class of each row whose gradient at ``z`` [n, ...] through ``tail`` is nearest to ``g`` [n, ...].

    Directions are compared, because the batch size is a factor of all rows alike. Rows of zeros get -1.
    """
    seen, has_direction = directed(g)
    fits = []
    for label in range(num_classes):
        at = z.detach().clone().requires_grad_()
        loss = F.cross_entropy(tail(at), torch.full((len(z),), label), reduction="sum")
        (would_be,) = torch.autograd.grad(loss, at)
        fits.append((directed(would_be)[0] * seen).sum(dim=1))
    return torch.where(has_direction, torch.stack(fits, dim=1).argmax(dim=1), -1)
