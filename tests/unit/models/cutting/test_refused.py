"""Cuts and models that are refused, each with the reason and a way out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from raysplit.models.cutting.split import leaf, trace

X4 = torch.zeros(2, 4)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.after = nn.Linear(4, 4)
        self.after_tied = nn.Linear(4, 4, bias=False)
        self.after_tied.weight = self.again.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.after_tied(self.after(self.again(self.before(x))))


def test_state_used_on_both_sides_of_a_cut_is_refused() -> None:
    traced = trace(Tied(), X4, front_end="fx")
    assert [point.name for point in traced.cut_points] == ["before"]
    with pytest.raises(
        ValueError,
        match=r"cannot cut at 'after': 'again.weight' is used before it and, as 'after_tied.weight', after it",
    ):
        traced.resolve("after")
    with pytest.raises(ValueError, match=r"'again.weight' would be in part 0 and in part 1"):
        traced.cut(["after"])
    with pytest.raises(ValueError, match=r"'again.weight' would be in part 1 and in part 3"):
        traced.cut(["before", "again", "after"])
    assert len(traced.cut(["before"])) == 2


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.sin(x).chunk(2, dim=1)
        return left * right


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        positive = x > 0
        return torch.where(positive, torch.sin(x), torch.cos(x))


class MergedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = torch.sin(x.reshape(-1, 2))
        return rows.reshape(-1, 4)


@pytest.mark.parametrize(
    ("model", "legal", "illegal", "reason"),
    [
        (
            Halves(),
            ["sin", "getitem#1", "getitem#2"],
            "chunk",
            "'chunk' would cross it, which is neither a tensor nor a plain number",
        ),
        (MergedBatch(), [], "sin", r"'sin' of shape \(4, 2\) would cross it, not one row per sample"),
    ],
    ids=["tuple", "merged batch"],
)
def test_values_that_cannot_cross(model: nn.Module, legal: list[str], illegal: str, reason: str) -> None:
    traced = trace(model, X4)
    assert [point.name for point in traced.cut_points] == [name for name in legal if name != "getitem#1"]
    with pytest.raises(ValueError, match=f"cannot cut at '{illegal}': {reason}"):
        traced.resolve(illegal)


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@leaf
class LeafGate(Gate):
    pass


class Gated(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), gate)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(x))


def test_untraceable_model_names_module_line_and_way_out() -> None:
    with pytest.raises(ValueError, match=r"cannot trace module 'block.1': .*test_refused\.py:\d+ .return x if.*leaf"):
        trace(Gated(Gate()), X4, front_end="fx")


def test_leaf_module_stays_whole() -> None:
    traced = trace(Gated(LeafGate()), X4)
    assert [point.name for point in traced.cut_points] == ["block.0", "block.1"]


def test_untraceable_child_of_a_chain_becomes_one_node() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(4, 4), gated=Gated(Gate()), last=nn.ReLU()))
    traced = trace(model, X4)
    assert [(point.name, point.unit) for point in traced.cut_points] == [("first", 1), ("gated", 2)]
    for x in (torch.ones(2, 4), -torch.ones(2, 4)):
        first, middle, last = traced.cut([1, 2])
        assert torch.equal(last(middle(first(x))), model(x))


class OtherInEval(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x + 1


class FunctionalDepth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return stochastic_depth(x, 0.5, "row", training=self.training)


class FunctionalNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=self.training or self.training is None)


class WritesThroughAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        h[:, :2].add_(1)
        return h


class SecondName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        old = h
        h += 1
        return h + old


class Overwrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x).uniform_()


class WritesToOut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.empty_like(x)
        torch.add(x, x, out=h)
        return h


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.idle = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (OtherInEval, r"something else in eval\(\) than in train\(\).*'mul' "),
        (FunctionalDepth, r"something else in eval\(\).* nn.Dropout"),
        (FunctionalNorm, r"something else in eval\(\).*'batch_norm' .* differ"),
        (WritesThroughAView, "in place through a view or a second name"),
        (SecondName, "in place through a view or a second name"),
        (Overwrites, r"'uniform_' \(uniform_\) writes in place and has no out-of-place counterpart"),
        (WritesToOut, "'add' .add. writes through out="),
        (TwoInputs, r"forward of TwoInputs takes \(x, mask\), but a model of one unnamed input must take one tensor"),
        (Idle, "idle.bias, idle.weight of Idle are never used"),
    ],
)
def test_models_without_a_graph_are_refused(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        trace(build(), X4, front_end="fx")


class BindsOut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x, dim=-1)


def test_an_out_that_nothing_is_written_to_is_none() -> None:
    """Bound with its defaults, ``normalize`` has ``out=None``: XCiT and EdgeNeXt of timm were refused for it."""
    model = nn.Sequential(nn.Linear(4, 4), BindsOut(), nn.Linear(4, 2))
    assert torch.equal(trace(model, X4, front_end="fx").root(X4), model(X4))
