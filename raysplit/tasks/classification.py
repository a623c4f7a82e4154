"""Classification: one class for each sample, [N, C] logits and classes [N]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks.classes import ClassTask
from raysplit.tasks.confusion import accuracy, f1_by_class, mean_of_known
from raysplit.tasks.outputs import answer, auxiliary
from raysplit.tasks.task import Better, Sums


@dataclass(frozen=True, kw_only=True)
class Classification(ClassTask):
    """One class for each sample; cross-entropy, accuracy and macro F1."""

    kind: ClassVar[str] = "classification"
    better: ClassVar[Mapping[str, Better]] = {"accuracy": "higher", "loss": "lower", "macro_f1": "higher"}
    wanted: ClassVar[str] = "one class index for each sample, whole numbers [N]"
    target_ndim: ClassVar[int] = 1
    _outputs_wanted: ClassVar[str] = "logits [N, C] and classes [N]"

    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        return output if output.ndim == 2 and len(output) == len(targets) else None

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return torch's own mean over the labelled samples, bit for bit; 0, with a gradient of 0, without any."""
        if not self.count(targets) or auxiliary(outputs):
            return super().__call__(outputs, targets)
        assert self.ignore_index is not None
        return F.cross_entropy(*self.fitted(answer(outputs), targets), ignore_index=self.ignore_index)

    def _figures(self, sums: Sums) -> dict[str, float]:
        matrix = sums["confusion"]
        return {"accuracy": accuracy(matrix), "macro_f1": mean_of_known(self._scored(f1_by_class(matrix)))}
