"""Language model: the next token at each place, [N, T, V] logits and tokens [N, T].

The targets are made where the data are (`next_tokens`); the model never gets them. Nothing is known of a whole
confusion matrix of a vocabulary, so that only correct predictions are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from raysplit.tasks.classes import NO_LABEL, ClassTask
from raysplit.tasks.task import Better, Sums

LARGEST_NAIVE_VOCABULARY = 65_536
"""Number of tokens above which the unigram baseline is left out."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel(ClassTask):
    """The next token at each place; cross-entropy in nats, perplexity, bits per token and token accuracy."""

    kind: ClassVar[str] = "language_model"
    better: ClassVar[Mapping[str, Better]] = {
        "perplexity": "lower",
        "loss": "lower",
        "bits_per_token": "lower",
        "token_accuracy": "higher",
    }
    wanted: ClassVar[str] = "the next token at each place, whole numbers [N, T]"
    target_ndim: ClassVar[int] = 2
    rows_per_batch: ClassVar[int] = 32
    _outputs_wanted: ClassVar[str] = "logits [N, T, V] and tokens [N, T]"

    @property
    def has_naive(self) -> bool:
        return self.num_outputs <= LARGEST_NAIVE_VOCABULARY

    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        return output.movedim(-1, 1) if output.shape[:-1] == targets.shape else None

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        return constant.expand(*targets.shape, len(constant))

    def _sums(self, output: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        return {"right": (output.argmax(1) == targets)[counted].sum()}

    def _figures(self, sums: Sums) -> dict[str, float]:
        count = int(sums["count"])
        nats = float(sums["loss"]) / count
        return {
            "perplexity": math.exp(nats) if nats < 700 else math.inf,
            "bits_per_token": nats / math.log(2),
            "token_accuracy": int(sums["right"]) / count,
        }


def next_tokens(ids: Tensor, mask: Tensor | None = None, *, ignore_index: int = NO_LABEL) -> Tensor:
    """Return the target at each place of token ids [N, T]: the next token, and ``ignore_index`` where none follows.

    Args:
        ids: token ids.
        mask: which places hold tokens [N, T]; the others are padding. None where all do.
        ignore_index: target of places without a next token.

    Example:
        >>> next_tokens(torch.tensor([[5, 6, 7]]))
        tensor([[   6,    7, -100]])
    """
    targets = torch.full(ids.shape, ignore_index, dtype=torch.int64)
    targets[:, :-1] = ids[:, 1:]
    if mask is not None:
        follows = mask[:, 1:].bool() & mask[:, :-1].bool()
        targets[:, :-1][~follows] = ignore_index
    return targets
