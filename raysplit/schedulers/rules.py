"""The base class of settings that a user writes and a decision reads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from raysplit.options import numbers_of


class Rules(BaseModel):
    """Immutable settings that are checked on construction; unknown settings raise pydantic's ``ValidationError``.

    The string below a field is its description in ``docs/configuration.md`` and in the JSON schema.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), use_attribute_docstrings=True
    )

    _numbers = field_validator("*", mode="wrap")(numbers_of)
