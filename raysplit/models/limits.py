"""How many tokens and positions a model says it knows, by attributes or by a configuration as Hugging Face's have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from raysplit.data.inputs import Input


@dataclass(frozen=True, kw_only=True)
class TokenLimits:
    """What a model says about its tokens; None where it says nothing.

    Attributes:
        vocabulary: number of tokens.
        positions: length of the longest sample.
    """

    vocabulary: int | None
    positions: int | None


def limits_of(model: nn.Module) -> TokenLimits:
    """Return the limits that a model says it has."""
    config = getattr(model, "config", None)
    found = {
        name: next(
            (value for source, key in sources if isinstance(value := getattr(source, key, None), int)),
            None,
        )
        for name, sources in (
            ("vocabulary", ((model, "vocab_size"), (config, "vocab_size"))),
            ("positions", ((model, "max_positions"), (config, "max_position_embeddings"))),
        )
    }
    return TokenLimits(**found)


def within_positions(inputs: Mapping[str, Input], model: nn.Module) -> dict[str, Input]:
    """Return the records of the inputs, with the positions of the model as the longest sample where lengths differ."""
    longest = limits_of(model).positions
    return {name: replace(entry, longest=longest) if entry.ragged else entry for name, entry in inputs.items()}
