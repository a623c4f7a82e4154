"""The settings of a part's steps: factors on the learning rate, clipping, number type and recomputation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from raysplit.schedulers.learning_rate import StepRates
from raysplit.schedulers.rules import Rules

Precision = Literal["full", "bf16"]


class ClipRules(Rules):
    """Clipping of gradients: they are multiplied by min(1, norm / (their norm + 1e-6)) before a step."""

    norm: float = Field(gt=0)
    """Largest Euclidean norm of the gradients of a step."""
    scope: Literal["model", "part"] = "model"
    """Gradients whose norm counts: those of the whole ``model``, for which its parts exchange the norms of their
    tensors, or of each ``part`` by itself, which is another algorithm than training the uncut model."""


@dataclass(frozen=True, kw_only=True)
class StepRules:
    """The rules of a part's steps beside its optimizer.

    Attributes:
        rates: factors on the learning rate that change from step to step; None where they only change by round.
        clip: clipping of gradients; None leaves them as they are.
        precision: ``bf16`` runs forward passes under autocast in bfloat16; weights, their gradients, optimizer states
            and the loss stay in float32.
        recompute: whether a part keeps only its inputs between forward and backward, and runs forward again there.
    """

    rates: StepRates | None = None
    clip: ClipRules | None = None
    precision: Precision = "full"
    recompute: bool = False
