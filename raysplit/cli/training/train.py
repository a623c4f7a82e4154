"""``raysplit train``: train a model as a configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from raysplit.cli.options import FilePath, RunName
from raysplit.cli.progress import JsonLines, accuracy_text, human_bytes, loss_text, progress_on
from raysplit.cli.tables import comparison_table, print_table
from raysplit.paths import fresh_name

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig
    from raysplit.runs.callback import Callback
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result


@click.command()
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--name", type=RunName(), metavar="NAME", help="Name of the run; its folder is runs/NAME.")
@click.option("--overwrite", is_flag=True, help="Replace a run of the same name.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per round and a summary only.")
def train(
    config: Path | None, overrides: tuple[str, ...], name: str | None, overwrite: bool, quiet: bool, as_json: bool
) -> None:
    """Train a model as CONFIG, a YAML file, says.

    Without CONFIG, MiniBatch-SFL trains a small CNN on scikit-learn's handwritten digits with ten data owners. The
    sections of CONFIG are model, data, partition, owners, algorithm, training, evaluation, links, cluster, topology,
    reliability and output. The folder of a run has its metrics, traffic, partition, configuration and model.

    \b
    Examples:
      raysplit train examples/minibatch_sfl_digits.yaml
      raysplit train --set algorithm.name=fedavg --set partition.name=dirichlet --set partition.alpha=0.3
      raysplit train my.yaml --set training.rounds=50 --set cluster.kind=local --json
    """
    from raysplit.api import train as train_model
    from raysplit.config.run import load_config

    changes = list(overrides)
    changes += [f"output.name='{name}'"] if name is not None else []
    changes += ["output.overwrite=true"] if overwrite else []
    checked = load_config(config, changes)
    location = run_location(checked, config)
    console = Console(stderr=True)
    callbacks: list[Callback] = [JsonLines()] if as_json else []
    live = progress_on(console) if not quiet and not as_json else None
    callbacks += [live] if live else []
    try:
        result = train_model(checked, folder=location, overwrite=checked.output.overwrite, callbacks=callbacks)
    finally:
        if live:
            live.close()
    if not as_json:
        Console().print(result_line(result, location), soft_wrap=True)
        if result.comparison is not None:
            print_table(Console(), comparison_table(result.comparison))


def run_location(config: RunConfig, source: Path | None) -> str:
    """Return ``<root>/<name>``, the path or URI of the run."""
    from raysplit.runs.storage import below

    return below(config.output.root, run_name(config, source))


def run_name(config: RunConfig, source: Path | None) -> str:
    """Return the name of the run; by default the file's stem or the algorithm's name, with the time."""
    return config.output.name or fresh_name(source.stem if source else config.algorithm.name)


def result_line(result: Result, location: str | Path) -> str:
    """Format the outcome of a run in two lines."""
    last = result.rows[-1]
    return (
        f"[bold]{_outcome(last)}[/bold] after {last['round']} rounds ({result.stopped}), "
        f"{last['train_seconds_total']:.1f} s of training, {human_bytes(last['bytes_total'])} sent\n"
        f"run folder: {location}"
    )


def _outcome(row: Row) -> str:
    if "test_accuracy" in row:
        return f"test accuracy {accuracy_text(row, 4)}"
    return f"total test loss {loss_text(row, 4)}"
