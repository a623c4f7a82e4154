"""``owners.tasks``: which of several tasks each owner learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from raysplit.config.data.tasks import task_settings
from raysplit.data.samples import DataSet
from raysplit.data.targets.own_tasks import missing_value
from raysplit.experiment.tasks import task_of
from raysplit.registry import nearest, shown
from raysplit.tasks import SeveralTasks

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig

OwnTasks = dict[str, tuple[str, ...]] | tuple[tuple[str, ...], ...]
"""Names of tasks by owner, or dealt out in turn."""


def as_tuples(value: Any) -> Any:
    """Return the setting with a tuple of names where one name stands alone."""
    if isinstance(value, dict):
        return {owner: (names,) if isinstance(names, str) else names for owner, names in value.items()}
    if isinstance(value, list | tuple):
        return tuple((names,) if isinstance(names, str) else names for names in value)
    return value


def own_tasks(config: RunConfig, data: DataSet) -> list[tuple[str, ...]] | None:
    """Return the names of the tasks of each owner, in owner order; None where all learn all.

    Raises ``ValueError`` for an owner or a task that there is not, and for a task that nobody learns.
    """
    given = config.owners.tasks
    if not given:
        return None
    if isinstance(data.train.y, Tensor):
        raise ValueError(f"owners.tasks is set, and data {config.data.name!r} have one target, y; leave it out")
    targets = tuple(task_settings(config).chosen) or tuple(data.train.y)
    owners = [f"owner-{i}" for i in range(config.partition.num_owners)]
    if isinstance(given, dict):
        if strange := [name for name in given if name not in owners]:
            raise ValueError(
                f"owners.tasks names {strange[0]!r}, which is no owner{nearest(strange[0], owners)}; the owners are "
                f"{shown(owners)}"
            )
        found = [given.get(name, targets) for name in owners]
    else:
        found = [given[i % len(given)] for i in range(len(owners))]
    for owner, names in zip(owners, found, strict=True):
        if unknown := [name for name in names if name not in targets]:
            raise ValueError(
                f"owners.tasks gives {owner} the task {unknown[0]!r}{nearest(unknown[0], targets)}; the tasks are "
                f"{', '.join(targets)}"
            )
        if not names:
            raise ValueError(f"owners.tasks gives {owner} no task; name one of {', '.join(targets)}")
    _refuse_unlearned(targets, found)
    return found


def _refuse_unlearned(targets: Sequence[str], found: Sequence[Sequence[str]]) -> None:
    learned = {name for names in found for name in names}
    if idle := [name for name in targets if name not in learned]:
        raise ValueError(f"owners.tasks gives the task {idle[0]!r} to no owner; give it one, or leave the task out")


def missing_values(config: RunConfig, data: DataSet) -> dict[str, float]:
    """Return the value of a missing target by task: as its loss leaves it out, of dense targets in every pixel."""
    task = task_of(task_settings(config), data, config.data.name)
    if isinstance(task, SeveralTasks):
        return {name: missing_value(own.ignore_index) for name, own in task.each}
    assert not isinstance(data.train.y, Tensor)
    dense = {name: targets for name, targets in data.train.y.items() if targets.ndim > 1}
    return {name: missing_value(None if targets.is_floating_point() else 0) for name, targets in dense.items()}
