"""The exchange before a run: every owner opens its source at its own place, and sends its outline."""

from __future__ import annotations

import asyncio

from raysplit.cluster.contract import PartySpec
from raysplit.config.by_owner.asking import asked
from raysplit.config.data.tasks import task_settings
from raysplit.config.run import RunConfig
from raysplit.config.sections import OwnSourceConfig
from raysplit.data.by_owner.agree import OwnData
from raysplit.data.by_owner.outline import Outline, outline_of
from raysplit.data.by_owner.sealed import refuse_changed
from raysplit.data.by_owner.source import OwnSource
from raysplit.data.samples import Samples
from raysplit.data.targets.of_samples import check_targets
from raysplit.experiment.several.section import TaskSettings
from raysplit.experiment.tasks import task_of
from raysplit.training.cluster import needs_of


class Surveyor:
    """A party that opens the source of one owner at its place, once, and describes it."""

    def __init__(self, *, name: str, source: OwnSource, task: TaskSettings) -> None:
        self.name = name
        self._asked = (source, task)

    async def outline(self) -> Outline:
        """Return the outline. Raises ``ValueError``, with the owner and its source."""
        return await asyncio.to_thread(survey_one, *self._asked)


def survey_one(source: OwnSource, settings: TaskSettings) -> Outline:
    """Open a source, check its targets against the task of the run, and return its outline.

    Raises ``ValueError``, with the owner, its source, the row and the rule.
    """
    opened = source.open()
    try:
        task = task_of(settings, opened.data, source.place)
        if task is None:
            return outline_of(opened)
        if isinstance(opened.train, Samples) or task.kind != "classification":  # streamed labels are checked when read
            check_targets(task, opened.train, "y of the training samples")
        check_targets(task, opened.test, "y of the test samples")
        return outline_of(opened, task)
    except ValueError as error:
        raise ValueError(f"data of {source}: {error}") from error


def sources_of(config: RunConfig) -> list[OwnSource]:
    """Return the source of each owner in owner order. Raises ``ValueError``."""
    section = config.data
    given = section.by_owner
    for setting, value in (
        ("data.train_samples", section.train_samples),
        ("data.test_samples", section.test_samples),
        ("data.validation", section.validation),
        ("data.renumber_labels", section.renumber_labels),
        ("data.download", section.download),
        ("data.root", section.root),
        ("owners.domain", config.owners.domain),
        ("owners.noisy", config.owners.noisy),
        ("owners.tasks", config.owners.tasks and "given"),
        ("cluster.elastic", config.cluster.elastic and "given"),
    ):
        if value:
            raise ValueError(
                f"{setting} is {value}, which does not apply where each owner reads its own source (data.by_owner); "
                f"leave it out"
            )
    if given is None or isinstance(given, str):
        names = [f"owner-{i}" for i in range(config.partition.num_owners)]
        given = {name: OwnSourceConfig(name=str(section.by_owner)) for name in names}
    reading = section.reading(config.task)
    return [
        OwnSource(
            party=f"owner-{i}",
            owner=owner,
            name=own.name,
            root=own.root,
            options=section.for_loader(own.name, own.options) if section.by_target else own.options,
            augment=section.augment,
            reading=reading,
            resources=own.resources,
            labels=own.labels,
        )
        for i, (owner, own) in enumerate(given.items())
    ]


def survey(config: RunConfig) -> list[OwnData]:
    """Have every owner describe its data: in this process, or on Ray at the place that the owner's needs lead to.

    Raises:
        ValueError: a source cannot be read, does not fit the task, or has changed since the run began.
        RayUnreachable, PlacementError: there is no cluster, or no room for an owner.
    """
    sources = sources_of(config)
    if config.cluster.kind == "local":
        outlines = [survey_one(source, task_settings(config)) for source in sources]
    else:
        asks = task_settings(config)
        parties = [
            PartySpec(name=own.party, role="owner", build=Surveyor, arguments={"source": own, "task": asks})
            for own in sources
        ]
        outlines = asked(config, parties, lambda owner: owner.outline(), needs_of(sources))
    found = [OwnData(source=source, outline=outline) for source, outline in zip(sources, outlines, strict=True)]
    for own in found:
        before = config.data.digests.get(own.source.owner)
        if before is not None and own.outline.digest != before:
            refuse_changed(own.source, own.outline.digest, before)
    return found
