"""How an owner goes through its samples: the mini-batches of an epoch, and the rule for the last one.

An epoch of n samples has n // b full batches of b samples and one of the remaining n % b. That last batch may be too
small for a layer that computes statistics over it: batch norm cannot train on a single sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raysplit.tasks import Task

LastBatch = Literal["keep", "drop", "merge"]


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Rules by which an owner goes through its data.

    Attributes:
        batch_size: samples per mini-batch.
        shuffle: whether every local epoch has a new random order; if not, samples keep the stored order.
        last_batch: an incomplete last mini-batch is trained on as it is (``keep``), left out (``drop``), or joined to
            the one before it (``merge``). An owner with fewer samples than a batch trains on all of them at once.
        restart_optimizer: whether to forget momentum at the start of each round.
        loss: name or import path of the loss, or the task, which has its own.
        accumulate: mini-batches whose gradients make one step of the optimizers.
    """

    batch_size: int = 32
    shuffle: bool = True
    last_batch: LastBatch = "keep"
    restart_optimizer: bool = True
    loss: str | Task = "cross_entropy"
    seed: int = 0
    accumulate: int = 1

    def num_steps(self, num_batches: int) -> int:
        """Return the steps of so many mini-batches; those that are left at the end are a step of their own."""
        return -(-num_batches // self.accumulate)

    def batch_sizes(self, num_samples: int) -> list[int]:
        """Return the sizes of the mini-batches of one epoch, in order."""
        full, rest = divmod(num_samples, self.batch_size)
        sizes = [self.batch_size] * full
        if rest and not (full and self.last_batch != "keep"):
            sizes.append(rest)
        elif rest and self.last_batch == "merge":
            sizes[-1] += rest
        return sizes

    def num_batches(self, num_samples: int) -> int:
        """Return the number of mini-batches of one epoch."""
        full, rest = divmod(num_samples, self.batch_size)
        return full + (1 if rest and not (full and self.last_batch != "keep") else 0)

    def num_rows(self, num_samples: int, num_steps: int) -> int:
        """Return the samples trained on in so many steps, counting a sample once for each visit."""
        sizes = self.batch_sizes(num_samples)
        epochs, rest = divmod(num_steps, len(sizes))
        return epochs * sum(sizes) + sum(sizes[:rest])

    def smallest_batch(self, num_samples: int, num_steps: int) -> int:
        """Return the size of the smallest of the first ``num_steps`` mini-batches."""
        return min(self.batch_sizes(num_samples)[:num_steps])
