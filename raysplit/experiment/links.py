"""The ``links`` section of a configuration: how what parties send one another is written."""

from __future__ import annotations

from typing import cast

from pydantic import ValidationInfo, field_validator

from raysplit.cluster.codecs import IDENTITY, codec_named
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.link import LinkRules
from raysplit.schedulers.rules import Rules

_CODED: tuple[Kind, ...] = ("smashed", "gradients", "weights")


class LinkOptions(Rules):
    """A codec for each kind of value that crosses a link: by its name, or by the import path of one's own."""

    smashed: str = IDENTITY
    """Outputs of a part on their way to the next one."""
    gradients: str = IDENTITY
    """Of smashed data, on their way back."""
    weights: str = IDENTITY
    """States on their way to and from an aggregator."""
    labels: str = IDENTITY
    """Always ``identity``: labels are exact integers, which no codec may change."""

    @field_validator(*_CODED)
    @classmethod
    def _fits(cls, value: str, info: ValidationInfo) -> str:
        codec = codec_named(value)
        if codec is not None:
            LinkRules(codecs={cast(Kind, info.field_name): codec})
        return value

    @field_validator("labels")
    @classmethod
    def _as_they_are(cls, value: str) -> str:
        if value != IDENTITY:
            raise ValueError("labels are exact integers, which no codec may change; leave links.labels out")
        return value

    def rules(self) -> LinkRules:
        """The codecs, each at its kind."""
        codecs = {kind: codec_named(getattr(self, kind)) for kind in _CODED}
        return LinkRules(codecs={kind: codec for kind, codec in codecs.items() if codec is not None})
