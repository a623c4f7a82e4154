"""The output of `raysplit plan --codecs auto`: the codec of each link."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml
from rich.table import Table

from raysplit.cli.planning.codecs import rate_text, text_of
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from raysplit.prediction.codecs.choose import CodecPlan


def show_codecs(config: Path, overrides: Sequence[str], budget: str, *, as_json: bool) -> None:
    """Choose the codecs of a configuration's links and print them.

    The candidates are measured on this machine, unless the topology names a file of `raysplit codecs`.
    """
    from raysplit.config.planned_cuts import plan_codecs
    from raysplit.config.run import load_config

    budget_z, budget_g = _budget(budget)
    checked, plan = plan_codecs(load_config(config, overrides), budget_z=budget_z, budget_g=budget_g)
    if as_json:
        found = asdict(plan) | {"links": plan.links(), "cuts": checked.algorithm.options.get("cuts")}
        echo(json.dumps(found))
        return
    _print(plan, budget_z, budget_g, checked.algorithm.options.get("cuts"))


def _budget(text: str) -> tuple[float, float]:
    try:
        budget_z, budget_g = (float(part) for part in text.split(":"))
    except ValueError:
        raise click.BadParameter(f"{text!r} must be two numbers such as 0.01:0.1", param_hint="--budget") from None
    if not (isfinite(budget_z) and isfinite(budget_g) and budget_z >= 0 and budget_g >= 0):
        raise click.BadParameter(f"{text!r} must be two numbers of at least 0", param_hint="--budget")
    return budget_z, budget_g


def _print(plan: CodecPlan, budget_z: float, budget_g: float, cuts: Sequence[int] | None) -> None:
    table = Table(title=f"codecs within an error of {budget_z:g} (smashed) and {budget_g:g} (gradients)")
    table.add_column("link")
    table.add_column("codec", no_wrap=True)
    for column in ("KiB", "ms", "error", "below Mbit/s"):
        table.add_column(column, justify="right", no_wrap=column != "below Mbit/s")
    for choice in plan.choices:
        what = "z" if choice.link.kind == "smashed" else "g"
        table.add_row(
            f"{what}: {choice.link.sender} -> {choice.link.receiver}",
            text_of(choice.codec),
            f"{choice.num_bytes / 1024:,.1f}",
            f"{choice.plain_ms:.3g} to {choice.coded_ms:.3g}" if choice.cost else f"{choice.plain_ms:.3g}",
            f"{choice.error:.1e}" if choice.cost else "",
            rate_text(choice.cost.break_even_bytes_per_s).removesuffix(" Mbit/s") if choice.cost else "",
        )
    console = Console()
    print_table(console, table)
    console.print(
        "ms: of a batch on its link, without and with the codec; it pays below this rate of the link", soft_wrap=True
    )
    console.print(
        f"a round takes {plan.round_s:.4g} s, and {plan.plain_round_s:.4g} s without codecs "
        f"({plan.num_predictions} rounds predicted)",
        soft_wrap=True,
    )
    if cuts is not None:
        console.print(f"cuts: {list(cuts)}", soft_wrap=True)
    links = json.loads(json.dumps(plan.links()))  # equal codecs in copies, or YAML would write references to the first
    section = yaml.safe_dump(links, default_flow_style=True, width=10_000).strip()
    console.print(f"links: {section}" if links else "no codec makes the round shorter", soft_wrap=True)
