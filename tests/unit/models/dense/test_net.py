"""Parameter counts of the published network, gradient scaling and inheritance by groups."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from torch import nn

from raysplit.models.dense.net import (
    MultiTaskModel,
    build_mas_model,
    decoder_state,
    encoder_state,
    group_state,
    scale_gradient,
)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("width", "count"), [(0.5, 2_051_632), (1.0, 4_089_192), (2.0, 8_052_856), (4.0, 15_960_528)])
def test_encoder_has_the_published_number_of_parameters(width: float, count: int) -> None:
    assert num_parameters(build_mas_model(("d",), image_size=256, width=width).encoder) == count


def test_decoders_and_whole_models_have_the_published_number_of_parameters() -> None:
    nine = build_mas_model(tuple("sdnkterca"), image_size=256)
    assert {task: num_parameters(decoder) for task, decoder in nine.decoders.items()} == {
        "s": 116_624,
        "d": 115_808,
        "n": 115_904,
        "k": 115_808,
        "t": 115_808,
        "e": 115_808,
        "r": 115_808,
        "c": 115_856,
        "a": 115_904,
    }
    assert num_parameters(nine) == 5_132_520
    shared = num_parameters(nine.encoder)
    separate = {tasks: sum(shared + num_parameters(nine.decoders[t]) for t in tasks) for tasks in ("sdnkt", "erckt")}
    assert separate == {"sdnkt": 21_025_912, "erckt": 21_025_048}
    assert shared + sum(num_parameters(nine.decoders[t]) for t in "sdnkt") == 4_669_144
    assert shared + sum(num_parameters(nine.decoders[t]) for t in "erckt") == 4_668_280


@pytest.mark.parametrize("encoder", ["xception", "resnet18"])
@pytest.mark.parametrize("image_size", [32, 64])
def test_small_images_reach_a_bottleneck_of_4_by_4(encoder: str, image_size: int) -> None:
    model = build_mas_model(("s", "c"), image_size=image_size, encoder=encoder).eval()
    x = torch.zeros(2, 3, image_size, image_size)
    assert model.encoder(x).shape[-2:] == (4, 4)
    outputs = model(x)
    assert outputs["s"].shape == (2, 18, image_size, image_size)
    assert outputs["c"].shape == (2, 2, image_size, image_size)
    assert list(model(x, tasks=["c"])) == ["c"]


def test_the_full_network_has_a_bottleneck_of_16_by_16() -> None:
    model = build_mas_model(("d",), image_size=256).eval()
    x = torch.zeros(1, 3, 256, 256)
    assert model.encoder(x).shape == (1, 256, 16, 16)
    assert model(x)["d"].shape == (1, 1, 256, 256)


class HalvingEncoder(nn.Conv2d):
    """An encoder of a user's own."""

    def __init__(self, *, in_channels: int, image_size: int, width: float) -> None:
        super().__init__(in_channels, 8, 2, stride=2)


def nearest_decoder(*, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Module:
    """A decoder of a user's own."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.Upsample(scale_factor=2**num_doublings))


def test_encoder_and_decoder_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("users_own_net")
    module.HalvingEncoder = HalvingEncoder  # type: ignore[attr-defined]
    module.nearest_decoder = nearest_decoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_own_net", module)
    x = torch.zeros(1, 1, 6, 6)
    model = build_mas_model(("n",), image_size=6, in_channels=1, encoder="users_own_net:HalvingEncoder")
    assert model(x)["n"].shape == (1, 3, 6, 6)
    model = build_mas_model(
        ("n",),
        image_size=6,
        in_channels=1,
        encoder="users_own_net:HalvingEncoder",
        decoder="users_own_net:nearest_decoder",
    )
    assert model(x)["n"].shape == (1, 3, 6, 6)
    assert num_parameters(model.decoders) == 8 * 3 + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ()}, "distinct letters"),
        ({"tasks": ("s", "x")}, "distinct letters"),
        ({"tasks": ("s", "s")}, "distinct letters"),
        ({"width": 0.0}, "width must be positive"),
        ({"encoder": "resnet18", "width": 2.0}, "one width"),
        ({"encoder": "nowhere.at.all:thing"}, "encoder 'nowhere.at.all:thing': there is no module 'nowhere'"),
        ({"encoder": "vgg"}, "unknown encoder 'vgg'"),
        ({"image_size": 40, "encoder": "resnet18", "decoder": "xception", "tasks": ("d",)}, None),
        ({"image_size": 256, "encoder": "resnet18", "decoder": "xception"}, "3 or 4 times"),
        ({"image_size": 72, "encoder": "resnet18"}, "power of two"),
        ({"image_size": 70}, "multiple of 16"),
    ],
)
def test_errors_name_the_rule(options: dict[str, object], message: str | None) -> None:
    settings = {"tasks": ("d",), "image_size": 64} | options
    if message is None:
        build_mas_model(**settings)  # type: ignore[arg-type]
        return
    with pytest.raises(ValueError, match=message):
        build_mas_model(**settings)  # type: ignore[arg-type]


def test_initial_values_of_a_task_do_not_depend_on_the_other_tasks() -> None:
    pair, single = (build_mas_model(tasks, image_size=32, seed=3) for tasks in (("s", "d"), ("d",)))
    torch.testing.assert_close(encoder_state(pair.state_dict()), encoder_state(single.state_dict()), rtol=0, atol=0)
    d_of_pair, d_alone = decoder_state(pair.state_dict(), "d"), decoder_state(single.state_dict(), "d")
    torch.testing.assert_close(d_of_pair, d_alone, rtol=0, atol=0)
    other = build_mas_model(("d",), image_size=32, seed=4)
    assert not torch.equal(next(other.encoder.parameters()), next(single.encoder.parameters()))


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    build_mas_model(("d",), image_size=32)
    assert torch.equal(before, torch.random.get_rng_state())


def test_convolutions_start_with_the_published_spread() -> None:
    weight = build_mas_model(("d",), image_size=256).encoder[3].weight  # 3x3, 24 -> 48
    assert isinstance(weight, torch.Tensor)
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 48)), rel=0.02)


def test_scale_gradient_is_the_identity_forward() -> None:
    z = torch.tensor([1.0, -2.0], requires_grad=True)
    scaled = scale_gradient(z, 0.25)
    assert torch.equal(scaled, z)
    (scaled * torch.tensor([4.0, 8.0])).sum().backward()
    assert torch.equal(z.grad, torch.tensor([1.0, 2.0]))  # type: ignore[arg-type]


def four_task_toy() -> MultiTaskModel:
    torch.manual_seed(0)
    decoders = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 1), "c": nn.Linear(3, 1), "d": nn.Linear(3, 1)})
    return MultiTaskModel(nn.Linear(2, 3), decoders).double()


def test_encoder_gradient_is_the_sum_over_tasks_divided_by_the_root_of_their_number() -> None:
    model, x = four_task_toy(), torch.randn(5, 2, dtype=torch.float64)
    gradients = []
    for task in model.tasks:
        loss = model.decoders[task](model.encoder(x)).pow(2).mean()  # past the scaling
        gradients.append(torch.autograd.grad(loss, model.encoder.weight)[0])
    sum(output.pow(2).mean() for output in model(x).values()).backward()  # type: ignore[union-attr]
    expected = torch.stack(gradients).sum(dim=0) / 2  # four tasks
    torch.testing.assert_close(model.encoder.weight.grad, expected, rtol=1e-12, atol=1e-15)


def test_a_single_task_has_factor_one() -> None:
    encoder, decoder = nn.Linear(2, 3), nn.Linear(3, 1)
    model, x = MultiTaskModel(encoder, nn.ModuleDict({"a": decoder})), torch.randn(5, 2)
    plain = torch.autograd.grad(decoder(encoder(x)).sum(), encoder.weight)[0]
    model(x)["a"].sum().backward()
    assert torch.equal(encoder.weight.grad, plain)  # type: ignore[arg-type]


def test_groups_inherit_encoder_and_decoders_so_their_outputs_equal_the_merged_models() -> None:
    merged = build_mas_model(tuple("sdnkt"), image_size=32, seed=1)
    merged(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))  # moves the running statistics
    merged.eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    for tasks in (("s", "d", "n"), ("k", "t")):
        group = build_mas_model(tasks, image_size=32, seed=99)
        group.load_state_dict(group_state(merged.state_dict(), tasks))
        torch.testing.assert_close(group.eval()(x), merged(x, tasks), rtol=0, atol=0)
