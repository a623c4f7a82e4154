"""Confusion matrices of classes, and the figures that they determine.

The matrix [C, C] counts elements by target (row) and prediction (column). Figures over classes leave out a class that
occurs neither in targets nor in predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def confusion(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix [C, C], int64, of classes [n] and predictions [n]."""
    pairs = targets.long() * num_classes + predicted.long()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Tensor) -> float:
    """Return the share of elements with a correct prediction; NaN without elements."""
    return _share(matrix.diagonal().sum(), matrix.sum())


def f1_by_class(matrix: Tensor) -> Tensor:
    """Return the F1 of each class [C], float64; NaN for a class that does not occur."""
    right = matrix.diagonal().double()
    return 2 * right / (matrix.sum(0) + matrix.sum(1)).double()


def iou_by_class(matrix: Tensor) -> Tensor:
    """Return the intersection over union of each class [C], float64; NaN for a class that does not occur."""
    right = matrix.diagonal().double()
    return right / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal()).double()


def mean_of_known(values: Tensor) -> float:
    """Return the mean over the values that are not NaN; NaN without any."""
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else float("nan")


def _share(part: Tensor, whole: Tensor) -> float:
    return int(part) / int(whole) if int(whole) else float("nan")
