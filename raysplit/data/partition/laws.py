"""Who holds which sample: a partition by name, checked, with every index used at most once.

Names and parameters are those of flwr-datasets where it has them; the laws are in ``partition_labels.py`` (by label)
and ``partition_sizes.py`` (by size or known owner). A law is a function ``(labels, num_owners, rng, **params)`` that
returns one index array per owner; the user's own goes by its import path, ``"package.module:function"``.
Only ``main_label`` may use a sample more than once: it gives every owner a fixed number of samples of each class and
starts a class again when all its samples are given away.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.partition import by_label as partition_labels
from raysplit.data.partition import by_size as partition_sizes
from raysplit.data.partition.by_label import Indices
from raysplit.data.partition.report import PartitionReport, load_partition, partition_report, save_partition
from raysplit.registry import resolve
from raysplit.seeding import generator

__all__ = [
    "PartitionReport",
    "load_partition",
    "partition",
    "partition_names",
    "partition_report",
    "partition_test",
    "save_partition",
]

Law = Callable[..., list[Indices]]

LAWS: dict[str, Law] = {
    "iid": partition_sizes.iid,
    "dirichlet": partition_labels.dirichlet,
    "pathological": partition_labels.pathological,
    "shard": partition_labels.shard,
    "noniid_ratio": partition_labels.noniid_ratio,
    "quantity": partition_sizes.quantity,
    "natural_id": partition_sizes.natural_id,
    "main_label": partition_labels.main_label,
}
_GIVEN = {"labels", "num_owners", "rng", "natural_owner"}


def partition_names() -> list[str]:
    """The names that ``partition`` knows, beside import paths."""
    return list(LAWS)


def partition(
    name: str,
    labels: npt.NDArray[Any],
    num_owners: int,
    *,
    seed: int,
    natural_owner: npt.NDArray[Any] | None = None,
    **params: Any,
) -> list[Indices]:
    """One sorted index array per owner into ``labels`` [N], the same for the same ``seed``.

    ``natural_owner`` [N] is who holds each sample, for ``natural_id``. Samples that a law cannot place stay unused.
    Raises ``ValueError`` for an unknown name or parameter, values against a law's rules, more owners than samples,
    and an owner left without a sample.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; a partition needs integers of shape [N]")
    if not 1 <= num_owners <= len(labels):
        raise ValueError(
            f"{num_owners} owners for {len(labels)} samples; every owner needs a sample, so "
            f"give 1 to {len(labels)} owners or more data"
        )
    law = resolve("partition", name, LAWS)
    if name == "natural_id":
        params = {"natural_owner": natural_owner, **params}
    _check_parameters(name, law, params)
    parts = law(labels.astype(np.int64), num_owners, generator(seed, "partition", name), **params)
    return _checked(name, parts, len(labels), num_owners)


def partition_test(
    name: str, test_labels: npt.NDArray[Any], num_owners: int, *, seed: int, **params: Any
) -> list[Indices] | None:
    """Each owner's own test indices by the same class law as its training samples (``main_label``), else ``None``.

    ``None`` means that every owner is tested on the whole test set. ``params`` are those given to ``partition``.
    """
    if name != "main_label":
        return None
    num_samples = params.get("test_samples_per_owner", partition_labels.TEST_SAMPLES_PER_OWNER)
    return partition(name, test_labels, num_owners, seed=seed, **{**params, "samples_per_owner": num_samples})


def _check_parameters(name: str, law: Law, params: dict[str, Any]) -> None:
    try:
        inspect.signature(law).bind(None, None, None, **params)
    except TypeError as error:
        own = [str(p) for p in inspect.signature(law).parameters.values() if p.name not in _GIVEN]
        raise ValueError(f"partition {name}: {error}; its parameters are: {', '.join(own) or 'none'}") from error


def _checked(name: str, parts: list[Indices], num_samples: int, num_owners: int) -> list[Indices]:
    parts = [np.sort(np.asarray(part, np.int64)) for part in parts]
    if len(parts) != num_owners:
        raise ValueError(f"partition {name} made {len(parts)} parts for {num_owners} owners; it makes one for each")
    for owner, part in enumerate(parts):
        if not len(part):
            raise ValueError(
                f"partition {name} leaves owner {owner} without a sample; "
                f"take fewer owners than {num_owners}, more data or milder parameters"
            )
    used = np.concatenate(parts)
    if used.min() < 0 or used.max() >= num_samples:
        raise ValueError(f"partition {name} gave index {used.min()} or {used.max()} of {num_samples} samples")
    if name != "main_label" and len(np.unique(used)) != len(used):
        raise ValueError(f"partition {name} gave {len(used) - len(np.unique(used))} samples to more than one owner")
    return parts
