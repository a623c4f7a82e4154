"""Small data sets and models whose inputs are not one floating tensor, for import paths in configurations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raysplit.data.inputs import Input

VOCABULARY, LENGTH, NUM_CLASSES = 12, 6, 3
Item = tuple[Mapping[str, Tensor], int]


def token_rows(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows in which every class prefers four of the tokens."""
    gen = torch.Generator().manual_seed(seed)
    y = torch.arange(num_rows) % NUM_CLASSES
    own = 4 * y[:, None] + torch.randint(4, (num_rows, LENGTH), generator=gen)
    anything = torch.randint(VOCABULARY, (num_rows, LENGTH), generator=gen)
    return torch.where(torch.rand(num_rows, LENGTH, generator=gen) < 0.7, own, anything), y


def tokens() -> tuple[TensorDataset, TensorDataset]:
    """Map-style sets of (int64 [T], class)."""
    return TensorDataset(*token_rows(90, 0)), TensorDataset(*token_rows(30, 1))


def tokens_and_numbers() -> tuple[list[Item], list[Item]]:
    """Map-style sets of two inputs: tokens, and two numbers that tell about the class as well."""

    def items(num_rows: int, seed: int) -> list[Item]:
        rows, y = token_rows(num_rows, seed)
        gen = torch.Generator().manual_seed(seed + 2)
        numbers = torch.stack([y == 0, y == 1], 1) + torch.randn(num_rows, 2, generator=gen)
        return [({"tokens": rows[i], "numbers": numbers[i]}, int(y[i])) for i in range(num_rows)]

    return items(90, 0), items(30, 1)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def bag_of_tokens(num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(embedding=nn.Embedding(VOCABULARY, 5), mean=Mean(), head=nn.Linear(5, num_classes))
    )


class TwoInputs(nn.Module):
    """Takes its inputs by name, in another order than the data have them."""

    def __init__(self, num_classes: int, inputs: Mapping[str, Input]) -> None:
        super().__init__()
        (num_numbers,) = inputs["numbers"].shape
        assert num_numbers is not None
        self.numbers = nn.Linear(num_numbers, 3)
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.join = nn.Linear(8, 7)
        self.head = nn.Linear(7, num_classes)

    def forward(self, numbers: Tensor, tokens: Tensor) -> Tensor:
        both = torch.cat([self.numbers(numbers), self.embedding(tokens).mean(1)], 1)
        h: Tensor = self.head(torch.relu(self.join(both)))
        return h
