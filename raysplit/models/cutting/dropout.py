"""Dropout whose masks do not depend on where the model is cut.

Torch draws dropout masks one after another from one global stream, so the masks of a layer depend on what the same
process drew before, and a cut model would differ from the whole one. `SeededDropout` draws its mask from a stream keyed
by the seed of the step and its own path in the model. Dropout: Srivastava et al., JMLR 15 (2014); dropping whole
channels: Tompson et al. (2015), arXiv 1411.4280; stochastic depth: Huang et al. (2016), arXiv 1603.09382.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn

from raysplit.seeding import derive

Grain = Literal["element", "channel", "row", "batch"]

_step_seed: ContextVar[int | None] = ContextVar("dropout_seed", default=None)


class dropout_stream:
    """A context in which every `SeededDropout` draws its mask from the stream ``(seed, its path)``.

    Use one seed per optimization step and replica. Outside this context masks come from torch's global stream.
    """

    __slots__ = ("_seed", "_token")

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        self._token = _step_seed.set(self._seed)

    def __exit__(self, *raised: object) -> None:
        _step_seed.reset(self._token)


def step_seed() -> int | None:
    """Return the seed of the present `dropout_stream`, or None outside of one."""
    return _step_seed.get()


class Keyed(nn.Module):
    """A module whose draws are keyed by the seed of the step and its own path in the model."""

    def keep_everything(self) -> None:
        """Turn dropout off, also in training mode, for comparisons."""
        raise NotImplementedError


class SeededDropout(Keyed):
    """Dropout with its own random stream, in training mode only; kept values are scaled by 1/(1-p).

    Args:
        path: name of the module in the whole model, the key of its stream.
        p: probability to drop.
        grain: unit that one draw drops or keeps: an element, a channel of a sample, a sample (row) or the batch.
    """

    def __init__(self, path: str, p: float, grain: Grain) -> None:
        super().__init__()
        self.path = path
        self.p = p
        self.grain = grain

    def keep_everything(self) -> None:
        self.p = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        seed = _step_seed.get()
        stream = None if seed is None else torch.Generator(x.device).manual_seed(derive(seed, self.path))
        keep = 1.0 - self.p
        mask = torch.empty(self._mask_shape(x), dtype=x.dtype, device=x.device).bernoulli_(keep, generator=stream)
        if keep > 0:
            mask.div_(keep)
        return x * mask

    def _mask_shape(self, x: Tensor) -> tuple[int, ...]:
        kept_dims = {"element": x.ndim, "channel": 2, "row": 1, "batch": 0}[self.grain]
        return (*x.shape[:kept_dims], *[1] * (x.ndim - kept_dims))

    def extra_repr(self) -> str:
        return f"path={self.path!r}, p={self.p}, grain={self.grain!r}"


def draws_masks(root: nn.Module) -> bool:
    """Whether the forward pass of the module needs the seed of a step."""
    return any(isinstance(module, Keyed) for module in root.modules())


class SteadyDropout(SeededDropout):
    """Dropout in evaluation as well as in training, as ``F.dropout(x)`` without ``training``."""

    def train(self, mode: bool = True) -> SteadyDropout:
        super().train(True)
        return self


MODULE_GRAINS: dict[type[nn.Module], Grain] = {
    nn.Dropout: "element",
    nn.Dropout1d: "channel",
    nn.Dropout2d: "channel",
    nn.Dropout3d: "channel",
}


def seed_dropouts(root: nn.Module) -> None:
    """Replace each dropout and stochastic-depth module under `root` by a `SeededDropout`.

    The state dict does not change, since neither kind has state. `nn.AlphaDropout` keeps torch's stream.
    """
    made: dict[nn.Module, SeededDropout] = {}
    for path, module in list(root.named_modules(remove_duplicate=False)):
        grain = _grain(module)
        if grain is None:
            continue
        if module not in made:
            p = getattr(module, "drop_prob", None) if type(module).__name__ == "DropPath" else getattr(module, "p")  # noqa: B009
            made[module] = SeededDropout(path, float(p or 0.0), grain)
            made[module].train(module.training)
        root.set_submodule(path, made[module])


def _grain(module: nn.Module) -> Grain | None:
    if type(module).__name__ == "StochasticDepth" and type(module).__module__.startswith("torchvision."):
        grain: Grain = getattr(module, "mode")  # noqa: B009
        return grain
    if type(module).__name__ == "DropPath" and type(module).__module__.startswith("timm."):
        return "row" if getattr(module, "scale_by_keep", True) else None
    return MODULE_GRAINS.get(type(module))
