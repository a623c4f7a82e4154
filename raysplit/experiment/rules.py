"""The rules of a run: what is kept, what follows from a loss, when to look, who may come and go.

Each setting is written once, where the decision that reads it is made; these records put them together.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysplit.actors.aggregation import UpdateRules
from raysplit.schedulers.cohort import CohortRules
from raysplit.schedulers.elastic import MembershipRules
from raysplit.schedulers.failure import FailureRules
from raysplit.schedulers.rules import Rules


class ReliabilityRules(FailureRules, CohortRules, UpdateRules):
    """How a run survives."""

    checkpoint_every: int | None = Field(default=1, ge=1)
    """Rounds from one checkpoint to the next; None keeps none, and a lost place ends the run."""
    checkpoint_location: str | None = None
    """A local folder, ``s3://bucket/folder`` or ``gs://bucket/folder``, below which the run has a folder of its name;
    None takes ``checkpoints`` in the folder of the run."""
    keep_last: int = Field(default=2, ge=1)
    """So many of the newest checkpoints stay, and the best one."""
    place_timeout_s: float = Field(default=60.0, gt=0)
    """A place that answers nothing for so many seconds is lost."""
    round_timeout_s: float | None = Field(default=None, gt=0)
    """A round that takes longer is broken off, naming the parties it waits for; None sets no limit."""
    stall_timeout_s: float | None = Field(default=600.0, gt=0)
    """A round in which everybody answers and nobody comes any further for so many seconds is broken off likewise;
    None lets it stand."""
    preflight: bool = True
    """Refuse a run that needs more memory than its places have."""
    on_callback_error: Literal["stop", "continue"] = "stop"
    """What follows from an error in a callback: ``stop`` ends the run with it; ``continue`` logs it and goes on."""


class EvaluationRules(Rules):
    """When to evaluate, and when to stop."""

    every: int = Field(default=1, ge=1)
    """Evaluate after every so many rounds (and after the last)."""
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Stop when the test accuracy reaches it."""
    targets: tuple[float, ...] = ()
    """Accuracies whose steps and bytes the summary tells, without stopping."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations without a better accuracy."""
    divergence_every: int | None = Field(default=None, ge=1)
    """Measure the gradient divergence every so many rounds; None never."""


class ElasticRules(MembershipRules):
    """A run that begins with the owners that have room, takes in others, and goes on without those who leave."""

    cpus_per_place: float = Field(default=1.0, ge=0)
    """What every place reserves, beside what its devices need."""
    min_gain: float = Field(default=0.05, ge=0, lt=1)
    """Where compute nodes come or leave and ``cuts`` are planned, parts move to other nodes if that saves this share
    of the time that is left, the move included."""
    move_mbit_per_s: float = Field(default=100.0, gt=0)
    """The link that a moved part's weights cross, in Mbit/s."""
    move_pause_s: float = Field(default=1.0, ge=0)
    """A pause that every move takes beside that, in seconds."""
