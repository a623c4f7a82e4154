"""Small networks, perceptrons and plain convolutional ones, each an ``nn.Sequential`` of named units.

* `mlp_small`, `mlp_28`, `cnn_cifar`: for multi-task split learning (Zheng, Eryilmaz, 2024, arXiv 2406.00150);
  He-normal weights, no batch norm. The usual cut is after unit 1 of the perceptrons, after unit 2 of `cnn_cifar`.
* `cnn4`: the four-layer CNN of the split federated learning experiments of Huang, Tian, Tang (2023), arXiv 2308.11953;
  cut L_c = k is "after k units".
* `mlp`, `cnn8`, `cnn`: cheap networks for tests and examples.

All builders take the shape of one sample and the number of classes. Flattening belongs to the unit that takes vectors,
so what crosses the cut before it keeps its shape.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from raysplit.options import Count

Shape = tuple[int, ...]


def _chain(*units: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(units))


def _dense(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_in, num_out), nn.ReLU())


def _dense_from_maps(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *_dense(num_in, num_out))


def _conv(num_in: int, num_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2), nn.ReLU()]


def _channels_and_sides(input_shape: Shape) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise ValueError(
            f"a convolutional network needs an input (channels, height, width), got {input_shape}; reshape the "
            f"data to images, or set model.name to mlp"
        )
    channels, height, width = input_shape
    return channels, height, width


def _he_normal(model: nn.Sequential) -> nn.Sequential:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return model


def mlp(input_shape: Shape, num_classes: int, *, hidden: Sequence[Count] = (64,)) -> nn.Sequential:
    """Build a perceptron with ReLU, with the units ``hidden1 .. hiddenN, output``.

    Args:
        input_shape: shape of one sample, which is flattened.
        num_classes: number of outputs.
        hidden: width of each hidden layer.
    """
    sizes = [math.prod(input_shape), *hidden]
    units: list[tuple[str, nn.Module]] = []
    for number, (num_in, num_out) in enumerate(pairwise(sizes), start=1):
        layer = _dense_from_maps(num_in, num_out) if number == 1 else _dense(num_in, num_out)
        units.append((f"hidden{number}", layer))
    output: nn.Module = nn.Linear(sizes[-1], num_classes)
    if not hidden:
        output = nn.Sequential(nn.Flatten(), output)
    return _chain(*units, ("output", output))


def mlp_small(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build the perceptron 196 -> 32 | 32 -> 32 -> C for 14x14 images; 28x28 images are averaged over 2x2 windows."""
    pool = [nn.AvgPool2d(2)] if input_shape[-2:] == (28, 28) else []
    num_inputs = math.prod(input_shape) // (4 if pool else 1)
    return _he_normal(
        _chain(
            ("hidden1", nn.Sequential(*pool, *_dense_from_maps(num_inputs, 32))),
            ("hidden2", _dense(32, 32)),
            ("output", nn.Linear(32, num_classes)),
        )
    )


def mlp_28(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build the perceptron 784 -> 128 | 128 -> 64 -> C for 28x28 images."""
    return _he_normal(mlp(input_shape, num_classes, hidden=(128, 64)))


def cnn8(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build a network of two convolutions for 8x8 digits."""
    channels, height, width = _channels_and_sides(input_shape)
    return _chain(
        ("conv1", nn.Sequential(*_conv(channels, 16, 3))),
        ("conv2", nn.Sequential(*_conv(16, 32, 3), nn.MaxPool2d(2))),
        ("hidden", _dense_from_maps(32 * (height // 2) * (width // 2), 64)),
        ("output", nn.Linear(64, num_classes)),
    )


def cnn(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build a network of two pooled convolutions for 28x28 images, with about 52 thousand weights."""
    channels, height, width = _channels_and_sides(input_shape)
    return _chain(
        ("conv1", nn.Sequential(*_conv(channels, 8, 3), nn.MaxPool2d(2))),
        ("conv2", nn.Sequential(*_conv(8, 16, 3), nn.MaxPool2d(2))),
        ("hidden", _dense_from_maps(16 * (height // 4) * (width // 4), 64)),
        ("output", nn.Linear(64, num_classes)),
    )


def cnn4(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build a network of two pooled 5x5 convolutions (16, 32) and two dense layers (1000, C)."""
    channels, height, width = _channels_and_sides(input_shape)
    return _chain(
        ("conv1", nn.Sequential(*_conv(channels, 16, 5), nn.MaxPool2d(2))),
        ("conv2", nn.Sequential(*_conv(16, 32, 5), nn.MaxPool2d(2))),
        ("hidden", _dense_from_maps(32 * (height // 4) * (width // 4), 1000)),
        ("output", nn.Linear(1000, num_classes)),
    )


def cnn_cifar(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build a network of four 3x3 convolutions (32, 32, 64, 128) and a global mean; the paper cuts after ``conv2``."""
    channels, _, _ = _channels_and_sides(input_shape)
    return _he_normal(
        _chain(
            ("conv1", nn.Sequential(*_conv(channels, 32, 3))),
            ("conv2", nn.Sequential(*_conv(32, 32, 3), nn.MaxPool2d(2))),
            ("conv3", nn.Sequential(*_conv(32, 64, 3), nn.MaxPool2d(2))),
            ("conv4", nn.Sequential(*_conv(64, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())),
            ("output", nn.Linear(128, num_classes)),
        )
    )
