"""The nine Taskonomy tasks and their losses, which are summed without weights.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, trained on Zamir et al., "Taskonomy", CVPR 2018, arXiv 1804.08328.
The target of a pixel without a valid one is NaN, or label 0 for segmentation. NaN pixels add nothing to the sum of
absolute errors and count in its mean. A sample whose pixels are all NaN has no target for that task and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.data.labels import has_target

Loss = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) -> scalar


def segmentation_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of scores [B, C, H, W] and labels [B, H, W], the mean over pixels of label above 0.

    A batch without a labeled pixel has loss 0.
    """
    labels = target.long()
    total = F.cross_entropy(prediction, labels, ignore_index=0, reduction="sum")
    return total / (labels != 0).sum().clamp(min=1)


def l1_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of two tensors [B, C, H, W]; NaN targets count as error 0."""
    return _error(prediction, target).mean()


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return |prediction - target|, which is 0 with zero gradient where the target is NaN."""
    return (prediction - torch.where(target.isnan(), prediction, target)).abs()


def shift_tolerant_l1_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of two tensors [B, C, H, W], up to a shift by one pixel.

    The prediction is shifted by each of the 9 offsets in {-1, 0, 1}^2 and compared on the interior; each image counts
    with its best offset. NaN targets count as error 0.
    """
    height, width = target.shape[-2] - 2, target.shape[-1] - 2
    if height < 1 or width < 1:
        raise ValueError(f"images of {tuple(target.shape[-2:])} pixels have no interior; give at least 3x3 pixels")
    shifted = prediction.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, 3, 3, H - 2, W - 2], a view
    inner = target[:, :, None, None, 1:-1, 1:-1].expand_as(shifted)
    per_offset = _error(shifted, inner).mean(dim=(1, 4, 5))  # [B, 3, 3]
    return per_offset.flatten(1).amin(dim=1).mean()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of dense prediction: its letter, its Taskonomy folder, the channels of its output and its loss."""

    letter: str
    name: str
    num_channels: int
    loss: Loss

    def mean_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the samples that have a target; without any it is 0, with a gradient of 0."""
        rows = has_target(target)
        if target.is_floating_point() and not bool(rows.all()):
            if not bool(rows.any()):
                return (prediction * 0).sum()
            prediction, target = prediction[rows], target[rows]
        return self.loss(prediction, target)


TASKS: dict[str, Task] = {
    task.letter: task
    for task in (
        Task(letter="s", name="segment_semantic", num_channels=18, loss=segmentation_loss),
        Task(letter="d", name="depth_zbuffer", num_channels=1, loss=shift_tolerant_l1_loss),
        Task(letter="n", name="normal", num_channels=3, loss=shift_tolerant_l1_loss),
        Task(letter="k", name="keypoints2d", num_channels=1, loss=l1_loss),
        Task(letter="t", name="edge_texture", num_channels=1, loss=l1_loss),
        Task(letter="e", name="edge_occlusion", num_channels=1, loss=l1_loss),
        Task(letter="r", name="reshading", num_channels=1, loss=l1_loss),
        Task(letter="c", name="principal_curvature", num_channels=2, loss=l1_loss),
        Task(letter="a", name="rgb", num_channels=3, loss=l1_loss),
    )
}


def task_losses(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the loss of each task in `outputs`, by letter; `targets` may have more tasks."""
    return {task: TASKS[task].mean_loss(output, targets[task]) for task, output in outputs.items()}
