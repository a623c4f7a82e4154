"""How well a score tells one group from another: AUC, advantage, and the true positives at few false ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well scores rank members above others.

    Attributes:
        auc: probability that a member's score is above another's; 0.5 is chance.
        advantage: largest true minus false positive rate; 0 is chance, and about one over the root of n by luck.
        tpr_at_1, tpr_at_5: true positive rate at 1 and 5 percent of false positives, which are chance.
    """

    auc: float
    advantage: float
    tpr_at_1: float
    tpr_at_5: float


def ranking(members: Tensor, others: Tensor) -> Ranking:
    """Rank scores [n] of members against scores [m] of others. Raises ``ValueError`` where one group is empty."""
    from sklearn.metrics import roc_auc_score, roc_curve

    if not len(members) or not len(others):
        raise ValueError(f"{len(members)} members and {len(others)} others; a ranking needs some of both")
    scores = np.concatenate([members.double().numpy(), others.double().numpy()])
    truth = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return Ranking(
        auc=float(roc_auc_score(truth, scores)),
        advantage=float((true - false).max()),
        tpr_at_1=_at(false, true, 0.01),
        tpr_at_5=_at(false, true, 0.05),
    )


def _at(false: Points, true: Points, most: float) -> float:
    return float(true[false <= most].max())
