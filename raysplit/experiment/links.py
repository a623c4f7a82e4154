"""The ``links`` section of a configuration: codecs for the values that parties send."""

from __future__ import annotations

from typing import cast

from pydantic import ValidationInfo, field_validator

from raysplit.cluster.codecs import IDENTITY, codec_named
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.link import LinkRules
from raysplit.schedulers.rules import Rules

_CODED: tuple[Kind, ...] = ("smashed", "gradients", "weights")


class LinkOptions(Rules):
    """Codec for each kind of value that crosses a link, by name or import path."""

    smashed: str = IDENTITY
    """Codec of the outputs of a part, which go to the next part."""
    gradients: str = IDENTITY
    """Codec of the gradients of smashed data, which go back."""
    weights: str = IDENTITY
    """Codec of the weights that go to and from an aggregator."""
    labels: str = IDENTITY
    """Codec of labels: always ``identity``, because labels are exact integers."""

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
        """Return the codec of each kind of value."""
        codecs = {kind: codec_named(getattr(self, kind)) for kind in _CODED}
        return LinkRules(codecs={kind: codec for kind, codec in codecs.items() if codec is not None})
