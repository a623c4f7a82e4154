"""The networks of the zoo: names, options, and the sizes the papers publish."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import Tensor, nn

from raysplit.models.cutting.split import TracedModel, trace
from raysplit.models.zoo import build_model, model_names


def traced(name: str, *input_shape: int, num_classes: int = 10) -> TracedModel:
    model = build_model(name, input_shape=input_shape, num_classes=num_classes)
    return trace(model, torch.zeros(1, *input_shape))


def num_weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def unit_shapes(model: TracedModel) -> list[tuple[int, ...]]:
    return [point.shapes[0] for point in model.cut_points if point.unit is not None]


def weights_before_each_cut(model: TracedModel) -> list[int]:
    return [num_weights(model.cut([cut])[0]) for cut in range(1, len(model.units))]


def test_resnet18_cifar_cuts_as_published() -> None:
    model = traced("resnet18_cifar", 3, 32, 32)
    assert num_weights(model.root) == 11_173_962
    assert weights_before_each_cut(model) == [149_824, 675_392, 2_775_104, 11_168_832]
    assert unit_shapes(model) == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    kib_per_sample = [p.num_bytes_per_sample // 1024 for p in model.cut_points if p.unit is not None]
    assert [32 * kib for kib in kib_per_sample] == [8192, 4096, 2048, 1024]  # of a batch of 32: 8, 4, 2, 1 MiB


def test_cnn4_cuts_as_published() -> None:
    model = traced("cnn4", 1, 28, 28)
    assert num_weights(model.root) == 1_592_258
    assert weights_before_each_cut(model) == [416, 13_248, 1_582_248]
    assert unit_shapes(model) == [(16, 14, 14), (32, 7, 7), (1000,)]


@pytest.mark.parametrize("side", [28, 14])
def test_mlp_small_halves(side: int) -> None:
    model = traced("mlp_small", 1, side, side)
    assert num_weights(model.root) == 7_690
    assert weights_before_each_cut(model)[0] == 6_304
    assert unit_shapes(model) == [(32,), (32,)]


def test_mlp_small_averages_windows_of_large_images() -> None:
    pool = build_model("mlp_small", input_shape=(1, 28, 28), num_classes=10).get_submodule("hidden1.0")
    image = torch.arange(28.0).repeat(28, 1)[None, None]  # every row is 0 1 2 ... 27
    assert pool(image)[0, 0, 5].tolist() == [0.5 + 2 * column for column in range(14)]


def test_mtsl_networks() -> None:
    assert num_weights(traced("mlp_28", 1, 28, 28).root) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    model = traced("cnn_cifar", 3, 32, 32)
    assert unit_shapes(model) == [(32, 32, 32), (32, 16, 16), (64, 8, 8), (128,)]
    assert weights_before_each_cut(model) == [896, 10_144, 28_640, 102_496]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.root.modules())


@pytest.mark.parametrize("name", ["mlp_small", "mlp_28", "cnn_cifar"])
def test_mtsl_networks_start_he_normal(name: str) -> None:
    shape = (3, 32, 32) if name == "cnn_cifar" else (1, 28, 28)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(name, input_shape=shape, num_classes=10)
    for key, weight in model.named_parameters():
        if key.endswith("bias"):
            assert not weight.any()
        else:
            assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.2), key


@pytest.mark.slow
def test_resnet101_mpsl_units_as_published() -> None:
    """Sizes follow the published profile of activations (KiB of a batch of 128) and parameters of each unit."""
    model = traced("resnet101_mpsl", 3, 32, 32)
    assert len(model.units) == 37
    assert num_weights(model.root) == 42_737_546
    blocks = [73_984] * 3 + [295_680] + [295_424] * 3 + [1_181_184] + [1_180_672] * 22 + [4_721_664] + [4_720_640] * 2
    assert weights_before_each_cut(model) == [*accumulate([9_472, 128, *blocks, 0])]
    batch_kib = [128 * p.num_bytes_per_sample // 1024 for p in model.cut_points if p.unit is not None]
    assert batch_kib == [8192] + [2048] * 4 + [1024] * 4 + [512] * 23 + [256] * 4
    assert unit_shapes(model)[-1] == (512,)


@pytest.mark.slow  # 139 million weights are drawn
def test_vgg19_mpsl_units_as_published() -> None:
    """Max-pools padded by 1 give sides 32, 17, 9, 5, 3, 2; activations in KiB of a batch of 128."""
    model = traced("vgg19_mpsl", 3, 32, 32)
    assert len(model.units) == 25
    assert num_weights(model.root) == 139_611_210
    batch_kib = [128 * p.num_bytes_per_sample / 1024 for p in model.cut_points if p.unit is not None]
    assert batch_kib == [
        *(32768, 32768, 9248),
        *(18496, 18496, 5184),
        *(10368, 10368, 10368, 10368, 3200),
        *(6400, 6400, 6400, 6400, 2304),
        *(2304, 2304, 2304, 2304, 1024),
        *(12544, 2048, 2048),
    ]
    assert [num_weights(model.root.get_submodule(unit)) * 4 / 1024 for unit in ("conv0", "conv1", "dense22")] == [
        *(7.0, 144.25, 401_424.0)
    ]


def test_group_norm_has_no_running_state() -> None:
    model = build_model("resnet18_cifar", input_shape=(1, 28, 28), num_classes=7, norm="group")
    assert not list(model.buffers())
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 7)
    with pytest.raises(ValueError, match="norm of resnet18_cifar must be 'batch' or 'group', got 'layer'"):
        build_model("resnet18_cifar", input_shape=(1, 28, 28), num_classes=7, norm="layer")


@pytest.mark.parametrize(
    ("name", "input_shape"),
    [
        *[(name, (1, 8, 8)) for name in ("mlp", "cnn8", "cnn", "cnn4", "cnn_cifar", "resnet18_cifar", "mlp_small")],
        *[(name, (3, 32, 32)) for name in ("resnet18", "wide_resnet50_2", "mobilenet_v3_large", "efficientnet_b0")],
    ],
)
def test_models_fit_their_input_and_classes(name: str, input_shape: tuple[int, ...]) -> None:
    model = build_model(name, input_shape=input_shape, num_classes=4).eval()
    assert model(torch.zeros(2, *input_shape)).shape == (2, 4)


def test_names_of_the_zoo() -> None:
    names = model_names()
    assert names[:3] == ["mlp", "mlp_small", "mlp_28"]
    assert len(names) == len(set(names))
    assert {"resnet18_cifar", "vgg19_mpsl", "resnet50", "resnext50_32x4d", "vgg11_bn", "efficientnet_v2_s"} <= set(
        names
    )
    assert "inception_v3" in names  # a name is tried; where a model cannot be cut, the message says why


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown model 'resnet18_cfar'; did you mean 'resnet18_cifar'\? \(one of mlp, .*, package.module:name\)",
    ):
        build_model("resnet18_cfar", input_shape=(3, 32, 32), num_classes=10)
    with pytest.raises(ValueError, match=r"mlp has no option \['depth'\]; it takes \['hidden'\]"):
        build_model("mlp", input_shape=(1, 8, 8), num_classes=10, depth=3)
    with pytest.raises(ValueError, match=r"resnet18 takes images of 3 channels, got input_shape \(1, 28, 28\)"):
        build_model("resnet18", input_shape=(1, 28, 28), num_classes=10)
    with pytest.raises(ValueError, match=r"needs an input \(channels, height, width\), got \(64,\)"):
        build_model("cnn", input_shape=(64,), num_classes=10)


def plain(width: int) -> nn.Module:
    return nn.Linear(width, width)


def no_model() -> str:
    return "a word"


class Sized(nn.Module):
    def __init__(self, num_classes: int, input_shape: tuple[int, ...], bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(input_shape[0], num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


def test_models_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "my_models", sys.modules[__name__])
    model = build_model("my_models:plain", input_shape=(6,), num_classes=2, width=5)
    assert model(torch.zeros(1, 5)).shape == (1, 5)
    model = build_model("my_models:Sized", input_shape=(6,), num_classes=2, bias=False)
    assert [weight.shape for weight in model.parameters()] == [(2, 6)]
    with pytest.raises(ValueError, match="model 'my_models:absent': module 'my_models' has no name 'absent'"):
        build_model("my_models:absent", input_shape=(6,), num_classes=2)
    with pytest.raises(ValueError, match=r"'my_models:no_model' made a str; it must return a torch.nn.Module"):
        build_model("my_models:no_model", input_shape=(6,), num_classes=2)
