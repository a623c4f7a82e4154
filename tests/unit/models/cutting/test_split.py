"""Where a model can be cut, what the cuts are called, and how states are merged."""

from __future__ import annotations

import operator
from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from raysplit.models.cutting.split import CutPoint, merge, trace
from raysplit.models.zoo import build_model


def chain() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            low=nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()),
            nothing=nn.Sequential(),
            high=nn.Sequential(nn.Flatten(), nn.Linear(32, 3)),
        )
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6)
        self.act = nn.ReLU()
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        return self.last(h + self.act(self.second(h)))


X1 = torch.zeros(1, 1, 4, 4)
X4 = torch.zeros(2, 4)


def keys(part: nn.Module) -> list[str]:
    return list(part.state_dict())


def test_cut_points_of_a_chain() -> None:
    def point(index: int, name: str, shape: tuple[int, ...], num_bytes: int, unit: int | None) -> CutPoint:
        return CutPoint(index=index, name=name, shapes=(shape,), num_bytes_per_sample=num_bytes, unit=unit)

    traced = trace(chain(), X1)
    assert traced.units == ("low", "nothing", "high")
    assert traced.cut_points == (
        point(1, "low.0", (2, 4, 4), 128, None),
        point(2, "low.1", (2, 4, 4), 128, 2),  # `nothing` is over at once
        point(3, "high.0", (32,), 128, None),
    )


def test_cut_points_inside_a_residual_block() -> None:
    traced = trace(Residual(), X4)
    assert [(p.index, p.name, p.shapes, p.num_bytes_per_sample, p.unit) for p in traced.cut_points] == [
        (1, "first", ((6,),), 24, 1),
        (2, "act#1", ((6,),), 24, 2),
        (3, "second", ((6,), (6,)), 48, 3),  # the shortcut crosses, too
        (4, "act#2", ((6,), (6,)), 48, 4),
        (5, "add", ((6,),), 24, 5),
    ]
    assert traced.units == ("first", "act#1", "second", "act#2", "add", "last")


@pytest.mark.parametrize(
    ("cut", "first_keys"),
    [
        (0, []),
        ("low", ["low.0.weight", "low.0.bias"]),
        (1, ["low.0.weight", "low.0.bias"]),
        (2, ["low.0.weight", "low.0.bias"]),
        ("high.0", ["low.0.weight", "low.0.bias"]),
        (3, ["low.0.weight", "low.0.bias", "high.1.weight", "high.1.bias"]),
        ("high", ["low.0.weight", "low.0.bias", "high.1.weight", "high.1.bias"]),
    ],
)
def test_parts_keep_the_names_of_the_model(cut: int | str, first_keys: list[str]) -> None:
    model = chain()
    first, last = trace(model, X1).cut([cut])
    assert keys(first) == first_keys
    assert keys(first) + keys(last) == keys(model)


def test_a_module_called_twice_ends_with_its_last_call() -> None:
    traced = trace(Residual(), X4)
    assert traced.resolve("act") == traced.resolve("act#2") == traced.resolve(4) == 4
    assert traced.resolve("act#1") == 2


def test_a_tensor_crosses_once_and_several_come_as_a_tuple() -> None:
    first, middle, last = trace(Residual(), X4).cut(["second", "add"])
    crossing = first(torch.ones(5, 4))
    assert [z.shape for z in crossing] == [(5, 6), (5, 6)]
    assert last(middle(*crossing)).shape == (5, 2)


def test_resnet18_cuts_by_module_path() -> None:
    model = build_model("resnet18", input_shape=(3, 32, 32), num_classes=10)
    traced = trace(model, torch.zeros(1, 3, 32, 32))
    points = {point.name: point for point in traced.cut_points}
    assert points["layer1.0.bn1"].shapes == ((64, 8, 8), (64, 8, 8))
    assert points["layer2.0.downsample.1"].shapes == ((128, 4, 4), (128, 4, 4))
    first, last = traced.cut(["layer2"])
    assert keys(first)[-1] == "layer2.1.bn2.num_batches_tracked"
    assert keys(last)[0] == "layer3.0.conv1.weight"
    assert keys(first) + keys(last) == keys(model)


def test_tracing_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True))
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_before = torch.get_rng_state()
    trace(model, X1)
    assert [module.training for module in model] == [True, False, True, True]
    assert model[2].inplace
    assert model[3].inplace
    assert isinstance(model[3], nn.Dropout)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_before)


@pytest.mark.parametrize("cut", [-1, 4, "middle", "low.2", ""])
def test_unknown_cut_points_to_the_legal_ones(cut: int | str) -> None:
    with pytest.raises(
        ValueError, match=r"no place to cut .*; give 0\.\.3, the units .*; raysplit cuts lists all places"
    ):
        trace(chain(), X1).resolve(cut)


def test_cuts_that_go_backwards_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from input to output, got \[3, 1\]"):
        trace(chain(), X1).cut([3, 1])


def test_every_cut_point_lies_where_it_says() -> None:
    traced = trace(build_model("mobilenet_v3_small", input_shape=(3, 32, 32), num_classes=3), torch.zeros(1, 3, 32, 32))
    positions = [traced.resolve(point.index) for point in traced.cut_points]
    assert all(operator.lt(a, b) for a, b in pairwise(positions))
    assert positions == [traced.resolve(point.name) for point in traced.cut_points]
    assert [point.index for point in traced.cut_points] == [*range(1, len(positions) + 1)]


def test_merge_puts_the_keys_in_the_order_of_the_model() -> None:
    model = chain()
    first, last = trace(model, X1).cut([1])
    merged = merge([last.state_dict(), first.state_dict()], like=model)
    assert list(merged) == ["low.0.weight", "low.0.bias", "high.1.weight", "high.1.bias"]
    assert merged["high.1.bias"] is not None
    assert torch.equal(merged["high.1.bias"], model.state_dict()["high.1.bias"])


def test_merge_refuses_missing_double_and_foreign_keys() -> None:
    model = chain()
    first, last = (part.state_dict() for part in trace(model, X1).cut([1]))
    with pytest.raises(ValueError, match=r"no part has high\.1\.bias, high\.1\.weight"):
        merge([first], like=model)
    with pytest.raises(ValueError, match=r"low\.0\.bias, low\.0\.weight come twice, the second time in part 2"):
        merge([first, last, first], like=model)
    with pytest.raises(ValueError, match=r"Sequential has no extra"):
        merge([first, last, {"extra": torch.zeros(1)}], like=model)
