"""Whatever a model draws comes from the stream of its step: the same bits in every run, resumed or not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disturbed import Killed, Killer
from random_nets import NETS, RUN, net
from support import same
from torch import nn

import raysplit
from raysplit.models.cutting.randomness import function_may_draw, may_draw
from raysplit.models.cutting.split import trace
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws

METHODS = [{"name": "fedavg"}, {"name": "minibatch_sfl", "cut": 2}, {"name": "splitfed_v1", "cut": 3}]


def disturb(seed: int) -> None:
    """As if the process had drawn something else before."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


@pytest.mark.parametrize("name", NETS)
def test_a_seed_gives_the_same_bits_whatever_was_drawn_before(name: str) -> None:
    """A `nn.TransformerEncoderLayer` drew its attention dropout from torch's one global stream: the same seed gave
    other weights in the next run, after a resume, and on Ray."""
    for method in METHODS[:2]:
        results = []
        for seed in (1, 2):
            disturb(seed)
            results.append(raysplit.train(model=net(name), algorithm=method, **RUN, cluster="local"))
        assert same(*results), method
        assert results[0].rows[-1]["test_loss"] == results[1].rows[-1]["test_loss"]


@pytest.mark.parametrize("name", ["encoder", "gru", "randn_like", "numpy", "alpha_dropout"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_resumed_run_draws_what_an_undisturbed_one_does(name: str, method: dict[str, Any], tmp_path: Path) -> None:
    given = {"model": net(name), "algorithm": method, **RUN, "cluster": "local"}
    with pytest.raises(Killed):
        raysplit.train(**given, folder=tmp_path / "run", callbacks=[Killer(1)])
    disturb(7)
    data = {"model": given["model"], "data": given["data"]}
    assert same(raysplit.resume(tmp_path / "run", **data), raysplit.train(**given))


def test_owners_draw_different_numbers() -> None:
    """Equal streams for all would be a fault as well."""
    seen: list[float] = []

    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(float(torch.rand(1)))
        return nn.functional.cross_entropy(logits, y.long())

    from raysplit.given import name_of

    name = name_of(loss)
    training = {"rounds": 1, "loss": name, "batch_size": 8}

    class Begun(raysplit.Callback):
        def run_started(self, experiment: Any) -> None:
            seen.clear()  # the loss was tried before

    raysplit.train(
        model="mlp", **RUN | {"training": training}, algorithm="fedavg", cluster="local", callbacks=[Begun()]
    )
    assert len(seen) > 6
    assert len(set(seen[:6])) == 6  # three steps of each of two owners, before the evaluation


@pytest.mark.parametrize(
    ("build", "draws"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.LayerNorm(2)), False),
        (lambda: nn.GRU(2, 2, num_layers=2), False),
        (lambda: nn.GRU(2, 2, num_layers=2, dropout=0.1), True),
        (lambda: nn.MultiheadAttention(2, 1), False),
        (lambda: nn.MultiheadAttention(2, 1, dropout=0.1), True),
        (lambda: nn.TransformerEncoderLayer(2, 1, 4), True),
        (lambda: nn.RReLU(), True),
    ],
)
def test_what_is_steady_costs_nothing(build: Callable[[], nn.Module], draws: bool) -> None:
    assert may_draw(build()) is draws


@pytest.mark.parametrize("name", ["mlp", "cnn8", "resnet18_cifar", "resnet18", "efficientnet_b0"])
def test_networks_of_the_zoo_are_steady(name: str) -> None:
    shape = (10,) if name == "mlp" else (1, 8, 8) if name == "cnn8" else (3, 32, 32)
    (part,) = ModelSpec(name=name, input_shape=shape, num_classes=3, seed=0).parts(())
    assert not may_draw(part)


def test_losses_of_ones_own_may_draw() -> None:
    assert function_may_draw(test_losses_of_ones_own_may_draw)
    assert not function_may_draw(nn.functional.cross_entropy)


def test_global_streams_are_put_back() -> None:
    disturb(3)
    before = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    disturb(3)
    with keyed_draws(5):
        first = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    after = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    assert before == after
    with keyed_draws(5):
        assert first == (torch.rand(1), np.random.rand(), random.random())  # noqa: NPY002


def test_a_constant_that_a_trace_would_freeze_is_refused() -> None:
    """``torch.rand(1)`` does not depend on the input: a trace runs it once, and the model would use that number for
    ever. Exported on the processor, it is drawn in each step (test_on_processor.py)."""

    class Frozen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand(1)

    model = nn.Sequential(nn.Linear(8, 8), Frozen(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"draws a random number that a trace would freeze.*raysplit\.leaf"):
        trace(model, torch.zeros(2, 8), front_end="fx")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_checkpointed_block_draws_the_same_masks_again(method: dict[str, Any]) -> None:
    """In the backward pass its dropout drew other masks than in the forward pass, and the gradient was another one."""
    kept, checkpointed = (
        raysplit.train(model=net(name), algorithm=method, **RUN, cluster="local") for name in ("kept", "checkpointed")
    )
    assert same(kept, checkpointed)
