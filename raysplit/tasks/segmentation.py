"""Segmentation: one class for each pixel, [N, C, h, w] logits and masks [N, H, W]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks.classes import ClassTask, by_class
from raysplit.tasks.confusion import accuracy, iou_by_class, mean_of_known
from raysplit.tasks.task import Better, Sums


@dataclass(frozen=True, kw_only=True)
class Segmentation(ClassTask):
    """One class for each pixel; cross-entropy, mean intersection over union and pixel accuracy.

    Outputs of another size than the masks are brought to it, bilinearly, before the loss.
    """

    kind: ClassVar[str] = "segmentation"
    better: ClassVar[Mapping[str, Better]] = {"miou": "higher", "loss": "lower", "pixel_accuracy": "higher"}
    usual_ignored: ClassVar[int | None] = 255
    wanted: ClassVar[str] = "one class index for each pixel, whole numbers [N, H, W]"
    target_ndim: ClassVar[int] = 3
    rows_per_batch: ClassVar[int] = 64
    _outputs_wanted: ClassVar[str] = "logits [N, C, h, w] and masks [N, H, W]"

    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        if output.ndim != 4 or len(output) != len(targets):
            return None
        if output.shape[2:] == targets.shape[1:]:
            return output
        return F.interpolate(output, size=targets.shape[1:], mode="bilinear", align_corners=False)

    def _figures(self, sums: Sums) -> dict[str, float]:
        matrix = sums["confusion"]
        ious = self._scored(iou_by_class(matrix))
        return {"miou": mean_of_known(ious), "pixel_accuracy": accuracy(matrix), **by_class("iou", ious)}
