"""``raysplit simulate``: predict the time of a run without computing anything."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysplit.cli.options import FilePath, NewFile
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table, use_table
from raysplit.cli.waiting import Waiting
from raysplit.registry import number_of

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig
    from raysplit.prediction.closed_form import ClosedForm
    from raysplit.prediction.simulate import Engine, Simulation


@click.command(name="simulate")
@click.argument("config", type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option(
    "--owners", type=click.IntRange(min=1), metavar="N", help="Number of owners instead of partition.num_owners."
)
@click.option(
    "--rounds", default=1, show_default=True, type=click.IntRange(min=1), metavar="N", help="Rounds to simulate."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "compiled", "reference"]),
    default="auto",
    show_default=True,
    help="Engine: the same events at different speeds.",
)
@click.option(
    "--timeline",
    type=NewFile(),
    help="Timeline to write (.parquet, or .json for Perfetto).",
)
@click.option("--picture", type=NewFile(), help="Figure of the timeline to write (.png).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def simulate_command(
    config: Path,
    overrides: tuple[str, ...],
    owners: int | None,
    rounds: int,
    engine: Engine,
    timeline: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Predict the time of a run without computing anything.

    CONFIG is a YAML file with a topology. The steps of its algorithm run in virtual time on the described devices and
    links. The result is the time of a round, how busy each device is, and which one is the bottleneck.

    \b
    Examples:
      raysplit simulate examples/mpsl_simulate.yaml
      raysplit simulate examples/mpsl_simulate.yaml --owners 1000 --picture timeline.png
    """
    if timeline is not None and timeline.suffix not in (".parquet", ".json"):
        raise click.BadParameter(f"{timeline} must end in .parquet or .json", param_hint="--timeline")
    from raysplit.api import simulate
    from raysplit.config.planned_cuts import with_plans
    from raysplit.config.run import load_config

    changes = [*overrides, *([f"partition.num_owners={owners}"] if owners else [])]
    checked = with_plans(load_config(config, changes))
    with Waiting(Console(stderr=True), "simulating", "events") as progress:
        simulation = simulate(checked, rounds=rounds, engine=engine, progress=progress)
    if timeline is not None:
        events = simulation.timeline
        (events.write_parquet if timeline.suffix == ".parquet" else events.write_trace)(timeline)
    if picture is not None:
        from raysplit.prediction.timeline_picture import draw_timeline

        draw_timeline(
            simulation.timeline, picture, title=f"{config.stem}: a round takes {_length(simulation.round_s[0])}"
        )
    formulas = simulation.closed_form
    if as_json:
        echo(json.dumps(_record(checked, simulation, formulas)))
    else:
        _print(checked, simulation, formulas)


def _record(config: RunConfig, simulation: Simulation, formulas: ClosedForm | None) -> dict[str, Any]:
    from raysplit.prediction.dry_setting import reference_profile

    bottleneck = simulation.bottleneck()
    return {
        "round_s": list(simulation.round_s),
        "bottleneck": bottleneck.device if bottleneck else None,
        "length": None if config.topology is None else reference_profile(config.topology).length,
        "cuts": config.algorithm.options.get("cuts"),
        "devices": [asdict(use) | {"utilisation": use.utilisation} for use in simulation.uses()],
        "num_events": simulation.num_events,
        "num_bytes": sum(link.num_bytes for link in simulation.traffic),
        "took_s": simulation.took_s,
        "engine": simulation.engine,
        "closed_form": asdict(formulas) | {"round_s": formulas.round_s} if formulas else None,
    }


def _print(config: RunConfig, simulation: Simulation, formulas: ClosedForm | None) -> None:
    from raysplit.prediction.dry_setting import reference_profile

    console = Console()
    lengths = ", ".join(_length(seconds) for seconds in simulation.round_s)
    title = f"{config.algorithm.name}, {number_of(config.partition.num_owners, 'owner')}: a round takes {lengths}"
    print_table(console, use_table(simulation.uses(), title))
    bottleneck = simulation.bottleneck()
    if bottleneck is not None:
        held_up = (
            f"{bottleneck.device} is the bottleneck"
            if bottleneck.utilisation >= 0.9
            else f"no device is busy all the time ({bottleneck.device} most): links and single batches hold it up"
        )
        console.print(f"{held_up}; its longest bubble is {_length(bottleneck.longest_idle_s)}", soft_wrap=True)
    if formulas is not None:
        console.print(
            f"closed form: {_length(formulas.round_s)} (training {_length(formulas.training_s)}), never under "
            f"{_length(formulas.lower_bound_s)}; the pipeline is full from {formulas.saturation_owners:.1f} owners on",
            soft_wrap=True,
        )
    assert config.topology is not None
    if (length := reference_profile(config.topology).length) is not None:
        console.print(f"for samples of length {length}, as in the profile; those of the data differ", soft_wrap=True)
    because = f": {simulation.reason}" if simulation.reason else ""
    console.print(
        f"{simulation.num_events} events simulated in {simulation.took_s:.1f} s by the {simulation.engine} "
        f"engine{because}",
        soft_wrap=True,
    )


def _length(seconds: float) -> str:
    return f"{seconds / 60:.2f} min" if seconds >= 120 else f"{seconds:.2f} s"
