"""A model that no trace can follow, and that says its own units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 9


class Block(nn.Module):
    """A block that depends on the values of its input, and draws beside its dropout module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.drop = nn.Dropout(0.2)

    def forward(self, h: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        turned = self.linear(h) if float(h.detach().sum()) > 0 else self.linear(-h)
        return self.norm(h + F.dropout(self.drop(turned) * mask.unsqueeze(2), 0.1, self.training)), mask


class Chained(nn.Module):
    """Embeddings with positions, blocks, and the mean over what is no padding."""

    def __init__(self, num_classes: int, depth: int = 3, width: int = 6) -> None:
        super().__init__()
        self.vocab_size, self.max_positions = VOCABULARY, 7
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.place = nn.Parameter(torch.linspace(-1.0, 1.0, 7 * width).reshape(7, width))
        self.register_buffer("shift", torch.ones(width))
        self.shift: Tensor
        self.scale = 2.0
        self.drop = nn.Dropout(0.5)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, num_classes)

    def before(self, ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        h = self.embedding(ids) * self.scale + self.place[: ids.shape[1]] + self.shift
        return self.noisy(h), attention_mask.to(h.dtype)

    def noisy(self, h: Tensor) -> Tensor:
        dropped: Tensor = self.drop(h) if self.training else h
        return dropped

    def after(self, h: Tensor, mask: Tensor) -> Tensor:
        mean = (h * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        logits: Tensor = self.head(mean)
        return logits

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        z = self.before(ids, attention_mask)
        for block in self.blocks:
            z = block(*z)
        return self.after(*z)


class Doubled(Chained):
    """A model whose forward is more than its units."""

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(ids, attention_mask) * 2


class Peeking(Chained):
    """A model whose ``after`` uses a block."""

    def after(self, h: Tensor, mask: Tensor) -> Tensor:
        return super().after(*self.blocks[0](h, mask))


class Torn(Chained):
    """A model whose ``before`` fails."""

    def before(self, ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no such table")


class Both(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = pair
        return (self.linear(first + second), second) if float(first.detach().sum()) > 0 else (first, second)


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def sequential() -> nn.Sequential:
    """Children that take and give tuples."""
    return nn.Sequential(nn.Linear(4, 4), Both(), Joined(), Joined(), First(), nn.ReLU(inplace=True), nn.Linear(4, 2))
