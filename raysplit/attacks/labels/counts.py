"""How many samples of each class a gradient of a whole model is of, from the gradient of its last bias.

That gradient is the mean of ``p - e_y`` over the b samples, so that the class counts are about ``b (p - gradient)``
with the mean prediction p on samples of the attacker. A single sample's label is the number of the smallest entry, and
exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def class_counts(bias_gradient: Tensor, mean_prediction: Tensor, batch_size: int) -> npt.NDArray[np.float64]:
    """Estimate the number of samples of each class [C] behind the gradient of the last bias [C]."""
    counts = batch_size * (mean_prediction.double() - bias_gradient.detach().double())
    return counts.clamp(min=0).numpy()


def labels_of_counts(counts: npt.NDArray[np.float64], batch_size: int) -> Tensor:
    """Round estimated counts to ``batch_size`` labels [b], in rising order: the largest remainders get the rest."""
    scaled = counts * (batch_size / max(counts.sum(), 1e-12))
    whole = np.floor(scaled).astype(int)
    for label in np.argsort(whole - scaled, kind="stable")[: batch_size - whole.sum()]:
        whole[label] += 1
    return torch.from_numpy(np.repeat(np.arange(len(counts)), whole))


def single_label(bias_gradient: Tensor) -> int:
    """Return the label of the only sample behind the gradient of the last bias [C]."""
    return int(bias_gradient.argmin())
