"""``raysplit train --dry-run``: what would run where, and what would cross. Nothing is trained, started or written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from raysplit.cli.progress import human_bytes
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.paths import is_uri
from raysplit.registry import few, number_of

if TYPE_CHECKING:
    from raysplit.cluster.contract import PartySpec
    from raysplit.cluster.layout import PlaceSpec
    from raysplit.config.run import RunConfig
    from raysplit.experiment.experiment import Experiment

_FEW = 2
_MOST_PLACES = 12
HERE = "this process"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the model as parties hold it; ``sends`` is the text of the tensors of one sample."""

    where: str
    num_parties: int
    index: int
    num_parts: int
    weight_bytes: int
    sends: str
    sends_bytes: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a run would be; bytes are None, with the reason in ``unknown``, where they depend on values.

    They are ``at_most`` those where a codec's size depends on values.
    """

    title: str
    location: str
    model: str
    data: str
    rounds: int
    owners: Mapping[str, int]
    steps: Mapping[str, int]
    cuts: tuple[str, ...]
    parts: tuple[Part, ...]
    places: Mapping[str, tuple[str, ...]]
    reserves: Mapping[str, str]
    assumed: str
    memory_bytes: int
    round_bytes: Mapping[str, int] | None
    unknown: str
    links: str
    at_most: bool = False

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all rounds; None where they are unknown."""
        return None if self.round_bytes is None else sum(self.round_bytes.values()) * self.rounds


def outline(config: RunConfig, location: str) -> Outline:
    """Build the run that a configuration describes up to its start, and return what it would be.

    Raises ``ValueError`` for whatever the run itself would be refused for before its start.
    """
    from raysplit.config.build import build
    from raysplit.config.planned_cuts import with_plans
    from raysplit.config.run import resolved
    from raysplit.trackers.given import trackers_of
    from raysplit.training.model_checks import checked_parties
    from raysplit.training.preflight import expected_needs

    config = resolved(with_plans(config))
    trackers_of(config.output.trackers, None)
    _refuse_used(location, overwrite=config.output.overwrite)
    experiment = build(config)
    algorithm = experiment.begin()
    parties = checked_parties(algorithm, experiment.setting.spec)
    resources, assumed = _resources(config)
    places, reserves = _places(experiment, parties, resources)
    round_bytes, unknown = _round_bytes(experiment)
    return Outline(
        title=algorithm.title,
        location=location,
        model=config.model.name,
        data=config.data.name,
        rounds=algorithm.num_rounds,
        owners={name: len(data.shard) for name, data in experiment.setting.owners.items()},
        steps={name: algorithm.num_steps(name) for name in algorithm.setting.owners},
        cuts=_cuts(parties),
        parts=tuple(_parts(parties)),
        places=places,
        reserves=reserves,
        assumed=assumed,
        memory_bytes=expected_needs(experiment, algorithm, parties, resources).memory_bytes,
        round_bytes=round_bytes,
        unknown=unknown,
        links=_links(config),
        at_most=any(codec.size_depends_on_values for _, codec in experiment.link_rules().all_codecs),
    )


def _refuse_used(location: str, *, overwrite: bool) -> None:
    """Raise `RunFolderUsed` where the run would be; a URI is not asked."""
    from raysplit.runs.folder import entries, refuse_used

    path = Path(location)
    if not is_uri(location) and path.is_dir():
        refuse_used(path, {entry.name for entry in entries(path)}, overwrite=overwrite)


def _resources(config: RunConfig) -> tuple[dict[str, float], str]:
    """Return the resources that a layout is made for, and what of them is assumed."""
    options = config.cluster
    if options.kind == "local":
        return {"CPU": 1.0}, ""
    address = options.address or os.environ.get("RAY_ADDRESS")
    cpus = float(options.num_cpus or os.cpu_count() or 1)
    if address:
        how = "" if options.places != "auto" else f"; places: auto is shown for {cpus:.0f} CPUs"
        return {"CPU": cpus}, f"the Ray at {address} was not asked{how}"
    return {"CPU": cpus}, f"a Ray with {number_of(int(cpus), 'CPU')} would be started on this machine"


def _places(
    experiment: Experiment, parties: Sequence[PartySpec], resources: dict[str, float]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    if experiment.cluster.kind == "local":
        return {HERE: tuple(party.name for party in parties)}, {}
    from raysplit.training.cluster import ray_layout

    wanted = experiment.cluster.device == "cuda"
    layout = ray_layout(experiment, resources | ({"GPU": 1.0} if wanted else {}))(parties)
    of_place = {
        place.name: tuple(party.name for party in parties if layout.place_of[party.name] == place.name)
        for place in layout.places
    }
    return of_place, {place.name: _reserved(place) for place in layout.places}


def _reserved(place: PlaceSpec) -> str:
    amounts = [f"{amount:g} {name}" for name, amount in place.bundle().items()]
    return ", ".join([*amounts, *(f"on {key}={value}" for key, value in place.labels.items())])


def _cuts(parties: Sequence[PartySpec]) -> tuple[str, ...]:
    from raysplit.training.preflight import recipes_of

    longest = max((recipe.cuts for party in parties for recipe in recipes_of(party)), key=len, default=())
    return tuple(str(cut) for cut in longest)


def _parts(parties: Sequence[PartySpec]) -> list[Part]:
    """Return the different parts of the model, each with the parties that hold it."""
    from raysplit.prediction.traffic.round_bytes import outlines_of
    from raysplit.training.preflight import recipes_of

    held: dict[str, tuple[Any, list[str]]] = {}
    for party in parties:
        if party.role in ("owner", "node"):
            for recipe in recipes_of(party):
                key = f"{party.role} {recipe.spec} {recipe.cuts} {recipe.index}"
                held.setdefault(key, (recipe, []))[1].append(party.name)
    known: dict[str, Any] = {}
    found = []
    for recipe, names in held.values():
        key = f"{recipe.spec} {recipe.cuts}"
        if key not in known:
            known[key] = outlines_of(recipe.spec, recipe.cuts)
        part = known[key][recipe.index]
        found.append(
            Part(
                where=few(names, _FEW),
                num_parties=len(names),
                index=recipe.index,
                num_parts=len(known[key]),
                weight_bytes=part.weight_bytes,
                sends=", ".join(
                    f"{_shape(shape)} {str(dtype).removeprefix('torch.')}" for shape, dtype in part.rows_of
                ),
                sends_bytes=part.row_bytes,
            )
        )
    return sorted(found, key=lambda part: part.index)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _round_bytes(experiment: Experiment) -> tuple[dict[str, int] | None, str]:
    from raysplit.experiment.errors import CannotBeSimulated
    from raysplit.prediction.traffic.round_bytes import bytes_of_round

    try:
        traffic = bytes_of_round(experiment)
    except CannotBeSimulated as error:
        return None, str(error)
    kinds: dict[str, int] = {}
    for link in traffic:
        for kind in link.kinds:
            kinds[kind.kind] = kinds.get(kind.kind, 0) + kind.num_bytes
    return {kind: size for kind, size in kinds.items() if size}, ""


def _links(config: RunConfig) -> str:
    plain = config.links.model_dump(exclude_defaults=True)
    return ", ".join(f"{key} {value}" for key, value in plain.items()) or "no codec"


def print_outline(found: Outline) -> None:
    """Print the outline for a person."""
    console = Console()

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    sizes, steps = found.owners.values(), found.steps.values()
    say(f"{found.title}, {number_of(found.rounds, 'round')}: model {found.model}, data {found.data}")
    say(
        f"{number_of(len(found.owners), 'owner')} with {_range(sizes)} training samples and {_range(steps)} "
        f"mini-batches a round; links: {found.links}"
    )
    cut = f", cut after {', '.join(found.cuts)}" if found.cuts else ", not cut"
    table = Table(title=f"parts of the model{cut}")
    table.add_column("part", justify="right")
    table.add_column("held by")
    table.add_column("weights", justify="right")
    table.add_column("sends, one sample")
    for part in found.parts:
        sends = f"{part.sends}, {human_bytes(part.sends_bytes)}" if part.sends else ""
        number = f"{part.index + 1} of {part.num_parts}"
        table.add_row(number, part.where, human_bytes(part.weight_bytes), sends)
    print_table(console, table)
    table = Table("place", "parties", "reserves", title="processes")
    for place, parties in list(found.places.items())[:_MOST_PLACES]:
        table.add_row(place, few(parties, _FEW), found.reserves.get(place, "nothing"))
    if len(found.places) > _MOST_PLACES:
        table.add_row(f"... and {len(found.places) - _MOST_PLACES} more")
    print_table(console, table)
    if found.assumed:
        say(found.assumed)
    say(f"memory: about {human_bytes(found.memory_bytes)}")
    if found.round_bytes is None:
        say(f"bytes: not known before the run, because {found.unknown}")
    else:
        kinds = ", ".join(f"{kind} {human_bytes(size)}" for kind, size in found.round_bytes.items())
        first, total = human_bytes(sum(found.round_bytes.values())), human_bytes(found.total_bytes or 0)
        most = "at most " if found.at_most else ""
        say(f"bytes of the first round: {most}{first} ({kinds or 'nothing is sent'})")
        say(f"bytes of {number_of(found.rounds, 'round')}: {most or 'about '}{total}")
        if most:
            say("with codecs whose sizes depend on the values; raysplit codecs measures them")
    say(f"run folder: {found.location} (not made)")
    say("nothing was trained, started or written")


def _range(numbers: Any) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def echo_json(found: Outline) -> None:
    """Print the outline for a program."""
    echo(json.dumps(asdict(found) | {"total_bytes": found.total_bytes}, indent=1))
