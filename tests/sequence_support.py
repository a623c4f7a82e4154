"""Sentences of different lengths in a file, and models of their tokens, for import paths in configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

VOCABULARY = 9


class MaskedMean(nn.Module):
    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask.unsqueeze(2).float()
        return (h * kept).sum(1) / kept.sum(1)


class Reader(nn.Module):
    """The mean of the embeddings of the words that are no padding, and a layer."""

    def __init__(self, num_classes: int, vocab_size: int = VOCABULARY, max_positions: int | None = None) -> None:
        super().__init__()
        if max_positions is not None:
            self.max_positions = max_positions
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, 6)
        self.inner = nn.Linear(6, 6)
        self.mean = MaskedMean()
        self.head = nn.Linear(6, num_classes)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        h: Tensor = self.head(self.mean(self.inner(self.embedding(ids)), attention_mask))
        return h


class Blind(nn.Module):
    """An embedding that does not say how many tokens it knows."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.mean = MaskedMean()
        self.head = nn.Linear(6, num_classes)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        h: Tensor = self.head(self.mean(self.embedding(ids), attention_mask))
        return h


def sentences(folder: Path, **changed: Any) -> str:
    """Sentences of 1 to 7 words of three owners; the class is whether the words are small."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 8, 90)
    y = np.arange(90) % 2
    words = [rng.integers(0, 5, n) + 4 * label for n, label in zip(lengths, y, strict=True)]
    arrays = {
        "ids": np.concatenate(words),
        "ids_offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "y": y,
        "owner": np.repeat(["a", "b", "c"], 30),
    }
    np.savez(folder / "sentences.npz", **(arrays | changed))
    return str(folder / "sentences.npz")
