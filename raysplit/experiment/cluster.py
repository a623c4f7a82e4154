"""Where the parties of a run live: processes, Ray, devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysplit.experiment.rules import ElasticRules
from raysplit.schedulers.rules import Rules


class ClusterOptions(Rules):
    """Where parties live."""

    kind: Literal["ray", "local"] = "ray"
    """``ray``, or ``local`` for one process."""
    address: str | None = None
    """Of a running Ray cluster; None takes RAY_ADDRESS or starts a local one."""
    num_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a local Ray; None takes the machine's."""
    places: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes; ``auto`` takes one per CPU."""
    sharing: Literal["auto", "alone"] = "auto"
    """``alone`` gives every party a process of its own."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How Ray spreads the places over machines."""
    object_store_mib: int = Field(default=512, ge=80)
    """Shared memory of a local Ray, for tensors under way."""
    placement_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds to wait for room on the cluster."""
    dashboard: bool = False
    """Start Ray's dashboard with a local Ray."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where parts compute; ``auto`` takes CUDA where Ray offers GPUs."""
    gpus_per_place: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Share of a GPU that each place reserves when the device is CUDA."""
    elastic: ElasticRules | None = None
    """Null has the run wait for room for all its places."""
