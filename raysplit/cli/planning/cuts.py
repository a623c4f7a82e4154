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
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:  # help must not wait for torch
    from raysplit.models.crossing.places import Place
    from raysplit.models.spec import ModelSpec


@click.command(name="cuts")
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--all", "show_all", is_flag=True, help="Show places that cannot be cut too, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@click.option("--why", metavar="NAME", help="Say what crosses one place, or why it cannot be cut.")
def cuts(config: Path | None, overrides: tuple[str, ...], show_all: bool, as_json: bool, why: str | None) -> None:
    """List the places where a model can be cut.

    The model and its data come from CONFIG, a YAML file, and from --set. For each place: the number of units in front
    of it and its name, either of which is a cut; the tensors that would cross and their bytes for one sample; the
    weights before and after it; and whether raw inputs would leave their owner there.

    \b
    Examples:
      raysplit cuts examples/minibatch_sfl_digits.yaml
      raysplit cuts --set model.name=resnet18_cifar --set "data={name: CIFAR10, root: data}" --all
    """
    with Waiting(Console(stderr=True), "loading the data, tracing the model"):
        from raysplit.config.build import model_of
        from raysplit.config.run import load_config

        began_s = time.perf_counter()
        spec = model_of(load_config(config, overrides)).with_front_end()
        spec.check_cuttable()
        places = spec.places()
        front_end, traced_s = spec.traced().front_end, time.perf_counter() - began_s
    if as_json:
        listed = [asdict(place) for place in places]
        echo(json.dumps({"model": spec.name, "front_end": front_end, "seconds": round(traced_s, 2), "places": listed}))
        return
    if why is not None:
        echo(_explained(spec, why, places))
        return
    shown = [place for place in places if show_all or place.objection is None]
    console = Console()
    console.print(_table(spec.name, shown))
    console.print(f"front end {front_end}, {traced_s:.1f} s to load the data and to trace and check the model")
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
    return (
        f"the model can be cut at {name}, after {place.name or '(the inputs)'}\n"
        f"crosses, one sample: {', '.join(place.tensors)}; {place.num_bytes_per_sample:,} bytes; {sent}\n"
        f"weights before {place.parameters_before:,}, after {place.parameters_after:,}"
    )


def _table(model: str, places: Sequence[Place]) -> Table:
    table = Table(title=model)
    table.add_column("unit", justify="right")
    table.add_column("after", overflow="fold")
    table.add_column("crosses, one sample", overflow="fold")
    for column in ("bytes", "before", "after"):
        table.add_column(column if column == "bytes" else f"weights\n{column}", justify="right", no_wrap=True)
    for place in places:
        unit = "" if place.unit is None else str(place.unit)
        name = place.name if place.name else "(the inputs)"
        weights = f"{place.parameters_before:,}", f"{place.parameters_after:,}"
        if place.objection is not None:
            table.add_row(unit, name, f"no: {place.objection}", "", *weights, style="dim")
            continue
        crossing = ", ".join(tensor.removesuffix(" float32") for tensor in place.tensors)
        if place.sent_inputs:
            crossing += f"\nraw inputs: {', '.join(place.sent_inputs)}"
        style = "yellow" if place.sent_inputs else ""
        table.add_row(unit, name, crossing, f"{place.num_bytes_per_sample:,}", *weights, style=style)
    return table
