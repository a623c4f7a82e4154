"""Every reason for which `raysplit cuts` says that a model cannot be cut at a place, with what helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import raysplit
from raysplit.cli.planning.cuts import cuts

NUMBERS = "data={name: random, num_classes: 4, num_samples: 40, dim: 8}"
HERE = "unit.cli.planning.test_cut_reasons"
AT_EXPORT = "model.front_end=export"
IDS = "data: tokens"


class _Layers(nn.Module):
    """Two layers of eight numbers, and an output of four."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)


class Again(_Layers):
    """A layer that is used twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.first(torch.tanh(self.first(x)))) + self.last(x))  # type: ignore[no-any-return]


class Tied(_Layers):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(torch.tanh(self.first(x))))  # type: ignore[no-any-return]


class Windows(_Layers):
    """Two rows for each sample on the way."""

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.tanh(self.first(x).reshape(-1, 4))
        return self.out(self.last(halves.reshape(-1, 8)))  # type: ignore[no-any-return]


class ThroughView(_Layers):
    """A tensor that is written through a view of it."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.first(x).clone()
        half = made[:, :4]
        shifted = torch.tanh(self.last(x))
        half.add_(shifted[:, :4])
        return self.out(made)  # type: ignore[no-any-return]


class Signs(_Layers):
    """Whole numbers on the way, which have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        signs = (self.first(x) > 0).long()
        return self.out(self.last(self.table(signs).mean(1)))  # type: ignore[no-any-return]


@raysplit.leaf
class Block(nn.Module):
    """Two layers that stay together."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(x)))  # type: ignore[no-any-return]


class WithLeaf(_Layers):
    """A leaf between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.block(self.first(x))))  # type: ignore[no-any-return]


class Raw(_Layers):
    """Its input, once more at the end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(torch.tanh(self.first(x))) + x)  # type: ignore[no-any-return]


class Branch(_Layers):
    """A branch on a value."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        if z.sum() > 0:
            z = -z
        return self.out(z)  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """The number of tokens that are no padding, beside what the tokens mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.hidden(self.embedding(x)))
        count = (x != 0).sum(1, keepdim=True)
        return self.out(torch.tanh(h.sum(1)) / count)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tokens") / "tokens.npz"
    np.savez(path, x=np.arange(120).reshape(20, 6) % 9, y=np.arange(20) % 4)
    return f"data={{name: {path}, values: ids}}"


def why(model: str, place: str, *settings: str) -> str:
    """What `raysplit cuts --why` says, or the error of the command."""
    overrides = (f"model.name={HERE}:{model}", NUMBERS, *settings)
    arguments = [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(cuts, [*arguments, "--why", place], env={"COLUMNS": "80"})
    return result.output if result.exception is None else str(result.exception)


TRACED_BY_FX = {
    ("Again", "tanh#1"): ["'first.weight' is used before and after it", "the nearest places are"],
    ("Tied", "tanh"): [
        "'first.weight' is used before it and, as 'last.weight', after it; untie them",
        "or give both ends to the owner (algorithm.name: mpsl)",
    ],
    ("Windows", "tanh"): ["of shape (2, 4) would cross it, not one row per sample", "'first' and 'reshape#2'"],
    ("Signs", "gt"): [
        "nothing with a gradient crosses it, and 'first.weight' in front of it is to be trained",
        "freeze it (model.freeze), or cut elsewhere",
    ],
    ("WithLeaf", "block.up"): ["no place to cut 'block.up', which is inside 'block', a leaf; cut after 'block'"],
    ("Raw", "tanh"): ["the model can be cut at tanh", "raw inputs among it: x"],
    ("Tokens", "hidden", IDS): ["the private input 'x' would cross it", "the nearest places are"],
    ("Tokens", "sum#1", IDS): ["would cross it, which is computed from a private input without any weight"],
    ("Again", "lost"): ["no place to cut 'lost'; did you mean 'last'"],
}
TRACED_BY_EXPORT = {
    ("ThroughView", "last", AT_EXPORT): ["made before it, is written after it through a view", "nearest places are"],
    ("WithLeaf", "block.up", AT_EXPORT): ["it is inside 'block', which is a leaf; cut after 'block'"],
    ("WithLeaf", "block", AT_EXPORT): ["the model can be cut at block, after block"],
    ("Branch", "first"): [
        "no front end can trace it",
        "fx: ",
        "export: ",
        Path(__file__).name,
        "if z.sum() > 0",
        "model.front_end: chain",
    ],
}


@pytest.mark.parametrize("reasons", [TRACED_BY_FX, pytest.param(TRACED_BY_EXPORT, marks=pytest.mark.slow)], ids=len)
def test_every_reason_says_what_helps(reasons: dict[tuple[str, ...], list[str]], tokens: str) -> None:
    found = {
        (model, place, *settings): why(model, place, *(s.replace(IDS, tokens) for s in settings))
        for model, place, *settings in reasons
    }
    assert {key: found[key] for key, texts in reasons.items() if not all(text in found[key] for text in texts)} == {}


def test_a_private_input_may_be_sent_by_name(tokens: str) -> None:
    assert "the model can be cut at hidden" in why("Tokens", "hidden", tokens, "model.send_inputs=[x]")
