"""The data of one owner, which are read at its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from raysplit.config.by_owner.section import BY_OWNER
from raysplit.config.data.named import Named
from raysplit.data.datasets import checked_data_options, known_dataset
from raysplit.paths import FILE_SUFFIXES


class OwnSourceConfig(Named):
    """Data of one owner, which are read at its place; further keys are passed to their loader."""

    name: str
    """Name, file or import path of the data set, at the owner's place. A function that has a parameter ``owner`` gets
    the owner's name."""
    root: str | None = None
    """Folder of relative file names and of data sets, at the owner's place."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that the owner's place requires, for example ``{clinic_a: 1}``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray labels that the owner's machine must have, for example ``{site: clinic-a}``."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if value == BY_OWNER:
            raise ValueError("an owner's own source cannot be by_owner again; name its data set, file or function")
        is_elsewhere = ":" in value or value.endswith(FILE_SUFFIXES)  # not looked for here
        return value if is_elsewhere else known_dataset(value)

    @staticmethod
    def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked_data_options(name, options, section="")
