"""The ``cluster`` section of a configuration: processes, Ray and devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysplit.experiment.rules import ElasticRules
from raysplit.schedulers.rules import Rules


class ClusterOptions(Rules):
    """Processes and devices that the parties run on."""

    kind: Literal["ray", "local"] = "ray"
    """``ray`` for processes of a Ray cluster, ``local`` for this process."""
    address: str | None = None
    """Address of a running Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine."""
    num_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a Ray started on this machine; None takes all."""
    places: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of processes; ``auto`` takes one per CPU."""
    sharing: Literal["auto", "alone"] = "auto"
    """``auto`` shares the processes among the parties, ``alone`` gives every party a process of its own."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """Strategy by which Ray spreads the places over machines."""
    object_store_mib: int = Field(default=512, ge=80)
    """Shared memory, in MiB, of a Ray started on this machine, for tensors in transit."""
    placement_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds to wait for room on the cluster."""
    dashboard: bool = False
    """Start the dashboard together with a Ray on this machine."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Device of the parts; ``auto`` takes CUDA where Ray has GPUs."""
    gpus_per_place: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Share of a GPU that each place reserves when the device is CUDA."""
    elastic: ElasticRules | None = None
    """Rules for owners and nodes that come and go; None waits for room for all places."""
