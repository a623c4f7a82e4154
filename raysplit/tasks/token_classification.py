"""Token classification: one class for each token, [N, T, C] logits and classes [N, T]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raysplit.tasks.classes import ClassTask
from raysplit.tasks.confusion import accuracy, f1_by_class, mean_of_known
from raysplit.tasks.task import Better, Sums


@dataclass(frozen=True, kw_only=True)
class TokenClassification(ClassTask):
    """One class for each token; cross-entropy, token accuracy and macro F1 without class 0 ("no entity")."""

    kind: ClassVar[str] = "token_classification"
    better: ClassVar[Mapping[str, Better]] = {"token_accuracy": "higher", "loss": "lower", "macro_f1": "higher"}
    wanted: ClassVar[str] = "one class index for each token, whole numbers [N, T]"
    target_ndim: ClassVar[int] = 2
    rows_per_batch: ClassVar[int] = 64
    _outputs_wanted: ClassVar[str] = "logits [N, T, C] and classes [N, T]"

    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        return output.movedim(-1, 1) if output.shape[:-1] == targets.shape else None

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        return constant.expand(*targets.shape, len(constant))

    def _figures(self, sums: Sums) -> dict[str, float]:
        matrix = sums["confusion"]
        return {"token_accuracy": accuracy(matrix), "macro_f1": mean_of_known(self._scored(f1_by_class(matrix))[1:])}
