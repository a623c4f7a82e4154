"""ResNet-18 as the shared encoder, and the staged decoder for it.

He et al., "Deep Residual Learning", CVPR 2016, arXiv 1512.03385; used as the alternative encoder by Zhuang et al.,
arXiv 2307.11285. The decoder takes any encoder whose output is smaller than the image by a power of two.
"""

from __future__ import annotations

from torch import nn

STAGE_WIDTHS = (256, 128, 64, 48, 32)


def resnet18_encoder(*, in_channels: int, image_size: int, width: float) -> nn.Sequential:
    """Build the encoder [B, in_channels, S, S] -> [B, 512, S/32, S/32].

    Below 128 pixels a 3x3 stem without pooling gives S/16, and below 64 pixels S/8.
    """
    if width != 1.0:
        raise ValueError(f'encoder "resnet18" has one width, 1.0, got {width}; use encoder "xception" to scale it')
    from torchvision.models import resnet18  # imported here, because it takes a second

    net = resnet18(weights=None)
    stem: list[nn.Module] = [nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False), net.bn1, net.relu]
    if image_size >= 128:
        stem.append(net.maxpool)
    else:
        stem[0] = nn.Conv2d(in_channels, 64, 3, stride=2 if image_size >= 64 else 1, padding=1, bias=False)
    return nn.Sequential(*stem, net.layer1, net.layer2, net.layer3, net.layer4)


def staged_decoder(*, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Sequential:
    """Build the decoder [B, C, h, w] -> [B, out_channels, S, S], whose stages double the size and smooth it.

    Raises ValueError when `num_doublings` is outside 1..5.
    """
    if not 1 <= num_doublings <= len(STAGE_WIDTHS):
        raise ValueError(
            f"the staged decoder doubles the size 1 to {len(STAGE_WIDTHS)} times, {image_size} pixels need "
            f"{num_doublings} after this encoder; name your own decoder by import path"
        )
    layers: list[nn.Module] = []
    before = in_channels
    for after in STAGE_WIDTHS[-num_doublings:]:
        layers += [nn.ConvTranspose2d(before, after, 2, stride=2), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    del layers[-3:]
    return nn.Sequential(*layers, nn.Conv2d(before, out_channels, 3, padding=1))
