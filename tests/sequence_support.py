"""Sentences of different lengths in a file, and models of their tokens, for import paths in configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from raysplit.config.run import RunConfig, check_config

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


def text(folder: Path, algorithm: dict[str, Any], **data: Any) -> RunConfig:
    """A language model of two documents, each an owner's, with dropout in both parts."""
    for name, words in (("a", "the cat sat on the mat. "), ("b", "a dog ran to the log. ")):
        (folder / f"{name}.txt").write_text(words * 12)
    return check_config(
        {
            "task": "language_model",
            "data": {"name": "text:*.txt", "root": str(folder), "length": 8, **data},
            "model": {"name": "text_transformer", "width": 8, "heads": 2, "dropout": 0.2, "positions": 8},
            "partition": {"name": "natural_id", "num_owners": 2},
            "algorithm": algorithm,
            "training": {"rounds": 2, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.01}},
            "cluster": {"kind": "local"},
        }
    )
