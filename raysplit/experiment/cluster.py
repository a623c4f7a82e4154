"""Where the parties of a run live: processes, Ray, devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysplit.experiment.rules import ElasticConfig, Section


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
