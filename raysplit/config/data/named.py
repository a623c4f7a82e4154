"""A section with a name and the options of what it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from raysplit.options import numbers_of


class Named(BaseModel):
    """Section with a ``name`` and the options of what it names."""

    model_config = ConfigDict(
        extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=(), use_attribute_docstrings=True
    )

    name: str

    _numbers = field_validator("*", mode="wrap")(numbers_of)

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the fields of the section, in the types of what takes them."""
        return self._typed(self.name, self.model_extra or {})

    @staticmethod
    def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        self._typed(self.name, self.model_extra or {})
        return self
