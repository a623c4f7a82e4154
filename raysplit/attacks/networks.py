"""The networks of attackers: a decoder from smashed data to samples, and critics that tell two kinds apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysplit.seeding import derive, keyed_draws, torch_generator

Encode = Callable[[Tensor], Tensor]
"""Map from samples [n, ...] in the unit range to what an observer would see of them, defences included."""

_MOST_BASE = 8  # largest side of the maps that a vector becomes first
_HIDDEN = 256


def built(make: Callable[[], nn.Module], seed: int, *keys: str) -> nn.Module:
    """Build a network whose weights come from the stream ``(seed, *keys)``."""
    with keyed_draws(derive(seed, "attack", *keys)):
        return make()


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The attacker's own mean and standard deviation of smashed data, for its networks."""

    mean: float
    std: float

    @classmethod
    def of(cls, z: Tensor) -> Scale:
        """Take them from smashed data of one's own."""
        values = z.detach().double()
        std = float(values.std()) if values.numel() > 1 else 0.0
        return cls(mean=float(values.mean()), std=std or 1.0)

    def __call__(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std


class Batches:
    """Endless batches of rows, each epoch in an order of its own."""

    def __init__(self, num_rows: int, size: int, seed: int, *keys: str) -> None:
        self._num_rows, self._size = num_rows, min(size, num_rows)
        self._gen = torch_generator(seed, "attack", *keys)
        self._left = torch.zeros(0, dtype=torch.int64)

    def next(self) -> Tensor:
        """Return the numbers of the rows of the next batch."""
        if len(self._left) < self._size:
            self._left = torch.randperm(self._num_rows, generator=self._gen)
        batch, self._left = self._left[: self._size], self._left[self._size :]
        return batch


def decoder(z_shape: tuple[int, ...], x_shape: tuple[int, ...]) -> nn.Module:
    """Build a decoder from smashed data [n, *z_shape] to samples [n, *x_shape] in the unit range.

    Maps of features are doubled up to the size of pictures, with convolutions between; a vector becomes small maps
    first. Samples that are no pictures are decoded by a perceptron.
    """
    if len(x_shape) != 3:
        layers = [nn.Flatten(), nn.Linear(math.prod(z_shape), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(_HIDDEN, math.prod(x_shape)), nn.Sigmoid(), _Shaped(x_shape))
    channels, height, width = x_shape
    front: list[nn.Module] = []
    if len(z_shape) == 3:
        sides, num_in = z_shape[1:], z_shape[0]
    else:
        sides, num_in = (_base(height), _base(width)), 64
        front = [nn.Flatten(), nn.Linear(math.prod(z_shape), 64 * math.prod(sides)), _Shaped((64, *sides))]
    front += [nn.Conv2d(num_in, 64, 3, padding=1), nn.ReLU()]
    num_in = 64
    while sides[0] < height or sides[1] < width:
        sides = (min(2 * sides[0], height), min(2 * sides[1], width))
        front += [nn.Upsample(size=sides), nn.Conv2d(num_in, 32, 3, padding=1), nn.ReLU()]
        num_in = 32
    if sides != (height, width):  # a part that makes maps larger
        front.append(nn.Upsample(size=(height, width)))
    last = [nn.Conv2d(num_in, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, channels, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*front, *last)


def critic(shape: tuple[int, ...]) -> nn.Module:
    """Build a network that gives one number for each row [n, *shape], smashed data or samples."""
    if len(shape) != 3:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.LeakyReLU(0.2), nn.Linear(128, 1), nn.Flatten(0)
        )
    stride = 2 if min(shape[1:]) >= 8 else 1
    return nn.Sequential(
        nn.Conv2d(shape[0], 32, 3, padding=1, stride=stride),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 3, padding=1, stride=stride),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 1),
        nn.Flatten(0),
    )


class _Shaped(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self._shape)


def _base(side: int) -> int:
    """Return the side of the small maps that a vector becomes: 4 for 8, 7 for 28, 8 for 32."""
    halved = -(-side // 2)
    while halved > _MOST_BASE:
        halved = -(-halved // 2)
    return halved


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step of an optimizer down the gradient of a loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def applied(network: nn.Module, z: Tensor, rows: int = 256) -> Tensor:
    """Apply a network in evaluation mode to rows, some at a time."""
    was = network.training
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(part) for part in torch.split(z, rows)])
    network.train(was)
    return found
