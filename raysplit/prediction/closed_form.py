"""Closed formulas for a round of MP-SL: equations (4) to (6), the lower bound and K*.

`raysplit.schedulers.cuts.time_model` has the formulas (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208); here
they are applied to the devices, links and cuts of the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf

from raysplit.cluster.device import WorkKind
from raysplit.cluster.emulation.machines import Costs
from raysplit.cluster.emulation.network import Interface
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.topology import Topology
from raysplit.prediction.dry_setting import dry, reference_profile
from raysplit.prediction.machines import interface, node_device, part_costs
from raysplit.schedulers.cuts.time_model import (
    Averaging,
    OwnerLoad,
    Round,
    Stage,
    averaging_ms,
    saturation_owners,
    training_lower_bound_ms,
    training_ms,
)

_MS = 1e3


@dataclass(frozen=True, kw_only=True)
class ClosedForm:
    """Times of a round by the closed formulas, in seconds.

    Attributes:
        training_s, averaging_s: equations (4) and (5); their sum is equation (6).
        lower_bound_s: the training time that no schedule can beat.
        saturation_owners: K*; for fewer owners, equation (4) is too low.
    """

    training_s: float
    averaging_s: float
    lower_bound_s: float
    saturation_owners: float

    @property
    def round_s(self) -> float:
        """Length of the round: equation (6)."""
        return self.training_s + self.averaging_s


def closed_form(experiment: Experiment) -> ClosedForm | None:
    """Apply the formulas to an algorithm whose owners all take the same route, as in MP-SL; None for any other, and for
    links that change over time.

    Raises ``ConfigError`` for an experiment without a topology.
    """
    topology = experiment.required_topology
    algorithm = dry(experiment).begin()
    if len(algorithm.routes) != 1 or any(device.trace is not None for device in topology.devices.values()):
        return None  # the formulas know one route and links that stay as they are
    (route,) = algorithm.routes
    devices, batch_size = topology.devices, experiment.batch_size
    cuts, nodes, last = route.cuts, route.node_names, len(route.cuts)

    def costs(device: str, part: int) -> Costs:
        return part_costs(device, devices[device], cuts, part, batch_size)

    sitting = [node_device(topology, name, i, len(nodes)) for i, name in enumerate(nodes)]
    stages = tuple(_stage(costs(device, part), part) for part, device in enumerate(sitting, start=1))
    profile = reference_profile(topology)
    crossing = [profile.units[int(cut) - 1].activation_bytes * batch_size / profile.batch_size for cut in cuts]
    head, tail = interface(devices[sitting[0]]), interface(devices[sitting[-1]])
    owners = []
    for device in topology.owner_devices(len(experiment.setting.owners)):
        first, end, own = costs(device, 0), costs(device, last), interface(devices[device])
        owners.append(
            OwnerLoad(
                first_forward_ms=_MS * first[0, "forward"],
                last_ms=_MS * end[last, "loss"],
                first_backward_ms=_MS * (first[0, "backward"] + first[0, "update"]),
                first_bytes=crossing[0],
                last_bytes=crossing[-1],
                up_bytes_per_s=min(own.up_bytes_per_s, head.down_bytes_per_s, tail.down_bytes_per_s),
                down_bytes_per_s=min(own.down_bytes_per_s, head.up_bytes_per_s, tail.up_bytes_per_s),
            )
        )
    steps = [algorithm.num_steps(owner) for owner in algorithm.setting.owners]
    work = Round(stages=stages, owners=tuple(owners), batches=round(sum(steps) / len(steps)))
    hops = [
        _hop_ms(interface(devices[a]), interface(devices[b]), size)
        for (a, b), size in zip(pairwise(sitting), crossing[1:-1], strict=True)
    ]
    ends = [unit.parameter_bytes for unit in (*profile.units[: int(cuts[0])], *profile.units[int(cuts[-1]) :])]
    averaging = Averaging(bytes_per_owner=sum(ends), link_bytes_per_s=_averaging_rate(topology, len(owners)))
    return ClosedForm(
        training_s=training_ms(work) / _MS,
        averaging_s=averaging_ms(len(owners), averaging) / _MS,
        lower_bound_s=training_lower_bound_ms(work, hops) / _MS,
        saturation_owners=saturation_owners(work, hops),
    )


def _stage(costs: Costs, part: int) -> Stage:
    def ms(kind: WorkKind) -> float:
        return _MS * costs[part, kind]

    return Stage(forward_ms=ms("forward"), backward_ms=ms("backward"), update_ms=ms("update"))


def _hop_ms(sender: Interface, receiver: Interface, num_bytes: float) -> float:
    seconds = num_bytes / min(sender.up_bytes_per_s, receiver.down_bytes_per_s)
    return _MS * (seconds + sender.latency_s + receiver.latency_s)


def _averaging_rate(topology: Topology, num_owners: int) -> float:
    # the slowest of the owners' links to the aggregator; without an aggregator device, averaging takes no time
    if topology.aggregator is None:
        return inf
    ends = [topology.aggregator, *set(topology.owner_devices(num_owners))]
    return min(
        rate
        for name in ends
        for i in [interface(topology.devices[name])]
        for rate in (i.up_bytes_per_s, i.down_bytes_per_s)
    )
