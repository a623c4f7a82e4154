"""`raysplit profile`: measure the units of a model on this machine."""

from __future__ import annotations

import asyncio
import json
import platform
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from raysplit.cli.options import FilePath, NewFile, found_run
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:
    from raysplit.prediction.measured.messages import MessageCosts
    from raysplit.schedulers.cuts.profiles import Profile, UnitProfile

_MIB = 2**20
_ROUND_TRIPS = 50  # of each size


@click.command(name="profile")
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting of CONFIG.")
@click.option("--model", metavar="NAME", help="Instead of CONFIG: a model, or package.module:callable.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Samples in a batch, by default 128 or those of CONFIG.",
)
@click.option(
    "--length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Length of samples that differ in it; by default of the mean batch.",
)
@click.option(
    "--repeats", default=5, show_default=True, metavar="N", help="Timed batches, of which the median is taken."
)
@click.option("--input-shape", default="3,32,32", show_default=True, metavar="SIZES", help="Shape of one sample.")
@click.option(
    "--input-type",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "int64"]),
    help="Type of the inputs; int64 for tokens.",
)
@click.option("--num-classes", default=10, show_default=True, metavar="N", help="Outputs of the model.")
@click.option(
    "--device", default=platform.node(), metavar="NAME", help="Name of this machine; by default its host name."
)
@click.option(
    "--with-messages",
    is_flag=True,
    help="Also measure calls and messages on a local Ray.",
)
@click.option(
    "--leak",
    type=FilePath(),
    metavar="CONFIG",
    help="Measure what cuts tell of the data of CONFIG.",
)
@click.option("--weights", metavar="RUN", help="With --leak: the weights of this run, not initial ones.")
@click.option("--output", type=NewFile(), help="Profile to write (.parquet, .csv).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def profile(
    config: Path | None,
    overrides: tuple[str, ...],
    model: str | None,
    batch_size: int | None,
    length: int | None,
    repeats: int,
    input_shape: str,
    input_type: str,
    num_classes: int,
    device: str,
    with_messages: bool,
    leak: Path | None,
    weights: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the units of a model on this machine, for `raysplit plan`.

    The model and its inputs come from CONFIG, a YAML file, or from --model with --input-shape. Forward pass, backward
    pass and update of each unit are timed on one thread, and its bytes are counted.
    --with-messages adds the settings of a device that the prediction of a run without pacing needs.

    \b
    Examples:
      raysplit profile my.yaml --output mine.parquet
      raysplit profile --model vgg19 --output vgg19.parquet
      raysplit profile --model cnn8 --input-shape 1,8,8 --with-messages
    """
    if output is not None and output.suffix not in (".parquet", ".csv"):
        raise click.BadParameter(f"{output} must end in .parquet or .csv", param_hint="--output")
    try:
        shape = tuple(int(size) for size in input_shape.split(","))
    except ValueError as wrong:
        raise click.BadParameter(
            f"{input_shape!r} must be sizes such as 3,32,32", param_hint="--input-shape"
        ) from wrong
    if weights is not None and leak is None:
        raise click.UsageError("--weights is for --leak, which measures cuts with them")
    if (config is None) == (model is None):
        raise click.UsageError("give either CONFIG or --model NAME")
    import torch

    from raysplit.data.inputs import UNNAMED, Input
    from raysplit.models.profiler import measure_profile
    from raysplit.models.zoo import build_model

    how: dict[str, Any] = {"repeats": repeats, "device": device, "length": length}
    if config is not None:
        measured = _of_config(config, overrides, batch_size, how)
    else:
        assert model is not None
        torch.manual_seed(0)
        inputs = {UNNAMED: Input(dtype=getattr(torch, input_type), shape=shape)}
        built = build_model(model, input_shape=shape, num_classes=num_classes, data_inputs=inputs)
        measured = measure_profile(built, name=model, inputs=inputs, batch_size=batch_size or 128, **how)
    if leak is not None:
        measured = _with_leak(measured, leak, weights)
    if output is not None:
        (measured.to_csv if output.suffix == ".csv" else measured.to_parquet)(output)
    costs = _message_costs() if with_messages else None
    if as_json:
        echo(json.dumps(asdict(measured) | ({"messages": asdict(costs)} if costs else {})))
        return
    _print(measured, output)
    if costs is not None:
        echo("the device in the topology of runs on this machine without pacing (pace: false):")
        for name, value in asdict(costs).items():
            echo(f"  {name}: {round(value, 3)}")


def _of_config(config: Path, overrides: tuple[str, ...], batch_size: int | None, how: dict[str, Any]) -> Profile:
    """Measure the model of a configuration on batches as its data have them."""
    from raysplit.config.build import model_and_data
    from raysplit.config.run import load_config
    from raysplit.data.sequences.lengths import padded_length
    from raysplit.models.profiler import measure_profile

    checked = load_config(config, overrides)
    with Waiting(Console(stderr=True), "loading the data"):
        spec, data = model_and_data(checked)
        batch_size = batch_size or checked.training.batch_size
        length = padded_length(data, how["length"], batch_size=batch_size, seed=checked.seed)
    how = {**how, "batch_size": batch_size, "length": length}
    return measure_profile(spec.build(), name=checked.model.name, inputs=dict(spec.inputs), **how)


def _message_costs() -> MessageCosts:
    """Measure calls within a place of Ray, and messages between two."""
    from raysplit.cluster.layout import lay_out
    from raysplit.cluster.on_ray.connect import RayOptions, connect, ray_left_as_found
    from raysplit.prediction.measured.messages import costs_of, round_trips

    async def trips(num_places: int) -> dict[int, float]:
        from raysplit.cluster.on_ray.cluster import RayCluster  # imports Ray, which `connect` must configure first

        cluster = RayCluster(partial(lay_out, num_places=num_places, cpus=float(num_places)))
        try:
            return await round_trips(cluster, repeats=_ROUND_TRIPS)
        finally:
            await cluster.close()

    with ray_left_as_found():
        connect(RayOptions(address="local", num_cpus=2))
        return costs_of(asyncio.run(trips(2)), asyncio.run(trips(1)))


def _leaks(unit: UnitProfile) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in (unit.leak_fisher, unit.dcor2_unbiased)]


def _with_leak(measured: Profile, config: Path, weights: str | None) -> Profile:
    """Add what a cut behind each unit tells of samples. Raises ``ValueError`` for a configuration of another model."""
    from raysplit.config.run import load_config
    from raysplit.privacy.leak.planned import measure_cuts

    checked = load_config(config)
    if checked.model.name != measured.model:
        raise ValueError(
            f"{config} configures the model {checked.model.name}, and {measured.model} is profiled; name the same"
        )
    found = {cut.cut: cut.figures for cut in measure_cuts(checked, weights=found_run(weights) if weights else None)}
    units = [
        replace(unit, **{name: found[number][name] for name in ("leak_fisher", "dcor2_unbiased")})
        if number in found
        else unit
        for number, unit in enumerate(measured.units, start=1)
    ]
    return replace(measured, units=tuple(units))


def _print(measured: Profile, output: Path | None) -> None:
    rows_of = f"batches of {measured.batch_size}"
    if measured.length is not None:
        rows_of += f" samples of length {measured.length}, which differ in length"
    table = Table(title=f"{measured.model} on {measured.device}, {rows_of}")
    for column in ("", "unit"):
        table.add_column(column)
    for column in ("forward ms", "backward ms", "update ms", "activation MiB", "parameter MiB"):
        table.add_column(column, justify="right")
    has_leaks = any(unit.leak_fisher is not None for unit in measured.units)
    for column in ("leak (Fisher)", "dCor2") if has_leaks else ():
        table.add_column(column, justify="right")
    rows = [
        (unit.forward_ms, unit.backward_ms, unit.update_ms, unit.activation_bytes / _MIB, unit.parameter_bytes / _MIB)
        for unit in measured.units
    ]
    for index, (unit, row) in enumerate(zip(measured.units, rows, strict=True)):
        table.add_row(str(index), unit.name, *(f"{value:.2f}" for value in row), *(_leaks(unit) if has_leaks else ()))
    table.add_section()
    table.add_row("", "sum", *(f"{sum(column):.2f}" for column in zip(*rows, strict=True)))
    console = Console()
    print_table(console, table)
    if output is not None:
        console.print(f"written to {output}; use it with: raysplit plan --profile {output} ...", soft_wrap=True)
