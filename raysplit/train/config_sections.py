"""Plain sections of the configuration: how owners differ, when to look, where parties and results are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class OwnersConfig(Section):
    """What makes owners differ beside their shards.

    Attributes:
        domain: a transform per owner (see `raysplit.data.domains`).
        noisy: this many owners, the last ones, have noise.
        pixel_noise: its standard deviation on their training and test inputs.
        label_noise: the fraction of their training labels that is flipped.
    """

    domain: str | None = None
    noisy: int = Field(default=0, ge=0)
    pixel_noise: float = Field(default=0.0, ge=0)
    label_noise: float = Field(default=0.0, ge=0, le=1)


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


class ClusterConfig(Section):
    """Where parties live.

    Attributes:
        kind: ``ray``, or ``local`` for one process.
        address: of a running Ray cluster; None takes RAY_ADDRESS or starts a local one.
        num_cpus: logical CPUs of a local Ray; None takes the machine's.
        places: processes; ``auto`` takes one per CPU.
        sharing: ``alone`` gives every party a process of its own.
        strategy: how Ray spreads the places over machines.
        object_store_mib: shared memory of a local Ray, for tensors under way.
        placement_timeout_s: seconds to wait for room on the cluster.
        dashboard: start Ray's dashboard with a local Ray.
        device: where parts compute; ``auto`` takes CUDA where Ray offers GPUs.
        gpus_per_place: share of a GPU that each place reserves when the device is CUDA.
        elastic: null has the run wait for room for all its places.
    """

    kind: Literal["ray", "local"] = "ray"
    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    places: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    sharing: Literal["auto", "alone"] = "auto"
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    object_store_mib: int = Field(default=512, ge=80)
    placement_timeout_s: float = Field(default=60.0, gt=0)
    dashboard: bool = False
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    gpus_per_place: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    elastic: ElasticConfig | None = None


class OutputConfig(Section):
    """Where results go: ``<root>/<name>/``.

    Attributes:
        root: the folder that holds all runs.
        name: None takes the configuration file's name, or the algorithm's, and the time of day.
        overwrite: replace a run of the same name.
    """

    root: str = "runs"
    name: str | None = None
    overwrite: bool = False
