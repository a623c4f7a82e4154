"""`raysplit cuts`: list the places where a model can be cut."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from raysplit.cli.options import FilePath
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import is_too_narrow, print_records
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:  # help must not wait for torch
    from raysplit.models.crossing.places import Place
    from raysplit.models.spec import ModelSpec


@click.command(name="cuts")
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--all", "show_all", is_flag=True, help="Show places that cannot be cut too, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@click.option(
    "--length", type=click.IntRange(min=1), metavar="N", help="Length of a sample, where samples differ in it."
)
@click.option("--why", metavar="NAME", help="Say what crosses one place, or why it cannot be cut.")
def cuts(
    config: Path | None,
    overrides: tuple[str, ...],
    show_all: bool,
    as_json: bool,
    length: int | None,
    why: str | None,
) -> None:
    """List the places where a model can be cut.

    The model and its data come from CONFIG, a YAML file, and from --set. For each place: the number of units in front
    of it and its name, either of which is a cut; the tensors that would cross; the bytes of one sample forward and
    those of the gradients that return; the weights before and after it; the share of the operations of a forward pass
    before it; and whether raw inputs would leave their owner there.

    \b
    Examples:
      raysplit cuts examples/minibatch_sfl_digits.yaml
      raysplit cuts --set model.name=resnet18_cifar --set "data={name: CIFAR10, root: data}" --all
    """
    with Waiting(Console(stderr=True), "loading the data, tracing the model"):
        from raysplit.config.build import model_and_data
        from raysplit.config.run import load_config
        from raysplit.data.sequences.lengths import padded_length

        began_s = time.perf_counter()
        checked = load_config(config, overrides)
        spec, data = model_and_data(checked)
        if checked.data.by_owner is None:  # whose samples are not here
            length = padded_length(data, length, batch_size=checked.training.batch_size, seed=checked.seed)
        spec = spec.with_front_end()
        spec.check_cuttable()
        places = spec.places(length)
        front_end, traced_s = spec.traced().front_end, time.perf_counter() - began_s
    if as_json:
        about = {"model": spec.name, "front_end": front_end, "seconds": round(traced_s, 2), "length": length}
        echo(json.dumps({**about, "places": [asdict(place) for place in places]}))
        return
    if why is not None:
        echo(_explained(spec, why, places))
        return
    shown = [place for place in places if show_all or place.objection is None]
    console = Console()
    table = _table(spec.name, shown)
    if is_too_narrow(console, table):
        print_records(console, table)
    else:
        console.print(table)
    console.print("bytes forward, and below them of the gradients; weights before a place, and below them after it")
    said = "" if length is None else f"; samples of {length}, which differ in length"
    console.print(f"front end {front_end}, {traced_s:.1f} s to load the data and to trace and check the model{said}")
    if hidden := len(places) - len(shown):
        console.print(f"left out because they cannot be cut: {hidden}; --all shows them and says why", soft_wrap=True)
    first = spec.first_private_cut()
    if first is None:
        text = "no cut keeps the inputs at their owner; model.send_inputs allows the others by name"
    else:
        text = f"cut: auto is after unit {first}, the first one at which the inputs stay at their owner"
    console.print(text, soft_wrap=True)


def _explained(spec: ModelSpec, name: str, places: Sequence[Place]) -> str:
    """Say in lines what crosses the place of this name or unit, or why the model cannot be cut there."""
    cut = int(name) if name.isdecimal() else name
    try:
        position = spec.traced().resolve(cut)
    except ValueError as reason:
        return str(reason)
    place = places[position]
    sent = f"raw inputs among it: {', '.join(place.sent_inputs)}" if place.sent_inputs else "no raw inputs among it"
    side = f", {place.num_bytes_side_per_sample:,} of them side inputs" if place.num_bytes_side_per_sample else ""
    return (
        f"the model can be cut at {name}, after {place.name or '(the inputs)'}\n"
        f"crosses, one sample: {', '.join(place.tensors)}; {place.num_bytes_per_sample:,} bytes{side}; {sent}\n"
        f"returns: {place.num_bytes_back_per_sample:,} bytes of gradients\n"
        f"weights before {place.parameters_before:,}, after {place.parameters_after:,}; trained before "
        f"{place.trained_before:,}, after {place.trained_after:,}\n"
        f"operations before: {_share(place.flops_before)} of a forward pass"
    )


def _share(flops_before: float | None) -> str:
    return "-" if flops_before is None else f"{100 * flops_before:.0f} %"


def _table(model: str, places: Sequence[Place]) -> Table:
    table = Table(title=model)
    table.add_column("unit", justify="right")
    table.add_column("after", overflow="fold")
    table.add_column("crosses, one sample", overflow="fold")
    are_frozen = any(p.trained_before + p.trained_after < p.parameters_before + p.parameters_after for p in places)
    for column in ("bytes\nback", f"{'trained' if are_frozen else 'weights'}\nafter", "flops"):
        table.add_column(column, justify="right", no_wrap=True)
    for place in places:
        unit = "" if place.unit is None else str(place.unit)
        name = place.name if place.name else "(the inputs)"
        weights = (place.trained_before, place.trained_after)
        if not are_frozen:
            weights = (place.parameters_before, place.parameters_after)
        lying = f"{weights[0]:,}\n{weights[1]:,}", _share(place.flops_before)
        if place.objection is not None:
            table.add_row(unit, name, f"no: {place.objection}", "", *lying, style="dim")
            continue
        crossing = ", ".join(tensor.removesuffix(" float32") for tensor in place.tensors)
        if place.sent_inputs:
            crossing += f"\nraw inputs: {', '.join(place.sent_inputs)}"
        style = "yellow" if place.sent_inputs else ""
        carried = f"{place.num_bytes_per_sample:,}\n{place.num_bytes_back_per_sample:,}"
        table.add_row(unit, name, crossing, carried, *lying, style=style)
    return table
