"""Models that do something else on a device without values, on which they are followed first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.spec import ModelSpec

ME = "unit.models.exporting.test_on_processor"


class AsksForItsDevice(nn.Module):
    """A model that takes another way where it is not on the processor, as mixtures of experts do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(h if h.device.type == "cpu" else -h)


def test_a_model_that_asks_for_its_device_is_followed_on_the_processor() -> None:
    """Mixtral and GPT-Neo were refused, as their graphs failed where the models do not."""
    spec = ModelSpec(name=f"{ME}:AsksForItsDevice", input_shape=(4,), num_classes=3, seed=0)
    found = spec.with_front_end()
    assert found.front_end == "export_cpu"
    found.check_cuttable()
    x = torch.randn(2, 4)
    first, second = found.parts([found.cut_points()[0].name])
    assert torch.equal(second(first(x)), spec.build()(x))


def test_a_front_end_that_is_named_is_the_only_one_tried() -> None:
    spec = ModelSpec(name=f"{ME}:AsksForItsDevice", input_shape=(4,), num_classes=3, seed=0, front_end="export")
    assert spec.with_front_end().front_end == "export"
    with pytest.raises(CannotCut, match="the graph of AsksForItsDevice"):
        spec.check_cuttable()


class Draws(nn.Module):
    """A number that does not depend on the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)


def drawing(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), Draws(), nn.Linear(5, num_classes))


def test_a_number_that_a_trace_would_freeze_is_drawn_in_each_step_wherever_the_model_is_cut() -> None:
    spec = ModelSpec(name=f"{ME}:drawing", input_shape=(4,), num_classes=3, seed=0).with_front_end()
    x = torch.randn(2, 4)

    def output(cuts: list[str], step: int) -> Tensor:
        z = x
        with dropout_stream(step):
            for part in spec.parts(cuts):
                z = part.train()(z)
        return z

    whole = [output([], step) for step in (1, 2)]
    assert not torch.equal(*whole)
    for point in spec.cut_points():
        assert all(torch.equal(output([point.name], step), z) for step, z in zip((1, 2), whole, strict=True))


def test_tensors_are_made_on_the_device_of_the_part() -> None:
    spec = ModelSpec(name=f"{ME}:drawing", input_shape=(4,), num_classes=3, seed=0).with_front_end()
    devices = {str(v) for node in spec.traced().graph.nodes for v in node.kwargs.values() if "device" in node.kwargs}
    assert "meta" in devices  # which stands for the part's own
    assert "cpu" not in devices
