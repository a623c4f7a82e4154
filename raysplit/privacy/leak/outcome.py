"""The outcome of one attack: its figures beside their chance levels, and the samples that a picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysplit.attacks.pace import Pace
from raysplit.privacy.measures.guesses import accuracy, balanced_accuracy, majority_share
from raysplit.privacy.measures.pictures import is_picture, nmse, psnr, sample_psnr, sample_ssim, ssim
from raysplit.privacy.measures.score import gain

NUM_SHOWN = 12
"""Samples of an attack that are kept for a picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What an attack has got.

    Attributes:
        row: its entry in ``leak.json``.
        samples: columns over the attacked samples, for ``samples.parquet``.
        shown: the first reconstructions [k, ...]; None for attacks on labels.
        original: the samples behind them.
    """

    row: Mapping[str, Any]
    samples: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    shown: Tensor | None = field(default=None, repr=False)
    original: Tensor | None = field(default=None, repr=False)


def of_pictures(x: Tensor, guess: Tensor, mean: Tensor) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the figures of reconstructions [n, ...] beside those of the mean sample of the attacker, and by sample."""
    chance = mean.expand_as(x)
    figures = {"nmse": nmse(x, guess, mean), "nmse_chance": 1.0}
    figures |= {"psnr": psnr(x, guess), "psnr_chance": psnr(x, chance)}
    error = (x.double() - guess.double()).square().flatten(1).mean(dim=1)
    columns = {"psnr": sample_psnr(x, guess).numpy(), "mse": error.numpy()}
    if is_picture(tuple(x.shape[1:])):
        figures |= {"ssim": ssim(x, guess), "ssim_chance": ssim(x, chance)}
        columns["ssim"] = sample_ssim(x, guess).numpy()
        figures["gain"] = gain(figures["ssim"], figures["ssim_chance"])
    else:
        figures["gain"] = gain(figures["nmse"], 1.0, best=0.0)
    return figures, columns


def of_labels(
    y: Tensor, guess: Tensor, num_classes: int, chance: tuple[float, float] | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the figures of guessed labels [n] beside chance, by default that of the most frequent label."""
    level, spread = chance or (majority_share(y), 0.0)
    figures = {
        "label_accuracy": accuracy(y, guess),
        "label_accuracy_chance": level,
        "label_chance_sd": spread,
        "label_balanced": balanced_accuracy(y, guess),
        "label_balanced_chance": 1 / max(1, min(num_classes, int((torch.bincount(y) > 0).sum()))),
        "undetermined": float((guess < 0).double().mean()),
    }
    figures["gain"] = gain(figures["label_accuracy"], level)
    return figures, {"label": y.numpy(), "guess": guess.numpy()}


def ended(pace: Pace) -> dict[str, Any]:
    """Return what is said of the end of an attack."""
    return {"steps": pace.num_steps, "truncated": pace.truncated, "seconds": round(pace.passed_s, 2)}


def rounded(value: Any) -> Any:
    """Return plain data with numbers of at most 6 significant digits, as files and programs get them."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return value


def first(x: Tensor) -> Tensor:
    """Return the samples that are shown."""
    return x[:NUM_SHOWN].detach().to(torch.float32)
