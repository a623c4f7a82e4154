"""The costs of the deployments of a multi-task model: weights at the edge, traffic, latency, break-even rates.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) compare, for tasks j with backbone parameters P_b and head
parameters P_j of w bytes each, features of Z bytes, a raw input of I bytes and a link of R bit/s:

    LoC-STL  local, one network per task   sum_j (P_b + P_j) w    nothing sent   sum_j t_e(b + j)
    LoC-MTL  local, shared backbone        (P_b + sum_j P_j) w    nothing sent   t_e(b) + sum_j t_e(j)
    RoC      everything remote             0                      I              8 I/R + t_s(b) + sum_j t_s(j)
    SC       split after the backbone      P_b w                  Z              t_e(b) + 8 Z/R + sum_j t_s(j)

All sizes are exact integers. Per image, Z / (3 h w) = C / 3072 for every backbone of stride 32 at any resolution: the
cut sends less than float32 pixels, but with EfficientNet-B0 (C = 1280) more than uint8 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from raysplit.models.classifier.heads import HIDDEN, FeatureCut, backbone_kind, num_features, num_parameters

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The counts of one multi-task model for one image of 3 x image_size x image_size.

    Attributes:
        backbone: name of the backbone.
        image_size: height and width of the image.
        backbone_parameters: parameters of the backbone.
        head_parameters: parameters of each head.
        head_classes: classes of each head.
        features: values of the flattened backbone output Z_b.
    """

    backbone: str
    image_size: int
    backbone_parameters: int
    head_parameters: tuple[int, ...]
    head_classes: tuple[int, ...]
    features: int

    @property
    def pixels(self) -> int:
        """The values of the raw image, which are its bytes as uint8."""
        return 3 * self.image_size * self.image_size

    @property
    def separate_parameters(self) -> int:
        """The parameters of LoC-STL: a backbone and a head for each task."""
        return sum(self.backbone_parameters + head for head in self.head_parameters)

    @property
    def shared_parameters(self) -> int:
        """The parameters of LoC-MTL: one backbone and all heads."""
        return self.backbone_parameters + sum(self.head_parameters)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One paradigm: the weights at the edge, and the bytes that one image sends up and (as logits) down."""

    paradigm: str
    edge_weight_bytes: int
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True, kw_only=True)
class Times:
    """The seconds of compute per image: backbone and heads, on the edge device and on the server."""

    edge_backbone_s: float
    edge_heads_s: tuple[float, ...]
    server_backbone_s: float
    server_heads_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """The rates at which SC answers sooner: above or below a rate, or always or never, without a rate."""

    wins: Literal["above", "below", "always", "never"]
    rate_bit_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class ActivationBytes:
    """The bytes of the float32 activations of one image in one pass, by two measures that must not be mixed.

    Attributes:
        peak: largest input + output of one layer, the need of a device that runs layer after layer.
        total: sum of all layers' outputs, often printed as the size of a forward pass.
    """

    peak: int
    total: int


def model_sizes(
    backbone: str, num_classes: Sequence[int], image_size: int, hidden: int = HIDDEN, cut: FeatureCut = "flat"
) -> Sizes:
    """Return the counts of a model with one head per entry of `num_classes`, without allocating weights.

    Args:
        backbone: name of the backbone.
        num_classes: classes of each head.
        image_size: height and width of the images.
        hidden: width of the heads' hidden layer.
        cut: form of the features that the heads take.

    Raises:
        ValueError: without a head, or for a head of fewer than 2 classes.
    """
    if not num_classes or min(num_classes) < 2:
        raise ValueError(f"a model needs at least one head, each of at least 2 classes, got {list(num_classes)}")
    with torch.device("meta"):
        trunk = backbone_kind(backbone).build()
    features = num_features(trunk, image_size, cut)
    return Sizes(
        backbone=backbone,
        image_size=image_size,
        backbone_parameters=num_parameters(trunk),
        head_parameters=tuple(features * hidden + hidden + hidden * k + k for k in num_classes),
        head_classes=tuple(num_classes),
        features=features,
    )


def deployments(
    sizes: Sizes,
    *,
    weight_bytes: int = FLOAT_BYTES,
    feature_bytes: int = FLOAT_BYTES,
    input_bytes: int | None = None,
    num_servers: int = 1,
) -> tuple[Deployment, ...]:
    """Return the costs of LoC-STL, LoC-MTL, RoC and SC.

    Args:
        sizes: counts of the model.
        weight_bytes: bytes per parameter.
        feature_bytes: bytes per value of the features.
        input_bytes: bytes of the raw image as sent; None takes float32 pixels.
        num_servers: number of devices that hold heads; the features are sent once to each.
    """
    sent = FLOAT_BYTES * sizes.pixels if input_bytes is None else input_bytes
    answer = FLOAT_BYTES * sum(sizes.head_classes)
    separate, shared = sizes.separate_parameters * weight_bytes, sizes.shared_parameters * weight_bytes
    split, features = sizes.backbone_parameters * weight_bytes, num_servers * sizes.features * feature_bytes
    return (
        Deployment(paradigm="LoC-STL", edge_weight_bytes=separate, up_bytes=0, down_bytes=0),
        Deployment(paradigm="LoC-MTL", edge_weight_bytes=shared, up_bytes=0, down_bytes=0),
        Deployment(paradigm="RoC", edge_weight_bytes=0, up_bytes=sent, down_bytes=answer),
        Deployment(paradigm="SC", edge_weight_bytes=split, up_bytes=features, down_bytes=answer),
    )


def compute_s(paradigm: str, times: Times) -> float:
    """Return the seconds of compute for one image; the parts on one device run one after the other."""
    edge_heads = sum(times.edge_heads_s)
    return {
        "LoC-STL": len(times.edge_heads_s) * times.edge_backbone_s + edge_heads,
        "LoC-MTL": times.edge_backbone_s + edge_heads,
        "RoC": times.server_backbone_s + sum(times.server_heads_s),
        "SC": times.edge_backbone_s + sum(times.server_heads_s),
    }[paradigm]


def break_even(other: Deployment, split: Deployment, times: Times) -> BreakEven:
    """Return the rates at which SC answers sooner than `other`, on a link without fixed latency.

    Against LoC-MTL these are the rates above R* = 8 Z / (sum_j t_e(j) - sum_j t_s(j)); against RoC, if Z < I and
    t_e > t_s, the rates below 8 (I - Z) / (t_e(b) - t_s(b)). For other signs it is the reverse, always or never.
    """
    slower_s = compute_s(split.paradigm, times) - compute_s(other.paradigm, times)
    more_bytes = split.up_bytes - other.up_bytes
    if slower_s * more_bytes < 0:
        return BreakEven(wins="above" if more_bytes > 0 else "below", rate_bit_per_s=-8 * more_bytes / slower_s)
    return BreakEven(wins="always" if slower_s < 0 or more_bytes < 0 else "never", rate_bit_per_s=None)


def activation_bytes(module: nn.Module, input_shape: Sequence[int]) -> ActivationBytes:
    """Return the activations of one sample of `input_shape` (without batch dimension), by a pass on the meta device."""
    inputs_and_outputs: list[tuple[int, int]] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        inputs_and_outputs.append((sum(x.numel() for x in inputs), output.numel()))

    layers = [layer for layer in module.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(record) for layer in layers]
    was_training = module.training
    on_meta = {name: v.to("meta") for name, v in [*module.named_parameters(), *module.named_buffers()]}
    try:
        torch.func.functional_call(module.eval(), on_meta, (torch.empty(1, *input_shape, device="meta"),))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return ActivationBytes(
        peak=FLOAT_BYTES * max(a + b for a, b in inputs_and_outputs),
        total=FLOAT_BYTES * sum(b for _, b in inputs_and_outputs),
    )
