"""The ``topology`` section of a configuration: machines, links, and the parties on each machine.

    topology:
      devices:
        pi: {times: d1, bandwidth_mbit_per_s: 8}
        vm: {profile: resnet101_mpsl_vm, memory_gib: 16, bandwidth_mbit_per_s: 7130}
      owners: pi
      nodes: [vm, vm, vm]
      aggregator: pi

With a topology, `raysplit simulate` predicts a run and `raysplit plan` chooses cuts and nodes. Where ``pace`` is true,
`raysplit train` is also slowed to the speed of these machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from raysplit.cluster.emulation.trace import BYTES_PER_MBIT, LinkTrace, State, read_trace
from raysplit.experiment.codec_costs import CodecCosts, load_codec_costs
from raysplit.options import MOST_OWNERS, PathText
from raysplit.registry import nearest
from raysplit.schedulers.cuts.profiles import (
    BYTES_PER_GIB,
    NodeKind,
    OwnerTimes,
    Profile,
    load_profile,
    node_kinds,
    owner_times,
)
from raysplit.schedulers.rules import Rules


class DeviceOptions(Rules):
    """Kind of machine."""

    profile: PathText | None = None
    """Times of the units of the model: name of a shipped profile, or file written by `raysplit profile`."""
    times: str | None = None
    """Times of an owner that keeps both ends of the model: name of a shipped owner."""
    kind: str | None = None
    """Memory, slowdown and price: name of a shipped kind of node."""
    slowdown: float | None = Field(default=None, gt=0)
    """Factor on all times."""
    step_overhead_ms: float = Field(default=0.0, ge=0)
    """Milliseconds that every pass and update takes in addition, whatever the ``slowdown``, for Python and messages."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory in GiB; None takes that of ``kind``, or 16."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price per hour; None takes that of ``kind``, or 0."""
    up_mbit_per_s: float | None = Field(default=None, gt=0)
    """Bandwidth of sending in Mbit/s; ``bandwidth_mbit_per_s`` sets both directions. None takes no time."""
    down_mbit_per_s: float | None = Field(default=None, gt=0)
    """Bandwidth of receiving in Mbit/s; ``bandwidth_mbit_per_s`` sets both directions. None takes no time."""
    latency_ms: float = Field(default=0.0, ge=0)
    """Latency of every transfer in milliseconds."""
    serial_link: bool = False
    """Allow only one transfer at a time in each direction."""
    trace: PathText | None = None
    """CSV file of how the link changes: ``seconds``, and ``bandwidth_mbit_per_s``, or ``up_mbit_per_s`` and
    ``down_mbit_per_s``, and ``latency_ms``. Each row holds until the next."""
    trace_repeat_s: float | None = Field(default=None, gt=0)
    """Seconds after which the trace begins anew; null keeps its last row for good."""
    trace_shift_s: float = Field(default=0.0, ge=0)
    """Seconds that each party on such a device is ahead in the trace of the one before it."""
    host: str | None = None
    """Host whose cores the device shares with the other devices on it."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that its place requires, for example ``{raspberry_pi_4: 1}``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray labels that its machine must have, for example ``{site: north}``."""

    @model_validator(mode="before")
    @classmethod
    def _both_directions(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "bandwidth_mbit_per_s" in values:
            values = dict(values)
            both = values.pop("bandwidth_mbit_per_s")
            values = {"up_mbit_per_s": both, "down_mbit_per_s": both, **values}
        return values

    @model_validator(mode="after")
    def _known(self) -> DeviceOptions:
        if self.profile is not None:
            load_profile(self.profile)
        for field, value, known in (("kind", self.kind, node_kinds()), ("times", self.times, owner_times())):
            if value is not None and value not in known:
                raise ValueError(f"no shipped {field} {value!r}; use one of {', '.join(known)}")
        if self.trace is None and (self.trace_repeat_s is not None or self.trace_shift_s):
            raise ValueError("trace_repeat_s and trace_shift_s are of a trace, and there is none; set trace: FILE.csv")
        _ = self.link_trace
        return self

    @cached_property  # a file, which is asked for by every plan and party
    def link_trace(self) -> LinkTrace | None:
        """How the link changes over time; None where it does not. Raises ``ValueError`` for a file that is no trace."""
        if self.trace is None:
            return None
        up, down = (
            inf if rate is None else rate * BYTES_PER_MBIT for rate in (self.up_mbit_per_s, self.down_mbit_per_s)
        )
        constant = State(up, down, self.latency_ms * 1e-3, inf)
        return read_trace(Path(self.trace), constant, self.trace_repeat_s)

    @property
    def measured(self) -> Profile | None:
        """Profile of the device; None where it has none."""
        return load_profile(self.profile) if self.profile is not None else None

    @property
    def owner(self) -> OwnerTimes | None:
        """Times of the device as an owner; None where it has none."""
        return owner_times()[self.times] if self.times is not None else None

    def node_kind(self, name: str) -> NodeKind:
        """Return memory, slowdown and price: the device's values, or those of its kind, or 16 GiB, 1 and 0."""
        base = node_kinds()[self.kind] if self.kind else NodeKind(name=name, memory_bytes=16 * BYTES_PER_GIB)
        return NodeKind(
            name=name,
            memory_bytes=round(self.memory_gib * BYTES_PER_GIB) if self.memory_gib else base.memory_bytes,
            slowdown=base.slowdown if self.slowdown is None else self.slowdown,
            price_per_hour=base.price_per_hour if self.price_per_hour is None else self.price_per_hour,
            power_w=base.power_w,
        )

    @property
    def up_bytes_per_s(self) -> float | None:
        """Bandwidth of sending; of a trace the mean, None without a limit."""
        if (trace := self.link_trace) is not None:
            return _finite(trace.mean(trace.up_bytes_per_s))
        return None if self.up_mbit_per_s is None else self.up_mbit_per_s * BYTES_PER_MBIT

    @property
    def down_bytes_per_s(self) -> float | None:
        """Bandwidth of receiving; of a trace the mean, None without a limit."""
        if (trace := self.link_trace) is not None:
            return _finite(trace.mean(trace.down_bytes_per_s))
        return None if self.down_mbit_per_s is None else self.down_mbit_per_s * BYTES_PER_MBIT


def _finite(value: float) -> float | None:
    return value if value < inf else None


class Topology(Rules):
    """Machines, links, and the parties on each machine."""

    devices: dict[str, DeviceOptions]
    """Kinds of machines by name."""
    owners: str | dict[str, Annotated[int, Field(ge=0, le=MOST_OWNERS)]]
    """Device of all owners, or number of owners on each device in owner order: ``{pi4: 20, pi3: 10}``."""
    nodes: tuple[str, ...] = ()
    """Devices of ``node-1``, ``node-2``, ...; algorithms with one server use the first."""
    aggregator: str | None = None
    """Device of the aggregator, for its link; None takes no time."""
    hosts: dict[str, int] = Field(default_factory=dict)
    """Number of cores of each host that devices share."""
    samples_per_owner: int | None = Field(default=None, ge=1)
    """Number of samples of each owner in a simulation; None takes the shards of the partition."""
    codecs: PathText | None = None
    """File of `raysplit codecs --output` with the seconds of codecs, which a simulation and a paced run then take; None
    takes no time for them."""
    pace: bool = True
    """Slow `raysplit train` to the speed of these machines; where false, the topology only predicts."""
    time_scale: float = Field(default=1.0, gt=0)
    """Real seconds per described second of a paced run."""

    @field_validator("codecs")
    @classmethod
    def _has_costs(cls, value: str | None) -> str | None:
        if value is not None:
            load_codec_costs(value)
        return value

    @property
    def codec_costs(self) -> CodecCosts | None:
        """Measured costs of codecs; None where they take no time."""
        return load_codec_costs(self.codecs) if self.codecs is not None else None

    @model_validator(mode="after")
    def _consistent(self) -> Topology:
        owners = [self.owners] if isinstance(self.owners, str) else list(self.owners)
        for name in [*owners, *self.nodes, *([self.aggregator] if self.aggregator else [])]:
            if name not in self.devices:
                raise ValueError(
                    f"no device {name!r} in topology.devices{nearest(name, self.devices)} "
                    f"(known: {', '.join(self.devices)})"
                )
        for name, device in self.devices.items():
            if device.host is not None and device.host not in self.hosts:
                raise ValueError(
                    f"device {name!r} is on host {device.host!r}, which is not in topology.hosts; "
                    f"add its cores, for example hosts: {{{device.host}: 2}}"
                )
        return self

    def owner_devices(self, num_owners: int) -> list[str]:
        """Return the device of every owner, in owner order. Raises ``ValueError`` for a wrong number of owners."""
        if isinstance(self.owners, str):
            return [self.owners] * num_owners
        total = sum(self.owners.values())
        if total != num_owners:
            raise ValueError(
                f"topology.owners puts {total} owners on devices and partition.num_owners is {num_owners}; "
                f"make them equal"
            )
        return [name for name, count in self.owners.items() for _ in range(count)]
