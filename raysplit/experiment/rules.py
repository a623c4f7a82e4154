"""The rules of a run: reliability, evaluation and elastic membership.

A rule is declared where the decision that reads it is made; these classes combine the rules of a section.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysplit.actors.aggregation import UpdateRules
from raysplit.options import LocationText
from raysplit.schedulers.cohort import CohortRules
from raysplit.schedulers.elastic import MembershipRules
from raysplit.schedulers.failure import FailureRules
from raysplit.schedulers.rules import Rules


class ReliabilityRules(FailureRules, CohortRules, UpdateRules):
    """Checkpoints, timeouts and the response to losses."""

    checkpoint_every: int | None = Field(default=1, ge=1)
    """Number of rounds between checkpoints; None keeps none, and a lost place then ends the run."""
    checkpoint_location: LocationText | None = None
    """Local folder, ``s3://bucket/folder`` or ``gs://bucket/folder`` in which the run has a folder of its name; None
    takes ``checkpoints`` in the run folder."""
    keep_last: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep, beside the best one."""
    place_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds without an answer after which a place counts as lost."""
    round_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds after which a round is aborted with the names of the parties it waits for; None sets no limit."""
    stall_timeout_s: float | None = Field(default=600.0, gt=0)
    """Seconds without progress of any party after which a round is aborted, though all places answer; None sets no
    limit."""
    preflight: bool = True
    """Refuse a run that needs more memory than its places have."""
    on_callback_error: Literal["stop", "continue"] = "stop"
    """Response to an error in a callback: ``stop`` ends the run with it, ``continue`` logs it and continues."""


class EvaluationRules(Rules):
    """Evaluation and early stopping."""

    every: int = Field(default=1, ge=1)
    """Number of rounds between evaluations; the last round is always evaluated."""
    metric: Literal["accuracy", "loss"] | None = None
    """Primary metric, which ``target``, ``patience``, ``targets`` and the best checkpoint follow: the test
    ``accuracy``, at equal values the lower loss, or the test ``loss``; None takes ``task.primary``, or without a task
    the accuracy where there are class labels."""
    target: float | None = None
    """Value of the primary metric at which the run stops; None never stops for it."""
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Test accuracy at which the run stops; None never stops for it."""
    target_loss: float | None = None
    """Test loss at which the run stops; None never stops for it."""
    targets: tuple[float, ...] = ()
    """Values of the primary metric for which the summary has the steps and bytes it took, without stopping."""
    links: Literal["as_trained", "none"] = "as_trained"
    """Codecs at the cuts of the evaluated model: ``as_trained`` those of smashed data that change values, and
    ``test_accuracy_uncoded`` is that of the model without them; ``none`` evaluates without them only."""
    patience: int | None = Field(default=None, ge=1)
    """Number of evaluations without a better value of the primary metric after which the run stops; None never stops
    for it."""
    naive: bool = True
    """Put the figures of a model that ignores its inputs beside those of a run's task; they take sums over the training
    targets of all owners."""
    divergence_every: int | None = Field(default=None, ge=1)
    """Number of rounds between measurements of the gradient divergence; None never measures it."""


class ElasticRules(MembershipRules):
    """Elastic membership: the run starts with the owners that have room, adds others, and continues without owners that
    leave."""

    cpus_per_place: float = Field(default=1.0, ge=0)
    """CPUs that every place reserves, in addition to the resources of its devices."""
    min_gain: float = Field(default=0.05, ge=0, lt=1)
    """Smallest share of the remaining time, the move included, for which parts move to other nodes; this applies where
    compute nodes come or leave and ``cuts`` are planned."""
    move_mbit_per_s: float = Field(default=100.0, gt=0)
    """Bandwidth, in Mbit/s, of the link that moved weights cross."""
    move_pause_s: float = Field(default=1.0, ge=0)
    """Fixed seconds of every move, in addition to the transfer."""
