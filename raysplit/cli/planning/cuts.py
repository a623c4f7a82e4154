"""`raysplit cuts`: list the places where a model can be cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysplit.cli.options import FilePath
from raysplit.cli.streams import echo

if TYPE_CHECKING:  # help must not wait for torch
    from raysplit.models.cutting.places import Place


@click.command(name="cuts")
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--all", "show_all", is_flag=True, help="Show places that cannot be cut too, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def cuts(config: Path | None, overrides: tuple[str, ...], show_all: bool, as_json: bool) -> None:
    """List the places where a model can be cut.

    The model and its data come from CONFIG, a YAML file, and from --set. For each place: the number of units in front
    of it and its name, either of which is a cut; the tensors that would cross and their bytes for one sample; the
    weights before and after it; and whether raw inputs would leave their owner there.

    \b
    Examples:
      raysplit cuts examples/minibatch_sfl_digits.yaml
      raysplit cuts --set model.name=resnet18_cifar --set "data={name: CIFAR10, root: data}" --all
    """
    from raysplit.config.build import model_of
    from raysplit.config.run import load_config

    spec = model_of(load_config(config, overrides))
    spec.check_cuttable()
    places = spec.places()
    if as_json:
        echo(json.dumps({"model": spec.name, "places": [asdict(place) for place in places]}))
        return
    shown = [place for place in places if show_all or place.objection is None]
    console = Console()
    console.print(_table(spec.name, shown))
    if hidden := len(places) - len(shown):
        console.print(f"left out because they cannot be cut: {hidden}; --all shows them and says why", soft_wrap=True)
    first = spec.first_private_cut()
    if first is None:
        text = "no cut keeps the inputs at their owner; model.send_inputs allows the others by name"
    else:
        text = f"cut: auto is after unit {first}, the first one at which the inputs stay at their owner"
    console.print(text, soft_wrap=True)


def _table(model: str, places: Sequence[Place]) -> Table:
    table = Table(title=escape(model))
    table.add_column("unit", justify="right")
    table.add_column("after", overflow="fold")
    table.add_column("crosses, one sample", overflow="fold")
    for column in ("bytes", "before", "after"):
        table.add_column(column if column == "bytes" else f"weights\n{column}", justify="right", no_wrap=True)
    for place in places:
        unit = "" if place.unit is None else str(place.unit)
        name = escape(place.name) if place.name else "(the inputs)"
        weights = f"{place.parameters_before:,}", f"{place.parameters_after:,}"
        if place.objection is not None:
            table.add_row(unit, name, escape(f"no: {place.objection}"), "", *weights, style="dim")
            continue
        crossing = ", ".join(tensor.removesuffix(" float32") for tensor in place.tensors)
        if place.sent_inputs:
            crossing += f"\nraw inputs: {', '.join(place.sent_inputs)}"
        style = "yellow" if place.sent_inputs else ""
        table.add_row(unit, name, escape(crossing), f"{place.num_bytes_per_sample:,}", *weights, style=style)
    return table
