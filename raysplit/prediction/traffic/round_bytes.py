"""The bytes that a round will send, worked out from the model itself: its coroutines run on sizes, in no time.

It needs neither a topology nor a profile. The parts are those that a run deploys; what they hold and send is measured
on an example batch, and the algorithm's own round says who sends what to whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import as_tuple
from raysplit.actors.parts.losses import wire_labels
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.steps.shares import Counted
from raysplit.cluster.contract import LinkTraffic, PartySpec
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.tensors import num_bytes
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual
from raysplit.data.inputs import feed
from raysplit.experiment.errors import CannotBeSimulated
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.dry_parties import DryBatch, DryOwner, dry_parties
from raysplit.prediction.dry_run import DryPart, TensorSize
from raysplit.prediction.dry_setting import no_data
from raysplit.schedulers.cohort import choose_cohort
from raysplit.seeding import generator

MOST_STEPS = 200_000
"""Number of mini-batches of a round that are gone through, in some seconds."""


def bytes_of_round(experiment: Experiment) -> tuple[LinkTraffic, ...]:
    """Return the traffic of the first round on every link; the largest size counts where a codec's depends on values.

    Raises:
        CannotBeSimulated: it depends on values, on lengths, or on what a size does not have.
    """
    _refuse_unknown(experiment)
    setting = experiment.setting
    targets = _targets(experiment)
    owners = {name: no_data(len(data.shard)) for name, data in setting.owners.items()}
    spec: Any = _SizedSpec(setting.spec)
    dry = replace(setting, spec=spec, owners=owners, evaluators=(), validators=())
    rules = experiment.link_rules()
    algorithm = experiment.algorithm.bound(replace(dry, links_keep_state=rules.keeps_state))
    if sum(map(algorithm.num_steps, algorithm.setting.owners)) > MOST_STEPS:
        raise CannotBeSimulated(f"a round has more than {MOST_STEPS:,} mini-batches")
    cohort = choose_cohort(
        algorithm.available(0),
        setting.cohort.num_drawn(len(algorithm.available(0)), setting.cohort_size),
        generator(setting.seed, "round", 0, "cohort"),
    )
    cluster = LocalCluster(lambda parties: Emulation({}, VirtualClock()), links=rules, checks=False)

    async def one_round() -> list[LinkTraffic]:
        algorithm.attach(await cluster.deploy([_sized(party, targets) for party in dry_parties(algorithm.parties())]))
        await algorithm.round(algorithm.context(0, list(cohort)))
        return await cluster.traffic()

    try:
        return tuple(run_virtual(one_round()))
    except (TypeError, AttributeError, KeyError) as error:
        raise CannotBeSimulated(f"{type(algorithm).__qualname__} needs values, not sizes: {error}") from error


def _refuse_unknown(experiment: Experiment) -> None:
    setting, model = experiment.setting, experiment.section("model")
    reasons = {
        f"{experiment.method} depends on the values of tensors": not experiment.algorithm.can_be_simulated,
        "samples differ in length": any(kind.ragged for kind in setting.spec.example_inputs().values()),
        "only a part of the weights is trained and sent": any(model.get(key) for key in ("freeze", "train", "lora")),
        "the parts exchange norms of gradients": setting.clip is not None and setting.clip.scope == "model",
        "parties come and go": experiment.elastic is not None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise CannotBeSimulated(reason)


@dataclass(frozen=True, kw_only=True)
class _Targets:
    """The targets of a sample: their bytes as they are sent, and their names where there are several."""

    num_bytes: float = 0.0
    names: tuple[str, ...] = ()


def _targets(experiment: Experiment) -> _Targets:
    shard = next(iter(experiment.setting.owners.values())).shard
    if not len(shard):
        return _Targets()
    y = shard.take([0]).y
    return _Targets(num_bytes=num_bytes(wire_labels(y)), names=() if isinstance(y, Tensor) else tuple(y))


def _sized(party: PartySpec, targets: _Targets) -> PartySpec:
    """Let an owner's batches have the size of its targets."""
    if party.build is not DryOwner:
        return party
    return replace(party, build=partial(_SizedOwner, targets))


class _SizedOwner(DryOwner):
    """Owner whose batches have the size of its targets."""

    def __init__(self, targets: _Targets, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._of_sample = targets

    def _told_count(self) -> Counted:
        return dict.fromkeys(self._of_sample.names, 1) or 1

    def batches(self, context: RoundContext) -> Iterator[tuple[StepId, Any]]:
        for step_id, batch in super().batches(context):
            rows = len(batch)
            yield step_id, DryBatch(x=batch.x, y=TensorSize(round(self._of_sample.num_bytes * rows), rows))


class _SizedSpec:
    """Description of a model whose parts are only sizes; everything else is that of the model."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec
        self.parts = self.part_outlines = cache(self._parts)

    def part(self, cuts: Sequence[int | str], index: int, device: str = "cpu") -> _SizedPart:
        """Return one of the parts between the cuts."""
        return self.parts(cuts)[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spec, name)

    def __reduce__(self) -> Any:
        return _SizedSpec, (self._spec,)

    def _parts(self, cuts: Sequence[int | str]) -> list[_SizedPart]:
        outlines = outlines_of(self._spec, cuts)
        return [_SizedPart(outline, before) for outline, before in zip(outlines, [None, *outlines[:-1]], strict=True)]


@dataclass(frozen=True, kw_only=True)
class PartOutline:
    """What a part of a model holds, and what it sends to the next one.

    Attributes:
        weights: the tensors of its state by name, as shape and type.
        rows_of: the tensors of one sample that it sends, as shape and type; empty for the last part.
    """

    weights: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
    rows_of: tuple[tuple[tuple[int, ...], torch.dtype], ...] = ()

    @property
    def weight_bytes(self) -> int:
        return sum(_bytes(*leaf) for leaf in self.weights.values())

    @property
    def row_bytes(self) -> int:
        """Bytes that it sends for one sample, without a codec."""
        return sum(_bytes(*leaf) for leaf in self.rows_of)


def outlines_of(spec: Any, cuts: Sequence[int | str]) -> list[PartOutline]:
    """Return what each part between the cuts holds and sends, measured on an example batch."""
    z: Any = spec.example()
    found: list[PartOutline] = []
    parts: list[nn.Module] = spec.parts(tuple(cuts))
    for index, part in enumerate(parts):
        weights = {name: (tuple(value.shape), value.dtype) for name, value in part.state_dict().items()}
        if index == len(parts) - 1:
            return [*found, PartOutline(weights=weights)]
        with torch.no_grad():
            z = feed(part.eval(), z) if isinstance(z, Mapping) else part.eval()(*as_tuple(z))
        leaves = [leaf for leaf in as_tuple(z) if isinstance(leaf, Tensor)]
        found.append(PartOutline(weights=weights, rows_of=tuple((tuple(x.shape[1:]), x.dtype) for x in leaves)))
    return found


def _bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


class _SizedPart(DryPart):
    """Part that is only sizes, by its outline."""

    def __init__(self, outline: PartOutline, before: PartOutline | None) -> None:
        self._names = tuple(outline.weights)
        self._weights = {
            name: TensorSize(_bytes(*leaf), weights=[(name, *leaf)]) for name, leaf in outline.weights.items()
        }
        inputs = _sizes(before) if before is not None else _sizes(PartOutline(weights={}))
        outputs = _sizes(outline)
        self.forward = cache(lambda num_rows: lambda: outputs(num_rows))
        self.backward = cache(lambda num_rows: lambda: inputs(num_rows))
        self.loss_gradient = cache(lambda num_rows: lambda: (0.0, inputs(num_rows)))


def _sizes(outline: PartOutline) -> Any:
    return cache(lambda num_rows: TensorSize(outline.row_bytes * num_rows, num_rows, outline.rows_of))
