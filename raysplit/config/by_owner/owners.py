"""The owners of a run whose data each of them reads itself: what the survey found, as data of a setting."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from raysplit.algorithms.setting import OwnerData
from raysplit.config.by_owner.section import BY_OWNER
from raysplit.config.by_owner.survey import survey
from raysplit.config.data.tasks import task_settings
from raysplit.config.load_data import padding_of
from raysplit.config.run import RunConfig
from raysplit.data.by_owner.agree import UNCHANGED, OwnData, agreed, with_padding
from raysplit.data.by_owner.outline import Outline
from raysplit.data.by_owner.sealed import SealedSamples
from raysplit.data.by_owner.summary import own_record
from raysplit.data.partition.by_label import Indices
from raysplit.data.record import Record
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.padding import padded
from raysplit.experiment.tasks import task_of
from raysplit.models.limits import limits_of
from raysplit.models.spec import ModelSpec
from raysplit.registry import few
from raysplit.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnersData:
    """The data of a run as the coordinator knows them.

    Attributes:
        found: the source and the outline of each owner, in owner order.
        data: a data set of one blank sample with the types, shapes, names and sizes of all.
    """

    found: tuple[OwnData, ...]
    data: DataSet

    @property
    def owners(self) -> dict[str, OwnerData]:
        """The data of each owner by name, which only the owner can read."""
        return {
            own.source.party: OwnerData(
                shard=_sealed(own, "train"),
                test=_sealed(own, "test"),
                transform=UNCHANGED,
                eval_transform=UNCHANGED,
            )
            for own in self.found
        }

    @property
    def parts(self) -> list[Indices]:
        """Numbers for the training samples of each owner, counted over all owners."""
        ends = np.cumsum([own.outline.num_train for own in self.found])
        return [np.arange(end - own.outline.num_train, end) for end, own in zip(ends, self.found, strict=True)]

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each owner's data by the owner's name in the configuration."""
        return {own.source.owner: own.outline.digest for own in self.found}

    def record(self) -> Record:
        """Return what is known of the data, as plain values."""
        return own_record(self.data, self.found, BY_OWNER)

    def task(self, config: RunConfig) -> Task | None:
        """Return the task of the run, with the sums of the owners' targets merged in owner order."""
        task = task_of(task_settings(config), self.data, config.data.name)
        sums = [own.outline.statistic for own in self.found if own.outline.statistic is not None]
        return task if task is None or not sums else task.prepared(task.stated.merged(sums))


def _sealed(own: OwnData, side: Any) -> Samples:
    outline = own.outline
    sealed = SealedSamples(
        source=own.source, side=side, num_samples=(outline.num_train, outline.num_test), digest=outline.digest
    )
    return cast(Samples, sealed)


def owners_data(config: RunConfig, spec_of: Callable[[DataSet], ModelSpec]) -> OwnersData:
    """Ask every owner for the outline of its data, and compare them.

    Raises ``ValueError`` where one cannot be read or owners disagree, and otherwise as `survey`.
    """
    found = survey(config)
    data = agreed(found)
    if data.train.ragged:
        padding = padding_of(config, data)
        limit = padding.pad_to if isinstance(padding.pad_to, int) else None
        if padding.needs_model:
            limit = limits_of(spec_of(data).build()).positions
            if limit is None:
                raise ValueError(
                    f"data.truncate is true, and the model {config.model.name!r} does not say how many positions it "
                    f"has; set data.pad_to to a number"
                )
            padding = replace(padding, limit=limit)
        if padding.pad_to == "max":
            longest = max(own.outline.longest or 1 for own in found)
            padding = replace(padding, pad_to=min(longest, limit or longest))
        data, found = padded(data, padding), with_padding(found, padding)
    _tell_classes(found, data)
    return OwnersData(found=tuple(found), data=data)


def _tell_classes(found: list[OwnData], data: DataSet) -> None:
    largest = {"": data.num_classes} | {f" of {task}": len(names) for task, names in (data.classes or {}).items()}
    for of_task, num_classes in largest.items():
        own = {f"{o.source.party} ({o.source.owner})": _counted_classes(o.outline).get(of_task) for o in found}
        fewer = [f"{who} up to {count - 1}" for who, count in own.items() if count is not None and count < num_classes]
        if fewer:
            logger.warning(
                "the data of the owners have %d classes%s, the largest label of any plus one, and some owners have "
                "fewer: %s; see that all number their classes alike",
                num_classes,
                of_task,
                few(fewer),
            )


def _counted_classes(outline: Outline) -> dict[str, int]:
    """Return the number of classes of each target for which it was found by counting."""
    one = {"": outline.num_classes} if outline.counts_classes else {}
    return one | {f" of {task}": count for task, count in outline.numbered.items()}
