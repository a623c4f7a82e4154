"""Closeness of reconstructions to samples: normalized error, PSNR and SSIM.

Samples are in the unit range, n rows of any shape. No figure means anything without its chance level, the figure of the
mean sample: an SSIM of 0.39 is *nothing* on handwritten digits of 8 x 8 pixels.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), with a Gaussian
window of 11 x 11 and sigma 1.5, of which only positions within the picture count. Pictures with shorter sides get the
largest odd window that fits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_PSNR_DB = 100.0
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def nmse(x: Tensor, guess: Tensor, mean: Tensor) -> float:
    """Return the squared error of guesses [n, ...] in proportion to that of guessing ``mean`` [...].

    1 is chance, 0 is exact, and 1 - nmse is the explained variance.
    """
    wrong = (x.double() - guess.double()).square().sum()
    return float(wrong / (x.double() - mean.double()).square().sum())


def psnr(x: Tensor, guess: Tensor) -> float:
    """Return the mean over samples of the peak signal-to-noise ratio in dB, at most 100 for each."""
    return float(sample_psnr(x, guess).mean())


def sample_psnr(x: Tensor, guess: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each sample [n] in dB."""
    error = (x.double() - guess.double()).square().flatten(1).mean(dim=1)
    return (-10 * error.clamp(min=10 ** (-MOST_PSNR_DB / 10)).log10()).clamp(max=MOST_PSNR_DB)


def ssim(x: Tensor, guess: Tensor) -> float:
    """Return the mean structural similarity of pictures [n, C, H, W]; 1 only where they are equal."""
    return float(sample_ssim(x, guess).mean())


def sample_ssim(x: Tensor, guess: Tensor) -> Tensor:
    """Return the structural similarity of each picture [n], the mean over channels and positions."""
    if x.ndim != 4 or x.shape != guess.shape:
        raise ValueError(f"SSIM compares pictures [n, C, H, W] of one shape, got {list(x.shape)}, {list(guess.shape)}")
    x, guess = x.double(), guess.double()
    size = min(_WINDOW, *(side - 1 + side % 2 for side in x.shape[-2:]))

    def local(values: Tensor) -> Tensor:
        return F.conv2d(values.flatten(0, 1).unsqueeze(1), _window(size))  # [n * C, 1, h, w]

    mean_x, mean_guess = local(x), local(guess)
    var_x, var_guess = local(x * x) - mean_x**2, local(guess * guess) - mean_guess**2
    covariance = local(x * guess) - mean_x * mean_guess
    light = (2 * mean_x * mean_guess + _C1) / (mean_x**2 + mean_guess**2 + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_guess + _C2)
    return (light * structure).view(len(x), -1).mean(dim=1)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Return whether samples of this shape are pictures, for which there is an SSIM."""
    return len(shape) == 3 and min(shape[1:]) >= 3


def _window(size: int) -> Tensor:
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-(at**2) / (2 * _SIGMA**2))
    window = line.outer(line)
    return (window / window.sum()).view(1, 1, size, size)
