"""The sections ``owners`` and ``output`` of a configuration."""

from __future__ import annotations

from pydantic import Field, field_validator

from raysplit.data.domains import domain_names
from raysplit.registry import one_of
from raysplit.schedulers.rules import Rules


class OwnersConfig(Rules):
    """Differences between owners beyond their shards."""

    domain: str | None = None
    """Name of the transform that differs by owner (see `raysplit.data.domains`); None applies none."""
    noisy: int = Field(default=0, ge=0)
    """Number of owners with noise, counted from the last one."""
    pixel_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise on training and test inputs of noisy owners."""
    label_noise: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the training labels of noisy owners that is flipped."""

    @property
    def has_domains(self) -> bool:
        """Whether owners have inputs of their own, so that a test sample differs from owner to owner."""
        return self.domain is not None or (self.noisy > 0 and self.pixel_noise > 0)

    @field_validator("domain")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return value if value is None else one_of("domain", value, domain_names())


class OutputConfig(Rules):
    """Folder of the results, ``<root>/<name>/``."""

    root: str = "runs"
    """Folder or URI of all runs."""
    name: str | None = None
    """Name of the run; None takes the name of the configuration file or the algorithm, with date and time."""
    overwrite: bool = False
    """Replace a run of the same name."""
