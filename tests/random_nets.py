"""Small networks that draw random numbers in every way that a module can."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import raysplit

Y = np.arange(60) % 3
X = np.random.default_rng(0).normal(0, 1, (60, 8)).astype(np.float32)
RUN: dict[str, Any] = {
    "data": ((X[:45], Y[:45]), (X[45:], Y[45:])),
    "partition": {"num_owners": 2},
    "training": {"rounds": 2, "optimizer": {"lr": 0.1}},
}


class Drawing(nn.Module):
    """Applies a function that draws."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@raysplit.leaf
class Unseen(Drawing):
    """The same, which a trace does not look into."""


class Sequence(nn.Module):
    """A module over sequences [B, 2, 4] of what comes as rows [B, 8]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        z = x.unflatten(1, (2, 4))
        if isinstance(self.inner, nn.MultiheadAttention):
            return self.inner(z, z, z)[0].flatten(1)
        if isinstance(self.inner, nn.RNNBase):
            return self.inner(z)[0].flatten(1)
        return self.inner(z).flatten(1)


def attention(x: Tensor) -> Tensor:
    z = x.unflatten(1, (2, 4))
    return F.scaled_dot_product_attention(z, z, z, dropout_p=0.2).flatten(1)


@raysplit.leaf
class Kept(nn.Module):
    """A block that keeps what its backward pass needs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@raysplit.leaf
class Checkpointed(Kept):
    """The same block, which computes its forward again in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)


NETS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.3),
    "alpha_dropout": lambda: nn.AlphaDropout(0.3),
    "feature_alpha_dropout": lambda: nn.FeatureAlphaDropout(0.3),
    "rrelu": nn.RReLU,
    "gru": lambda: Sequence(nn.GRU(4, 4, num_layers=2, dropout=0.5, batch_first=True)),
    "lstm": lambda: Sequence(nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)),
    "attention": lambda: Sequence(nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)),
    "encoder": lambda: Sequence(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
    "functional attention": lambda: Drawing(attention),
    "functional alpha dropout": lambda: Drawing(lambda x: F.alpha_dropout(x, 0.3, training=True)),
    "gumbel": lambda: Drawing(lambda x: F.gumbel_softmax(x, dim=-1)),
    "randn_like": lambda: Drawing(lambda x: x + 0.1 * torch.randn_like(x)),
    "bernoulli": lambda: Drawing(lambda x: x * torch.bernoulli(torch.full_like(x, 0.7))),
    "numpy": lambda: Unseen(lambda x: x * float(np.random.rand())),  # noqa: NPY002
    "python": lambda: Unseen(lambda x: x * random.random()),
    "torch.rand": lambda: Unseen(lambda x: x + torch.rand(1)),
    "kept": Kept,
    "checkpointed": Checkpointed,
}


def net(name: str) -> Callable[..., nn.Module]:
    """A function that makes a network with the drawing module in its middle."""

    def build(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), NETS[name](), nn.Linear(8, num_classes))

    return build
