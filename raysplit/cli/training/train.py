"""``raysplit train``: train a model as a configuration says."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from raysplit.cli.figures import accuracy_text, loss_text, primary_text
from raysplit.cli.options import FilePath, RunName
from raysplit.cli.progress import (
    JsonLines,
    LiveProgress,
    RoundLines,
    Silent,
    human_bytes,
    progress_on,
)
from raysplit.cli.stopping import going_on
from raysplit.cli.streams import Console
from raysplit.cli.tables import comparison_table, print_table
from raysplit.cli.waiting import Waiting
from raysplit.paths import fresh_name
from raysplit.runs.callback import Callback

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

NOTHING_KEPT = "stopped before the first round; nothing is kept"


@click.command()
@click.argument("config", required=False, type=FilePath())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--name", type=RunName(), metavar="NAME", help="Name of the run; its folder is runs/NAME.")
@click.option("--overwrite", is_flag=True, help="Replace a run of the same name.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per round and a summary only.")
@click.option("--dry-run", is_flag=True, help="Print what would run where; train, start and write nothing.")
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Train a model as CONFIG, a YAML file, says.

    Without CONFIG, MiniBatch-SFL trains a small CNN on scikit-learn's handwritten digits with ten data owners. The
    sections of CONFIG are model, task, data, partition, owners, algorithm, training, evaluation, links, privacy,
    cluster, topology, reliability and output. The folder of a run has its metrics, traffic, partition, configuration
    and model.

    \b
    Examples:
      raysplit train examples/minibatch_sfl_digits.yaml
      raysplit train --set algorithm.name=fedavg --set partition.name=dirichlet --set partition.alpha=0.3
      raysplit train my.yaml --set training.rounds=50 --set cluster.kind=local --json
      raysplit train my.yaml --dry-run
    """
    changes = list(overrides)
    changes += [f"output.name='{name}'"] if name is not None else []
    changes += ["output.overwrite=true"] if overwrite else []
    if dry_run:
        _print_dry_run(config, changes, as_json=as_json)
        return
    with shown(quiet=quiet, as_json=as_json) as show:
        from raysplit.api import train as train_model
        from raysplit.config.run import load_config

        checked = load_config(config, changes)
        location = run_location(checked, config)
        overwrite = checked.output.overwrite
        with going_on(show.way_on(location), NOTHING_KEPT):
            result = train_model(checked, folder=location, overwrite=overwrite, callbacks=show.callbacks)
    show.result(result, location)


def _print_dry_run(config: Path | None, changes: list[str], *, as_json: bool) -> None:
    from raysplit.cli.training.dry_run import echo_json, outline, print_outline

    with Waiting(Console(stderr=True), "reading the settings, loading the data, tracing the model"):
        from raysplit.config.run import load_config

        checked = load_config(config, changes)
        found = outline(checked, run_location(checked, config))
    (echo_json if as_json else print_outline)(found)


class Shown:
    """What the user of a training command sees of a run: progress, the result, and how to go on after a stop."""

    def __init__(self, progress: LiveProgress | RoundLines | Silent, *, as_json: bool) -> None:
        self._progress = progress
        self._as_json = as_json
        self._begun = _Begun()
        self._account = ""
        self.callbacks: list[Callback] = [self._begun, *([JsonLines()] if as_json else []), progress]

    def close(self) -> None:
        self._account = self._progress.close()

    def way_on(self, location: str) -> Callable[[], str]:
        """Return a function that says how to go on with the run at a location after a stop."""
        return lambda: kept_text(location, anew=self.must_begin_anew) if self._begun.has else ""

    @property
    def must_begin_anew(self) -> bool:
        """Whether the run has rounds that it cannot go on from, because it keeps no checkpoints."""
        return self._begun.has_rounds and not self._begun.keeps

    def result(self, result: Result, location: str) -> None:
        """Print the result of the run, unless its rounds were printed as JSON."""
        if self._as_json:
            return
        console = Console()
        console.print(result_line(result, location, self._account), soft_wrap=True, highlight=False)
        if result.comparison is not None:
            print_table(console, comparison_table(result.comparison))


@contextmanager
def shown(*, quiet: bool, as_json: bool) -> Iterator[Shown]:
    """Show the progress of the run in the block; with either argument, only its result or its rounds as JSON."""
    show = Shown(Silent() if quiet or as_json else progress_on(Console(stderr=True)), as_json=as_json)
    try:
        with going_on(str, NOTHING_KEPT):
            yield show
    finally:
        show.close()


class _Begun(Callback):
    """Callback that notes whether the run has a folder that it can be resumed from."""

    has = has_rounds = False
    keeps = True

    def run_started(self, experiment: Experiment) -> None:
        self.has, self.keeps = True, experiment.reliability.checkpoint_every is not None

    def round_ended(self, row: Row) -> None:
        self.has_rounds = True


def kept_text(location: str, *, anew: bool = False) -> str:
    """Return the last line after a stop: how to go on with the run at a location, or how to train it again."""
    name = location.removeprefix("runs/")
    short = "/" not in name and not Path(name).exists()
    command = f"raysplit resume {shlex.quote(name if short else location)}"
    return (
        f"kept, without a checkpoint; train it again with: {command} --from-start"
        if anew
        else (f"kept; go on with: {command}")
    )


def run_location(config: RunConfig, source: Path | None) -> str:
    """Return ``<root>/<name>``, the path or URI of the run."""
    from raysplit.runs.storage import below

    return below(config.output.root, run_name(config, source))


def run_name(config: RunConfig, source: Path | None) -> str:
    """Return the name of the run; by default the file's stem or the algorithm's name, with the time."""
    return config.output.name or fresh_name(source.stem if source else config.algorithm.name)


def result_line(result: Result, location: str | Path, account: str) -> Text:
    """Format the outcome of a run, where its time went, and its folder, in a line each."""
    last = result.rows[-1]
    return Text.assemble(
        (_outcome(last), "bold"),
        f" after {last['round']} round{'s' * (last['round'] != 1)} ({result.stopped}), "
        f"{human_bytes(last['bytes_total'])} sent\n{account}\nrun folder: {location}",
    )


def _outcome(row: Row) -> str:
    if "primary" in row:
        return f"test {primary_text(row, 4)}"
    if "test_accuracy" in row:
        return f"test accuracy {accuracy_text(row, 4)}"
    return f"total test loss {loss_text(row, 4)}" if "test_loss" in row else "no figures of tests"
