"""The reduced Xception encoder and the dense-prediction decoder of merge-and-split training.

Zhuang, Wen, Lyu, Zhang, "MAS: Towards Resource-Efficient Federated Multiple-Task Learning", ICCV 2023,
arXiv 2307.11285; the network comes from Standley et al., "Which Tasks Should Be Learned Together in Multi-task
Learning?", ICML 2020, arXiv 1905.07553. Channel widths and parameter counts are those of the published models.

Images below 128 pixels get half the channels; images below 64 pixels keep the stem at full resolution as well, so
that 64x64 and 32x32 images both reach a 4x4 bottleneck.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FULL_WIDTHS = {  # capacity -> channels; parameters are proportional to capacity, so channels grow with its square root
    0.5: (24, 48, 64, 128, 360),
    1.0: (24, 48, 96, 192, 512),
    2.0: (32, 64, 128, 256, 728),
    4.0: (48, 96, 192, 384, 1024),
}
SMALL_WIDTHS = (12, 24, 48, 96, 192)
FULL_OUTPUT, SMALL_OUTPUT = 256, 96  # channels of the representation, whatever the capacity


def encoder_widths(image_size: int, width: float) -> tuple[int, ...]:
    """Return the channels after the two stem convolutions and the three down-sampling blocks."""
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}; 1.0 is the published network, 0.5 half its parameters")
    if image_size >= 128 and width in FULL_WIDTHS:
        return FULL_WIDTHS[width]
    base = FULL_WIDTHS[1.0] if image_size >= 128 else SMALL_WIDTHS
    return tuple(max(1, round(channels * math.sqrt(width))) for channels in base)


class SeparableConv(nn.Sequential):
    """A depthwise convolution and then a pointwise one, without bias, that keep the image size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )


class Block(nn.Module):
    """Two [ReLU, separable 3x3, BatchNorm] and, if `stride` is 2, a 2x2 stride-2 convolution, plus a skip."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, first_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReLU()] if first_relu else []
        layers += [SeparableConv(in_channels, out_channels, 3), nn.BatchNorm2d(out_channels)]
        layers += [nn.ReLU(), SeparableConv(out_channels, out_channels, 3), nn.BatchNorm2d(out_channels)]
        if stride == 2:
            layers.append(nn.Conv2d(out_channels, out_channels, 2, stride=2))
        self.body = nn.Sequential(*layers)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        body: Tensor = self.body(x)
        skip: Tensor = self.skip(x)
        return body + skip


class ChannelsLast(nn.Sequential):
    """A chain that computes in channels-last memory, with the same shapes.

    On CPUs this about halves the time of depthwise and transposed convolutions, here and in the decoders behind it.
    """

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
        return y


def xception_encoder(*, in_channels: int, image_size: int, width: float) -> nn.Sequential:
    """Build the encoder [B, in_channels, S, S] -> [B, 256, S/16, S/16].

    Images below 128 pixels give 96 channels, images below 64 pixels S/8 instead of S/16.

    Raises ValueError when S is not a multiple of that factor.
    """
    stem, c1, c2, c3, deep = encoder_widths(image_size, width)
    out = FULL_OUTPUT if image_size >= 128 else SMALL_OUTPUT
    stride = 2 if image_size >= 64 else 1
    if image_size % (8 * stride):
        raise ValueError(f"image_size must be a multiple of {8 * stride}, got {image_size}; resize the images")
    return ChannelsLast(
        nn.Conv2d(in_channels, stem, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(),
        nn.Conv2d(stem, c1, 3, padding=1, bias=False), nn.BatchNorm2d(c1), nn.ReLU(),
        Block(c1, c2, stride=2, first_relu=False), Block(c2, c3, stride=2), Block(c3, deep, stride=2),
        *(Block(deep, deep, stride=1) for _ in range(4)),
        SeparableConv(deep, out, 3), nn.BatchNorm2d(out), nn.ReLU(),
    )  # fmt: skip


class XceptionDecoder(nn.Module):
    """A decoder [B, C, h, w] -> [B, out_channels, h * 2**num_doublings, w * 2**num_doublings].

    A thin branch is enlarged bilinearly, a deep one by transposed convolutions; both are concatenated before the head.
    """

    def __init__(self, *, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> None:
        super().__init__()
        if num_doublings not in (3, 4):
            raise ValueError(
                f"the Xception decoder doubles the size 3 or 4 times, this encoder needs {num_doublings}; "
                'use decoder "staged" or your own by import path'
            )
        share = 1 if image_size >= 128 else 2
        thin, first, middle, last = 16 // share, 96 // share, 64 // share, 32 // share
        stages = [(first, middle, 3), (middle, middle, 5), (middle, last, 5)]
        if num_doublings == 3:
            del stages[1]
        self.thin = nn.Sequential(SeparableConv(in_channels, thin, 3), nn.BatchNorm2d(thin))
        deep: list[nn.Module] = [SeparableConv(in_channels, first, 3), nn.BatchNorm2d(first)]
        for number, (before, after, kernel_size) in enumerate(stages):
            doubled = last if number == len(stages) - 1 else before
            deep += [nn.ConvTranspose2d(before, doubled, 2, stride=2), nn.BatchNorm2d(doubled), nn.ReLU()]
            deep += [SeparableConv(doubled, after, kernel_size), nn.BatchNorm2d(after), nn.ReLU()]
        deep += [nn.ConvTranspose2d(last, last, 2, stride=2), nn.BatchNorm2d(last)]
        self.deep = nn.Sequential(*deep)
        self.head = nn.Sequential(nn.ReLU(), SeparableConv(last + thin, out_channels, 5))

    def forward(self, z: Tensor) -> Tensor:
        deep: Tensor = self.deep(z)
        thin = F.interpolate(self.thin(z), size=deep.shape[-2:], mode="bilinear", align_corners=False)
        output: Tensor = self.head(torch.cat([deep, thin], dim=1))
        return output
