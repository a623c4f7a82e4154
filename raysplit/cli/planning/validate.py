"""``raysplit validate``: predict and run configurations, and compare."""

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
    from raysplit.prediction.measured.validation import Validated, Validation


@click.command()
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--output", type=NewFile(), help="Record to write (.json).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def validate(configs: tuple[Path, ...], overrides: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Predict and run configurations, and compare.

    Each CONFIG is a YAML file with a topology. Its rounds are trained as `raysplit train` does, without a run folder,
    and predicted as `raysplit simulate` does. The first of several rounds is left out. The result is the relative error
    of each prediction, and Kendall's rank correlation: 1 where the predictions have the order of the measurements.

    \b
    Example:
      raysplit validate two_nodes.yaml three_nodes.yaml --set topology.pace=false
    """
    if output is not None and output.suffix != ".json":
        raise click.BadParameter(f"{output} must end in .json", param_hint="--output")
    if twice := next((config for config in configs if configs.count(config) > 1), None):
        raise click.BadParameter(f"{twice} is given twice", param_hint="CONFIG")
    from raysplit.config.planned_cuts import with_plans
    from raysplit.config.run import load_config
    from raysplit.prediction.measured.validation import Validation

    checked = {str(config): with_plans(load_config(config, overrides)) for config in configs}
    for name, config in checked.items():  # before the first of them runs
        _refuse_unpredicted(name, config)
    found = Validation(runs=tuple(_validated(name, config) for name, config in checked.items()))
    record = _record(found)
    if output is not None:
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if as_json:
        echo(json.dumps(record))
    else:
        _print(found)


def _refuse_unpredicted(name: str, config: Any) -> None:
    from raysplit.algorithms import resolve_algorithm
    from raysplit.config.errors import ConfigError

    if config.topology is None:
        raise ConfigError(f"{name} has no topology, from which its rounds are predicted; add one")
    if config.cluster.elastic is not None:
        raise ConfigError(f"{name} sets cluster.elastic, whose rounds are not predicted; leave it out")
    if not resolve_algorithm(config.algorithm.name).can_be_simulated:
        raise ConfigError(f"{name} has algorithm.name {config.algorithm.name!r}, which cannot be simulated")


def _validated(name: str, config: Any) -> Validated:
    from raysplit.api import train
    from raysplit.config.errors import ConfigError
    from raysplit.prediction.measured.validation import Validated

    comparison = train(config).comparison
    if comparison is None:  # the log has said why
        raise ConfigError(f"{name} was run and could not be predicted; its algorithm computes with values of tensors")
    predicted_s, measured_s = comparison.round_s
    late = sum(lateness.num_late for lateness in comparison.lateness.values())
    return Validated(name=name, predicted_s=predicted_s, measured_s=measured_s, num_late=late)


def _record(found: Validation) -> dict[str, Any]:
    return {
        "runs": [asdict(run) | {"error": run.error} for run in found.runs],
        "mean_error": found.mean_error,
        "kendall_tau": found.kendall_tau,
    }


def _print(found: Validation) -> None:
    table = Table(title="predicted against measured seconds of a round")
    table.add_column("")
    for column in ("predicted", "measured", "error", "late steps"):
        table.add_column(column, justify="right")
    for run in found.runs:
        late = str(run.num_late)
        table.add_row(run.name, f"{run.predicted_s:.4g}", f"{run.measured_s:.4g}", f"{run.error:+.1%}", late)
    console = Console()
    print_table(console, table)
    tau = found.kendall_tau
    order = "" if tau is None else f"; rank correlation {tau:.2f} (Kendall's tau)"
    console.print(f"mean absolute error {found.mean_error:.1%}{order}", soft_wrap=True)
