"""`raysplit codecs`: measure codecs on what crosses the cuts of a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from raysplit.cli.options import FilePath, NewFile
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from raysplit.experiment.codec_costs import CodecCost, CodecCosts
    from raysplit.experiment.experiment import Experiment


@click.command(name="codecs")
@click.argument("config", type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option(
    "--steps",
    default=200,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Training steps before values are taken.",
)
@click.option(
    "--repeats", default=7, show_default=True, type=click.IntRange(min=1), metavar="N", help="Timed repetitions."
)
@click.option("--output", type=NewFile(), help="File to write for topology.codecs (.json).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def codecs(
    config: Path, overrides: tuple[str, ...], steps: int, repeats: int, output: Path | None, as_json: bool
) -> None:
    """Measure codecs on what crosses the cuts of a model.

    The model of CONFIG is trained for some steps on the first owner's samples. Then every codec encodes and decodes
    its smashed data, gradients and weights: bytes, error and time on this machine, and what it saves per round on the
    links of the topology.

    \b
    Examples:
      raysplit codecs my.yaml
      raysplit codecs my.yaml --set algorithm.cut=2 --output codecs.json
    """
    from raysplit.config.build import build
    from raysplit.config.run import load_config
    from raysplit.prediction.codecs.measure import measure_codecs

    experiment = build(load_config(config, overrides))
    measured = measure_codecs(experiment, steps=steps, repeats=repeats)
    if output is not None:
        measured.write(output)
    rates = _rates(experiment)
    if as_json:
        echo(json.dumps(asdict(measured) | {"saved_ms_per_round": _saved(experiment, measured, rates)}))
        return
    console = Console()
    _print(console, experiment, measured, rates)
    if output is not None:
        console.print(f"written to {output}; name it as topology.codecs", soft_wrap=True)


def _rates(experiment: Experiment) -> tuple[float, float] | None:
    """Return the bytes per second that owners send and receive; None without a topology or a limited link."""
    topology = experiment.topology
    if topology is None:
        return None
    from math import inf, isfinite

    names = set(topology.owner_devices(len(experiment.setting.owners)))
    up = min(topology.devices[name].up_bytes_per_s or inf for name in names)
    down = min(topology.devices[name].down_bytes_per_s or inf for name in names)
    return (up, down) if isfinite(up) or isfinite(down) else None


def _saved_ms(cost: CodecCost, rates: tuple[float, float], steps: int) -> float:
    # an owner sends smashed data and gets gradients; its weights go once per round
    rate = rates[1] if cost.kind == "gradients" else rates[0]
    times = 1 if cost.kind == "weights" else steps
    return times * (1e3 * (cost.raw_bytes - cost.coded_bytes) / rate - cost.coding_ms)


def _saved(experiment: Experiment, measured: CodecCosts, rates: tuple[float, float] | None) -> list[Any] | None:
    if rates is None:
        return None
    steps = _steps(experiment)
    return [{"kind": c.kind, "cut": c.cut, "codec": c.codec, "ms": _saved_ms(c, rates, steps)} for c in measured.costs]


def _steps(experiment: Experiment) -> int:
    algorithm = experiment.begin()
    return max(algorithm.num_steps(owner) for owner in algorithm.setting.owners)


def _print(console: Console, experiment: Experiment, measured: CodecCosts, rates: tuple[float, float] | None) -> None:
    steps = _steps(experiment)
    for kind, cut in dict.fromkeys((cost.kind, cost.cut) for cost in measured.costs):
        costs = [cost for cost in measured.costs if (cost.kind, cost.cut) == (kind, cut)]
        where = "" if kind == "weights" else f" at cut {measured.cuts[cut]}"
        per = "a model" if kind == "weights" else f"a batch of {measured.batch_size}"
        table = Table(title=f"{kind}{where}: {costs[0].raw_bytes / 1024:,.1f} KiB for {per}")
        table.add_column("codec")
        for column in ("KiB", "factor", "error", "ms/MiB", *(["saves ms/round"] if rates else ["pays below"])):
            table.add_column(column, justify="right")
        for cost in costs:
            last = f"{_saved_ms(cost, rates, steps):,.1f}" if rates else rate_text(cost.break_even_bytes_per_s)
            milliseconds = f"{cost.encode_ms_per_mib:.2f} + {cost.decode_ms_per_mib:.2f}"
            size, factor = f"{cost.coded_bytes / 1024:,.1f}", f"{cost.factor:.2f}"
            table.add_row(text_of(cost.codec), size, factor, f"{cost.error:.1e}", milliseconds, last)
        print_table(console, table)
    console.print(
        "error: |decoded - x|^2 / |x|^2. A codec is lossy for training even where it is small: measure the accuracy. "
        + (
            "Savings are of one owner alone, where nothing overlaps."
            if rates
            else "Pays below: rate of a link below which coding saves time; with a topology, the time per round."
        ),
        soft_wrap=True,
    )


def rate_text(bytes_per_s: float) -> str:
    """Return a rate in Mbit/s, as it is printed."""
    return f"{8e-6 * bytes_per_s:,.0f} Mbit/s" if bytes_per_s else "never"


def text_of(codec: Any) -> str:
    """Return a codec as it is printed."""
    if isinstance(codec, dict):
        return " ".join(str(value) for value in codec.values())
    return " + ".join(map(text_of, codec)) if isinstance(codec, list) else str(codec)
