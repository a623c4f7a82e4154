"""Partitions by name: which owner holds which sample, with checks that every index is used at most once.

Names and parameters are those of flwr-datasets where it has them. A law is a function
``(labels, num_owners, rng, **params)`` that returns one index array per owner. The laws are in `by_label`,
`main_label` and `by_size`; a user's own law is named by its import path, ``"package.module:function"``. Only
``main_label`` may use a sample more than once: it gives every owner a fixed number of samples of each class, and starts
a class again when all its samples are given away.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from raysplit.data.failures import call_own
from raysplit.data.partition import by_label, by_size
from raysplit.data.partition.by_label import Indices
from raysplit.data.partition.main_label import main_label, main_label_tests
from raysplit.data.partition.report import PartitionReport, load_partition, partition_report, save_partition
from raysplit.options import checked_options
from raysplit.registry import a_function, resolve
from raysplit.seeding import generator

__all__ = [
    "PartitionReport",
    "checked_parameters",
    "load_partition",
    "partition",
    "partition_names",
    "partition_report",
    "partition_test",
    "save_partition",
]

Law = Callable[..., list[Indices]]

LAWS: dict[str, Law] = {
    "iid": by_size.iid,
    "dirichlet": by_label.dirichlet,
    "pathological": by_label.pathological,
    "shard": by_label.shard,
    "noniid_ratio": by_label.noniid_ratio,
    "quantity": by_size.quantity,
    "natural_id": by_size.natural_id,
    "main_label": main_label,
}
TESTS_DRAWN = ("main_label",)
"""Partitions that draw the tests of each owner themselves; owners may share test samples."""
_BY_SIZE = ("iid", "quantity", "natural_id")
_GIVEN = {"labels", "num_owners", "rng", "natural_owner", "num_classes"}


def partition_names() -> list[str]:
    """Return the names that ``partition`` knows; import paths come on top of these."""
    return list(LAWS)


def goes_by_label(name: str) -> bool:
    """Return whether a built-in partition looks at class labels."""
    return name in LAWS and name not in _BY_SIZE


def partition(
    name: str,
    labels: npt.NDArray[Any],
    num_owners: int,
    *,
    seed: int,
    natural_owner: npt.NDArray[Any] | None = None,
    num_classes: int | None = None,
    **params: Any,
) -> list[Indices]:
    """Divide samples among owners.

    Args:
        name: one of ``partition_names``, or the import path of a law.
        labels: class of each sample, integers [N].
        num_owners: number of owners.
        seed: seed of the random stream; equal seeds give equal partitions.
        natural_owner: id of the owner of each sample [N], for ``natural_id``.
        num_classes: number of classes of the whole data set, for ``main_label``; by default the largest label plus one.
        params: parameters of the law, such as ``alpha`` of ``dirichlet``.

    Returns:
        A sorted array of indices into ``labels`` for each owner. Samples that a law cannot place stay unused.

    Raises:
        ValueError: for an unknown name or parameter, parameters out of range, more owners than samples, and an owner
            without a sample.

    Example:
        >>> parts = partition("iid", np.array([0, 0, 1, 1]), 2, seed=0)
        >>> [len(part) for part in parts]
        [2, 2]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; a partition needs integers of shape [N]")
    if not 1 <= num_owners <= len(labels):
        raise ValueError(
            f"{num_owners} owners for {len(labels)} samples; every owner needs at least one sample, so give 1 to "
            f"{len(labels)} owners or more data"
        )
    law = resolve("partition", name, LAWS)
    params = checked_parameters(name, params)
    if name == "natural_id":
        params = {"natural_owner": natural_owner, **params}
    if name == "main_label":
        params = {"num_classes": num_classes, **params}
    if name not in LAWS:
        a_function("partition", name, law, "the labels, the number of owners and a generator")
        _check_own_parameters(name, law, params)
    given = labels.astype(np.int64), num_owners, generator(seed, "partition", name)
    parts: Any = call_own("partition", name, law, *given, **params) if ":" in name else law(*given, **params)
    return _checked(name, _indices(name, parts), len(labels), num_owners)


def partition_test(
    name: str,
    test_labels: npt.NDArray[Any],
    num_owners: int,
    *,
    seed: int,
    num_classes: int | None = None,
    **params: Any,
) -> list[Indices] | None:
    """Return the test indices of each owner where the partition itself draws them: ``main_label`` alone.

    Other partitions give ``None``; see `raysplit.data.partition.own_tests`. ``num_classes`` and ``params`` are those of
    ``partition``. An owner gets no sample of a class without test samples, and none at all where that is a main class.
    """
    if name not in TESTS_DRAWN:
        return None
    labels, rng = np.asarray(test_labels, np.int64), generator(seed, "partition", name)
    parts = main_label_tests(labels, num_owners, rng, num_classes=num_classes, **params)
    return [np.sort(part) for part in parts]


def checked_parameters(name: str, params: Mapping[str, Any], section: str = "partition") -> dict[str, Any]:
    """Return the parameters of a partition in the types of its law; those of a user's own law stay as they are.

    Raises `OptionsRefused` for a parameter that is unknown, missing or of another type.
    """
    if name not in LAWS:
        return dict(params)
    return checked_options(LAWS[name], params, name=name, section=section, given=_GIVEN)


def _check_own_parameters(name: str, law: Law, params: dict[str, Any]) -> None:
    try:
        inspect.signature(law).bind(None, None, None, **params)
    except TypeError as error:
        own = [str(p) for p in inspect.signature(law).parameters.values() if p.name not in _GIVEN]
        raise ValueError(f"partition {name}: {error}; its parameters are: {', '.join(own) or 'none'}") from error


def _indices(name: str, parts: Any) -> list[Indices]:
    """Return sorted indices; raise ``ValueError`` for anything that a law returned instead."""
    rule = "it must return one array of sample indices per owner"
    if isinstance(parts, str | bytes | Mapping) or not isinstance(parts, Iterable):
        raise ValueError(f"partition {name} returned {parts!r:.60} ({type(parts).__name__}); {rule}")
    made = []
    for owner, part in enumerate(parts):
        found = np.asarray(part) if isinstance(part, np.ndarray | Sequence | Tensor) else np.array(None)
        if found.dtype == bool:
            raise ValueError(f"partition {name} gave owner {owner} a mask; {rule}, such as numpy.flatnonzero(mask)")
        if found.ndim != 1 or (found.size and found.dtype.kind not in "ui"):
            raise ValueError(
                f"partition {name} gave owner {owner} {part!r:.60} ({type(part).__name__}, {found.dtype} of shape "
                f"{found.shape}); {rule}"
            )
        made.append(np.sort(found.astype(np.int64)))
    return made


def _checked(name: str, parts: list[Indices], num_samples: int, num_owners: int) -> list[Indices]:
    if len(parts) != num_owners:
        raise ValueError(
            f"partition {name} made {len(parts)} parts for {num_owners} owners; it must make one part per owner"
        )
    for owner, part in enumerate(parts):
        if not len(part):
            raise ValueError(
                f"partition {name} leaves owner {owner} without a sample; "
                f"take fewer owners than {num_owners}, more data or milder parameters"
            )
    used = np.concatenate(parts)
    if used.min() < 0 or used.max() >= num_samples:
        raise ValueError(
            f"partition {name} gave indices {used.min()} to {used.max()} for {num_samples} samples; they must be "
            f"0 to {num_samples - 1}"
        )
    if name != "main_label" and len(np.unique(used)) != len(used):
        raise ValueError(
            f"partition {name} gave {len(used) - len(np.unique(used))} samples to more than one owner; it may use each "
            f"index once"
        )
    return parts
