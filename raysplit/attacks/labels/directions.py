"""Labels from the direction of gradient rows: in clusters, or beside rows whose labels are known.

The gradient of cross-entropy at the logits is ``p - e_y``: rows of one class point the same way, most of all early in
training. Li et al., "Label leakage and protection in two-party split learning" (2022, arXiv 2102.08504), attack two
classes by norm and cosine; these are the forms for any number of classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.seeding import derive, generator

LEAST_NORM = 1e-9
"""Norm below which a row has no direction; such rows stay without a guess (-1)."""
_STARTS = 4


def directed(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows [n, ...] as unit vectors [n, q], and which of them have a direction [n]."""
    flat = rows.detach().flatten(1).double()
    return F.normalize(flat, dim=1, eps=1e-300), flat.norm(dim=1) > LEAST_NORM


def clusters(g: Tensor, num_classes: int, seed: int) -> Tensor:
    """Divide gradient rows [n, ...] into clusters by direction, and return the cluster of each, from 0; -1 for none.

    Clusters have no names: whoever knows one sample of each gives it the class.
    """
    from sklearn.cluster import KMeans

    unit, has_direction = directed(g)
    found = torch.full((len(g),), -1)
    known = unit[has_direction]
    num_clusters = min(num_classes, len(np.unique(known.numpy(), axis=0)))
    if num_clusters < 2:
        return torch.where(has_direction, 0, found)
    state = derive(seed, "attack", "clusters") % 2**32
    fitted = KMeans(n_clusters=num_clusters, n_init=_STARTS, random_state=state).fit(known.numpy())
    found[has_direction] = torch.from_numpy(fitted.labels_).to(found.dtype)
    return found


def nearest(rows: Tensor, known: Tensor, known_y: Tensor) -> Tensor:
    """Give each row [n, ...] the label of the nearest class, by the mean cosine with the known rows of each class.

    Rows without a direction get -1.
    """
    (unit, has_direction), (theirs, theirs_have) = directed(rows), directed(known)
    classes = classes_in(known_y[theirs_have])
    if not len(classes):
        return torch.full((len(rows),), -1)
    means = torch.stack([theirs[theirs_have & (known_y == label)].mean(dim=0) for label in classes])
    guess = classes[(unit @ means.T).argmax(dim=1)]
    return torch.where(has_direction, guess, -1)


def norms(g: Tensor) -> Tensor:
    """Return the norm of each gradient row [n], which is larger for rarer classes."""
    length: Tensor = torch.linalg.vector_norm(g.detach().flatten(1).double(), dim=1)
    return length


def classes_in(y: Tensor) -> Tensor:
    """Return the classes that occur among labels [n], rising."""
    return torch.bincount(y).nonzero()[:, 0]


def few_of_each(y: Tensor, count: int, seed: int) -> Tensor:
    """Choose the numbers of ``count`` rows of each class that the attacker knows; fewer where there are fewer."""
    rng = generator(seed, "attack", "known labels")
    order = torch.from_numpy(rng.permutation(len(y)))
    return torch.cat([order[y[order] == label][:count] for label in classes_in(y)]).sort().values
