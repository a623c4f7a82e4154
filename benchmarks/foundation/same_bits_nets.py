"""Networks for `same_bits.py` that hold what the built-in small ones lack: batch norm, dropout, tiny dense heads."""

from __future__ import annotations

from torch import nn


def normed(num_classes: int) -> nn.Sequential:
    """Batch norm on both sides of the cuts 1 to 3, on inputs of 8 x 8."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(96, 16), nn.ReLU()),
        nn.Linear(16, num_classes),
    )


def dropping(num_classes: int) -> nn.Sequential:
    """Dropout on both sides of the cuts 1 to 3, on inputs of 10 numbers."""
    return nn.Sequential(
        nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.Linear(16, 14), nn.ReLU(), nn.Dropout(0.5)),
        nn.Sequential(nn.Linear(14, 12), nn.ReLU(), nn.Dropout(0.3)),
        nn.Linear(12, num_classes),
    )


def tiny_encoder(*, in_channels: int, image_size: int, width: float) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 6, 4, stride=4, bias=False), nn.BatchNorm2d(6), nn.ReLU())


def tiny_decoder(*, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Module:
    size = 2**num_doublings
    up = nn.ConvTranspose2d(in_channels, 4, size, stride=size)
    return nn.Sequential(up, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, out_channels, 1))
