"""Transforms of whole batches: picklable records that map ``x`` [B, ...] and a generator to the input of a model.

For pictures this input is ``float32`` [B, ...]. Where samples have several inputs, ``x`` has tensors by name. The order
of transforms is: to the unit range, augmentation, the owner's domain (see ``with_domain``), normalization. A transform
draws from the given generator alone. Evaluation transforms draw nothing, except ``GaussianNoise`` where a setting
adds noise to test inputs as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.data.inputs import UNNAMED, Values, map_values
from raysplit.seeding import generator, keyed_draws


class Transform(Protocol):
    """A map from a batch, a tensor [B, ...] or tensors by name, to another; random ones draw from ``gen``."""

    def __call__(self, x: Any, gen: torch.Generator) -> Any: ...


_NO_STREAM = torch.Generator()  # shared, because seeding a generator takes as long as fetching a batch


def transformed(x: Values, transform: Transform, seed: Callable[[], int]) -> Values:
    """Apply a transform to ``x`` [B, ...]; ``seed`` is not called for a transform whose class has ``draws = False``."""
    if not draws(transform):
        made: Values = transform(x, _NO_STREAM)
        return made
    stream = seed()
    gen = torch.Generator().manual_seed(stream)
    is_ours = type(transform).__module__.startswith("raysplit.")
    with nullcontext() if is_ours else keyed_draws(stream):  # another one may draw from a global stream
        made = transform(x, gen)
    return made  # noqa: RET504  # typed above


def draws(transform: Any) -> bool:
    """Return whether a transform may draw random numbers; ``draws`` of a class does not count for its subclasses."""
    return "draws" not in vars(type(transform)) or bool(transform.draws)


@dataclass(frozen=True, kw_only=True)
class Compose:
    """The transforms ``steps``, one after the other."""

    steps: tuple[Transform, ...]

    @cached_property
    def draws(self) -> bool:
        return any(draws(step) for step in self.steps)

    def __call__(self, x: Any, gen: torch.Generator) -> Any:
        for step in self.steps:
            x = step(x, gen)
        return x


@dataclass(frozen=True, kw_only=True)
class ToUnit:
    """Scaling of ``uint8`` images to [0, 1] as ``float32``; each of several inputs is converted by its own type.

    Floating inputs become ``float32`` with the same values, other integers (such as tokens) become int64, and ``bool``
    masks stay unchanged.
    """

    draws: ClassVar[bool] = False

    def __call__(self, x: Any, gen: torch.Generator) -> Any:
        return map_values(_to_unit, x)


def _to_unit(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        return x.float() / 255
    if x.is_floating_point():
        return x.float()
    return x if x.dtype == torch.bool else x.long()


@dataclass(frozen=True, kw_only=True)
class KeepIds:
    """Whole numbers as int64 for the inputs ``names`` (``x`` is the one unnamed input), which may be stored as bytes.

    Other inputs are converted as by `ToUnit`.
    """

    draws: ClassVar[bool] = False

    names: tuple[str, ...] = (UNNAMED,)

    def __call__(self, x: Any, gen: torch.Generator) -> Any:
        if isinstance(x, Tensor):
            return x.long() if UNNAMED in self.names else _to_unit(x)
        return {name: value.long() if name in self.names else _to_unit(value) for name, value in x.items()}


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """Normalization ``(x - mean) / std`` per channel of ``x`` [B, C, ...]; a single number holds for all channels."""

    draws: ClassVar[bool] = False

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0.0) <= 0:
            raise ValueError(
                f"mean is {self.mean} and std is {self.std}; give one of each per channel, every std above 0"
            )

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        if len(self.mean) not in (1, x.shape[1]):
            raise ValueError(f"{len(self.mean)} means for {x.shape[1]} channels; give 1 or {x.shape[1]}")
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        return (x - x.new_tensor(self.mean).view(per_channel)) / x.new_tensor(self.std).view(per_channel)


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Random crop of each image [C, H, W] to H x W, after ``padding`` zeros on each side."""

    padding: int = 4

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        height, width = x.shape[-2:]
        shift = torch.randint(2 * self.padding + 1, (2, len(x)), generator=gen, device=gen.device).to(x.device)
        padded = F.pad(x, (self.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, 2p+1, 2p+1, H, W], a view
        return windows[torch.arange(len(x), device=x.device), :, shift[0], shift[1]].float()


@dataclass(frozen=True, kw_only=True)
class RandomHorizontalFlip:
    """Mirroring of each image left to right with the given probability."""

    probability: float = 0.5

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        flipped = torch.rand(len(x), generator=gen, device=gen.device).to(x.device) < self.probability
        return torch.where(flipped.view(-1, 1, 1, 1), x.flip(-1), x).float()


@dataclass(frozen=True, kw_only=True)
class PixelPermutation:
    """Fixed permutation of the pixels, determined by ``seed`` and the same for every image and channel."""

    draws: ClassVar[bool] = False

    seed: int

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        pixels = x.flatten(2)  # [B, C, H*W]
        return pixels[:, :, _permutation(self.seed, pixels.shape[2]).to(x.device)].view_as(x).float()


@lru_cache(maxsize=256)
def _permutation(seed: int, num_pixels: int) -> Tensor:
    return torch.from_numpy(generator(seed, "pixel-permutation").permutation(num_pixels))


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Counter-clockwise rotation by ``angle_deg`` degrees, with zeros at the corners.

    Quarter turns of square images move pixels exactly; other angles interpolate linearly.
    """

    draws: ClassVar[bool] = False
    angle_deg: float

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        height, width = x.shape[-2:]
        quarter_turns, rest_deg = divmod(self.angle_deg % 360, 90)
        if rest_deg == 0 and (height == width or quarter_turns % 2 == 0):
            return x.rot90(int(quarter_turns), dims=(-2, -1)).float()
        angle = torch.deg2rad(torch.tensor(self.angle_deg, dtype=torch.float64))
        cos, sin, aspect = angle.cos().item(), angle.sin().item(), height / width
        matrix = x.new_tensor([[cos, -sin * aspect, 0], [sin / aspect, cos, 0]], dtype=torch.float32)
        grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class ColourMap:
    """Product of ``matrix`` [C_out][C_in] and the channels of each pixel, which mixes, swaps or weights colors."""

    draws: ClassVar[bool] = False
    matrix: tuple[tuple[float, ...], ...]

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        if len(self.matrix[0]) != x.shape[1]:
            raise ValueError(
                f"the color map takes {len(self.matrix[0])} channels, the images have {x.shape[1]}; give matrix one "
                f"column per channel"
            )
        return torch.einsum("oc,bchw->bohw", x.new_tensor(self.matrix, dtype=torch.float32), x.float())


@dataclass(frozen=True, kw_only=True)
class Invert:
    """Negative ``1 - x`` of images in the unit range."""

    draws: ClassVar[bool] = False

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        return 1 - x.float()


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Independent noise N(0, ``sigma`` ** 2) on every value of images in the unit range."""

    sigma: float

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        return x.float() + self.sigma * torch.randn(x.shape, generator=gen, device=gen.device).to(x.device)


def normalisation(transform: Transform) -> Normalise | None:
    """Return the normalization step of ``transform``, or None."""
    steps = transform.steps if isinstance(transform, Compose) else (transform,)
    return next((step for step in steps if isinstance(step, Normalise)), None)


def with_domain(transform: Transform, domain: Transform) -> Compose:
    """Insert ``domain`` into ``transform``, after augmentation and before normalization, on unit-range pixels."""
    steps = transform.steps if isinstance(transform, Compose) else (transform,)
    at = next((i for i, step in enumerate(steps) if isinstance(step, Normalise)), len(steps))
    return Compose(steps=(*steps[:at], domain, *steps[at:]))
