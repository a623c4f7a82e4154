"""Plain sections of the configuration: how owners differ, when to look, where parties and results are."""

from __future__ import annotations

from pydantic import Field

from raysplit.experiment.rules import Section


class OwnersConfig(Section):
    """What makes owners differ beside their shards.

    Attributes:
        domain: a transform per owner (see `raysplit.data.domains`).
        noisy: this many owners, the last ones, have noise.
        pixel_noise: its standard deviation on their training and test inputs.
        label_noise: the fraction of their training labels that is flipped.
    """

    domain: str | None = None
    noisy: int = Field(default=0, ge=0)
    pixel_noise: float = Field(default=0.0, ge=0)
    label_noise: float = Field(default=0.0, ge=0, le=1)


class OutputConfig(Section):
    """Where results go: ``<root>/<name>/``.

    Attributes:
        root: the folder that holds all runs.
        name: None takes the configuration file's name, or the algorithm's, and the time of day.
        overwrite: replace a run of the same name.
    """

    root: str = "runs"
    name: str | None = None
    overwrite: bool = False
