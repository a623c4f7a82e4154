"""Plain sections of the configuration: how owners differ, when to look, where parties and results are."""

from __future__ import annotations

from pydantic import Field, field_validator

from raysplit.data.domains import domain_names
from raysplit.registry import one_of
from raysplit.schedulers.rules import Rules


class OwnersConfig(Rules):
    """What makes owners differ beside their shards."""

    domain: str | None = None
    """A transform per owner (see `raysplit.data.domains`)."""
    noisy: int = Field(default=0, ge=0)
    """This many owners, the last ones, have noise."""
    pixel_noise: float = Field(default=0.0, ge=0)
    """Its standard deviation on their training and test inputs."""
    label_noise: float = Field(default=0.0, ge=0, le=1)
    """The fraction of their training labels that is flipped."""

    @field_validator("domain")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return value if value is None else one_of("domain", value, domain_names())


class OutputConfig(Rules):
    """Where results go: ``<root>/<name>/``."""

    root: str = "runs"
    """The folder that holds all runs."""
    name: str | None = None
    """None takes the configuration file's name, or the algorithm's, and the time of day."""
    overwrite: bool = False
    """Replace a run of the same name."""
