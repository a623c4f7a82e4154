"""Quality of guessed labels, of labels and of clusters that have no names, each beside what chance gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raysplit.seeding import generator

_PERMUTATIONS = 20


def accuracy(y: Tensor, guess: Tensor) -> float:
    """Return the share of right guesses of labels [n]; a guess of -1 is none, and wrong."""
    return float((y == guess).double().mean())


def majority_share(y: Tensor) -> float:
    """Return the share of the most frequent label: what guessing it always gives."""
    return float(torch.bincount(y).max() / len(y))


def balanced_accuracy(y: Tensor, guess: Tensor) -> float:
    """Return the mean over the labels that occur of the share of right guesses; chance is one over their number."""
    recalls = [(guess[y == label] == label).double().mean() for label in torch.bincount(y).nonzero()[:, 0]]
    return float(torch.stack(recalls).mean())


def named_clusters(y: Tensor, clusters: Tensor, num_classes: int) -> Tensor:
    """Return the label of each row [n] when clusters get names, each another one, that fit the labels best.

    This is an upper bound for an attacker that knows one sample of each class.
    """
    size = max(num_classes, int(clusters.max()) + 1)
    counts = torch.zeros(size, size, dtype=torch.int64)
    counts.index_put_((clusters, y), torch.ones_like(y), accumulate=True)
    _, names = linear_sum_assignment(counts.numpy(), maximize=True)
    return torch.from_numpy(np.asarray(names))[clusters]


def cluster_chance(y: Tensor, clusters: Tensor, num_classes: int, seed: int) -> tuple[float, float]:
    """Return mean and standard deviation of the accuracy of `named_clusters` for labels in random order.

    It is above one over the number of classes, because the best names are chosen afterwards.
    """
    rng = generator(seed, "cluster chance")
    drawn = [y[torch.from_numpy(rng.permutation(len(y)))] for _ in range(_PERMUTATIONS)]
    reached = [accuracy(mixed, named_clusters(mixed, clusters, num_classes)) for mixed in drawn]
    return float(np.mean(reached)), float(np.std(reached))


def count_error(counts: npt.NDArray[np.float64], guess: npt.NDArray[np.float64]) -> float:
    """Return the mean absolute error of guessed shares of classes [C]."""
    return float(np.abs(counts / counts.sum() - guess / max(guess.sum(), 1e-12)).mean())
