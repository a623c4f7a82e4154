"""The ``reliability`` section of a configuration: what is kept, what happens after a loss, whom nobody waits for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from raysplit.actors.aggregation import UpdateRules
from raysplit.schedulers.cohort import CohortRules


class ReliabilityConfig(BaseModel):
    """How a run survives.

    Attributes:
        checkpoint_every: rounds from one checkpoint to the next; None keeps none, and a lost place ends the run.
        checkpoint_location: a local folder, ``s3://bucket/folder`` or ``gs://bucket/folder``, below which the run has
            a folder of its name; None takes ``checkpoints`` in the folder of the run.
        keep_last: so many of the newest checkpoints stay, and the best one.
        on_lost_place: ``restart`` repeats the round with the lost parties made anew; ``drop`` repeats it without the
            owners that were lost; ``stop`` ends the run.
        on_bad_update: ``stop``, or ``drop`` to repeat the round without the owner whose loss or update was refused.
        exclude_after: an owner that was dropped so often for bad updates takes part no more.
        restarts_per_round, restarts_per_run: more losses than that end the run.
        quorum: the share of a cohort that must be left for a round to go on without the others.
        over_selection: draw this share of owners more than ``training.cohort_size`` and take the first to come.
        round_deadline_s: after so long a round goes on with those who came, if they are a quorum. Both are for
            methods whose owners work apart from one another (fedavg, fedprox), and make results depend on time.
        late: an update that comes too late is left out (``drop``), or counts in the next round (``merge``).
        place_timeout_s: a place that answers nothing for so long is lost.
        round_timeout_s: a round that takes longer is broken off, naming whom it waits for; None lets it take its time.
        stall_timeout_s: a round in which everybody answers and nobody comes any further for so long is broken off
            likewise; None lets it stand.
        max_update_norm: an update further than this (Euclidean norm) from the average before is refused.
        aggregation: ``mean``, or one that bears wrong updates: ``median``, ``trimmed_mean``, ``krum``.
        tolerated: how many wrong updates ``trimmed_mean`` and ``krum`` bear.
        preflight: refuse a run that needs more memory than its places have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def cohort_rules(self, size: int | None) -> CohortRules:
        """For whom a round waits that wants so many owners (None: all)."""
        return CohortRules(
            size=size,
            over_selection=self.over_selection,
            deadline_s=self.round_deadline_s,
            quorum=self.quorum,
            late=self.late,
        )

    def update_rules(self) -> UpdateRules:
        """Which updates are taken, and how they become one."""
        return UpdateRules(max_norm=self.max_update_norm, aggregation=self.aggregation, tolerated=self.tolerated)

    checkpoint_every: int | None = Field(default=1, ge=1)
    checkpoint_location: str | None = None
    keep_last: int = Field(default=2, ge=1)
    on_lost_place: Literal["restart", "drop", "stop"] = "restart"
    on_bad_update: Literal["stop", "drop"] = "stop"
    exclude_after: int = Field(default=3, ge=1)
    restarts_per_round: int = Field(default=3, ge=0)
    restarts_per_run: int = Field(default=20, ge=0)
    quorum: float = Field(default=0.5, gt=0, le=1)
    over_selection: float = Field(default=0.0, ge=0)
    round_deadline_s: float | None = Field(default=None, gt=0)
    late: Literal["drop", "merge"] = "drop"
    place_timeout_s: float = Field(default=60.0, gt=0)
    round_timeout_s: float | None = Field(default=None, gt=0)
    stall_timeout_s: float | None = Field(default=600.0, gt=0)
    max_update_norm: float | None = Field(default=None, gt=0)
    aggregation: Literal["mean", "median", "trimmed_mean", "krum"] = "mean"
    tolerated: int = Field(default=1, ge=0)
    preflight: bool = True


class Section(BaseModel):
    """Unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class EvaluationConfig(Section):
    """When to look, and when to stop.

    Attributes:
        every: evaluate after every so many rounds (and after the last).
        target_accuracy: stop when the test accuracy reaches it.
        targets: accuracies whose steps and bytes the summary tells, without stopping.
        patience: stop after so many evaluations without a better accuracy.
        divergence_every: measure the gradient divergence every so many rounds; None never.
    """

    every: int = Field(default=1, ge=1)
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    targets: tuple[float, ...] = ()
    patience: int | None = Field(default=None, ge=1)
    divergence_every: int | None = Field(default=None, ge=1)


class ElasticConfig(Section):
    """A run that begins with those for whom there is room, takes in others, and goes on without those who leave.

    Attributes:
        min_owners, min_places: a round begins with so many at least; whoever is no owner lives in the first
            ``min_places`` places.
        wait_s: seconds to wait for them, and for whom no round can do without.
        cpus_per_place: what every place reserves, beside what its devices need.
        min_gain: where compute nodes come or leave and ``cuts`` are planned, parts move to other nodes if that saves
            this share of the time that is left, the move included.
        move_mbit_per_s, move_pause_s: what a move takes: its weights over a link, and a pause.
    """

    min_owners: int = Field(default=1, ge=1)
    min_places: int = Field(default=1, ge=1)
    wait_s: float = Field(default=600.0, ge=0)
    cpus_per_place: float = Field(default=1.0, ge=0)
    min_gain: float = Field(default=0.05, ge=0, lt=1)
    move_mbit_per_s: float = Field(default=100.0, gt=0)
    move_pause_s: float = Field(default=1.0, ge=0)
