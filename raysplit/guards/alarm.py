"""An owner's alarm against a server that trains something else than the task.

The honest gradient of a cross-entropy depends on the label of its row; that of a critic, as in feature-space hijacking
(Pasquini et al. 2021, arXiv 2012.02670), does not. The owner knows its labels, so it reads them out of the gradients
that it gets: each row has the label of the nearest of five known rows of each class, by their cosine. This is in the
spirit of SplitGuard (Erdogan et al. 2022, arXiv 2108.09052).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)

EPOCHS = 2
"""Number of first epochs that are watched; all of them have to be bad."""
_KNOWN = 5
_LEAST = 1e-9


class AlarmRaised(RuntimeError):
    """Raised by an owner whose gradients do not depend on its labels."""


class Alarm:
    """The watch over the gradients of an owner's first epochs.

    Attributes:
        results: share of labels that were read out of the gradients of each epoch, and the share that would be right by
            chance; -1 for both where there was nothing to read.
    """

    def __init__(self) -> None:
        self.results: list[tuple[float, float]] = []
        self._rows: list[Tensor] = []
        self._labels: list[Tensor] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing is watched any more."""
        return len(self.results) >= EPOCHS

    def add(self, g: Tensor, labels: Tensor) -> None:
        """Add the rows [B, q] of a gradient and their labels [B]."""
        self._rows.append(g.float())
        self._labels.append(labels.long())

    def give_up(self) -> None:
        """Forget the epoch that is under way."""
        self._rows, self._labels = [], []

    def judge(self, owner: str, senders: Sequence[str]) -> None:
        """End an epoch.

        Raises:
            AlarmRaised: the gradients of both first epochs did not depend on the labels.
        """
        rows, labels = torch.cat(self._rows), torch.cat(self._labels)
        self.give_up()
        if len(torch.unique(labels)) < 2:
            if not self.results:
                logger.info("%s has samples of one class, and cannot watch the gradients that it gets", owner)
            self.results.append((-1.0, -1.0))
            return
        found = read_labels(rows, labels)
        if found is None:
            logger.warning("%s: no signal in the gradients of %s: all rows are alike", owner, ", ".join(senders))
            self.results.append((-1.0, -1.0))
            return
        self.results.append(found)
        if self.is_over and all(0 <= share < (chance + 1) / 2 for share, chance in self.results):
            shares = " and ".join(f"{share:.0%}" for share, _ in self.results)
            raise AlarmRaised(
                f"{owner} stops: the gradients that {', '.join(senders)} sent do not depend on its labels. In its "
                f"first {EPOCHS} epochs {shares} of the labels could be read out of them, {found[1]:.0%} would be "
                f"by chance, and honest gradients of cross-entropy give nearly all. The server trains something "
                f"else than the task, and may be after the samples; look at what runs there, or set privacy.alarm: "
                f"false"
            )


def read_labels(rows: Tensor, labels: Tensor) -> tuple[float, float] | None:
    """Read labels out of gradients by their nearest known rows.

    Args:
        rows: rows of gradients [N, q].
        labels: their labels [N].

    Returns:
        The share of labels that were right and that of the most frequent label, both of the rows that are not known;
        None where there is nothing to read.
    """
    norms = rows.norm(dim=1)
    has_some = norms > _LEAST
    rows, labels = rows[has_some], labels[has_some]
    if not len(rows):
        return None
    rows = F.normalize(rows, dim=1)
    if float((rows - rows[0]).abs().max()) < _LEAST:
        return None
    known = torch.zeros(len(rows), dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        of_class = torch.nonzero(labels == label)[:, 0]
        known[of_class[: min(_KNOWN, len(of_class) // 2)]] = True
    if not known.any() or known.all():
        return None
    nearest = labels[known][(rows[~known] @ rows[known].T).argmax(dim=1)]
    own = labels[~known]
    return float((nearest == own).float().mean()), float(torch.bincount(own).max()) / len(own)
