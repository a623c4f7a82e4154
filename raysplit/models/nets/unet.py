"""A U-Net: one class for each pixel, from maps of several sizes.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015, arXiv 1505.04597).
The maps of the way down are also used on the way up, so that behind a cut between them several tensors cross. With
group norm (Wu & He 2018, arXiv 1803.08494) an owner's batch statistics do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.options import Count


class UNet(nn.Module):
    """Stages ``down1 .. downK`` on halved maps, then ``up{K-1} .. up1`` on doubled ones, then ``head``.

    Args:
        num_channels: channels of the pictures.
        num_classes: number of classes.
        widths: channels of the maps of each size, from the largest to the smallest.
        groups: groups of the normalization.
    """

    def __init__(self, num_channels: int, num_classes: int, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        self.depth = len(widths)
        for level, (before, width) in enumerate(zip([num_channels, *widths[:-1]], widths, strict=True), start=1):
            setattr(self, f"down{level}", _stage(before, width, groups))
        for level in range(self.depth - 1, 0, -1):
            setattr(self, f"up{level}", _stage(widths[level] + widths[level - 1], widths[level - 1], groups))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, C, H, W] for pictures [N, 3, H, W]."""
        maps = []
        for level in range(1, self.depth + 1):
            x = getattr(self, f"down{level}")(x if level == 1 else F.max_pool2d(x, 2))
            maps.append(x)
        for level in range(self.depth - 1, 0, -1):
            x = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), maps[level - 1]], 1)
            x = getattr(self, f"up{level}")(x)
        logits: Tensor = self.head(x)
        return logits


def _stage(num_in: int, num_out: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (num_in, num_out):
        layers += [nn.Conv2d(before, num_out, 3, padding=1, bias=False), nn.GroupNorm(groups, num_out), nn.ReLU()]
    return nn.Sequential(*layers)


def unet(
    input_shape: tuple[int, ...], num_classes: int, *, widths: tuple[Count, ...] = (12, 24, 48), groups: Count = 4
) -> UNet:
    """Build a U-Net for pictures, with about 67 thousand weights by default.

    Args:
        input_shape: shape of a picture (channels, height, width); both sides are halved between two widths.
        num_classes: number of classes of a pixel.
        widths: channels of the maps of each size, from the largest to the smallest.
        groups: groups of the normalization, which divide every width.

    Raises:
        ValueError: for inputs that are no pictures or cannot be halved so often, and widths that groups do not divide.
    """
    times = 2 ** (len(widths) - 1)
    if len(input_shape) != 3 or any(side % times for side in input_shape[1:]):
        raise ValueError(
            f"unet with {len(widths)} widths takes pictures whose sides are multiples of {times}, got {input_shape}; "
            f"set data.image_size, or give fewer model.widths"
        )
    if any(width % groups for width in widths):
        raise ValueError(
            f"model.widths are {list(widths)} and model.groups is {groups}, which must divide each of them"
        )
    return UNet(input_shape[0], num_classes, widths, groups)
