"""``raysplit demo``: compare three methods on owners that hold one digit each.

Ten data owners share scikit-learn's handwritten digits, sorted by class: non-IID ratio 1 of MiniBatch-SFL (Huang, Tian,
Tang, 2023, arXiv 2308.11953), with the same local epochs and batch size. Partition, initial weights, batches and
epochs are the same for all methods; each uses the learning rate that was best for it on other seeds (docs/demo.md).
Smashed data and gradients cross the links as int8, a quarter of the bytes at the same accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from raysplit.cli.options import FilePath
from raysplit.cli.progress import human_bytes, progress_on
from raysplit.cli.results.compare import print_runs
from raysplit.cli.stopping import going_on
from raysplit.cli.streams import Console
from raysplit.paths import fresh_name
from raysplit.registry import number_of

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig
    from raysplit.runs.report import RunReport

LEARNING_RATES = {"minibatch_sfl": 0.2, "fedavg": 0.8, "splitfed_v2": 0.1}
ROUNDS = 20
TARGET = 0.9


@click.command()
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of all random numbers."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    metavar="N",
    help="Rounds of each method.",
)
@click.option(
    "--cluster",
    type=click.Choice(["ray", "local"]),
    default="ray",
    show_default=True,
    help="Train on Ray, or in this process.",
)
@click.option(
    "--root", type=FilePath(file_okay=False, dir_okay=True), default=Path("runs"), show_default=True,
    help="Folder for the runs and the figure.",
)  # fmt: skip
def demo(seed: int, rounds: int, cluster: Literal["ray", "local"], root: Path) -> None:
    """Compare three methods on owners that hold one digit each.

    \b
    Examples:
      raysplit demo
      raysplit demo --cluster local
    """
    console = Console()
    folder = root / fresh_name("demo")
    where = "on Ray" if cluster == "ray" else "in this process"
    console.print(f"Ten data owners, each with the images of one handwritten digit, train a classifier {where}.")
    from raysplit.cli.pictures.compare import draw_runs
    from raysplit.cluster.on_ray.connect import ray_left_as_found
    from raysplit.runs.html.page import html_page
    from raysplit.runs.report import read_runs

    configs = demo_configs(seed=seed, rounds=rounds, cluster=cluster)
    with ray_left_as_found(), going_on(lambda: f"kept; {folder} has the runs so far, and raysplit demo starts anew"):
        for name, config in configs.items():
            train_shown(console, config, folder / name)
    runs = read_runs([folder / name for name in configs])
    picture, page = folder / "comparison.png", folder / "report.html"
    title = f"handwritten digits, {runs[0].partition}"
    draw_runs(runs, picture, title=title, target=TARGET)
    lines = [*verdict(runs, TARGET).splitlines(), bytes_text(runs)]
    page.write_text(html_page(runs, title=title, target=TARGET, notes=lines), encoding="utf-8")
    print_runs(console, runs, TARGET)
    console.print("\n".join(lines), style="bold", highlight=False, soft_wrap=True)
    console.print(f"runs:    {folder}\npicture: {picture}\npage:    {page}", highlight=False, soft_wrap=True)


def demo_configs(*, seed: int, rounds: int, cluster: Literal["ray", "local"]) -> dict[str, RunConfig]:
    """Return the three configurations by algorithm; only algorithm and learning rate differ."""
    from raysplit.config.run import check_config

    return {name: check_config(_tree(name, seed, rounds, cluster)) for name in LEARNING_RATES}


def verdict(runs: Sequence[RunReport], target: float) -> str:
    """Format which run was best, by how much, and when each reached the target."""
    ranked = sorted(runs, key=lambda run: run.last_accuracy or 0.0, reverse=True)
    figures = ", ".join(f"{run.label} {run.last_accuracy or 0.0:.1%}" for run in ranked)
    lead = (ranked[0].last_accuracy or 0.0) - (ranked[1].last_accuracy or 0.0)
    points = [(run.label, run.reached(target)) for run in runs]
    rounds = ", ".join(f"{label} {point.round if point else 'never'}" for label, point in points)
    return (
        f"Test accuracy after {number_of(ranked[0].rounds, 'round')}: {figures}. "
        f"{ranked[0].label} leads by {100 * lead:.1f} points.\n"
        f"Rounds to {target:.0%}: {rounds}."
    )


def bytes_text(runs: Sequence[RunReport]) -> str:
    """Format what each run sent and, where its links are compressed, what the same values are without codecs."""
    from raysplit.runs.records.read import read_traffic

    texts = []
    for run in runs:
        raw = sum(link.raw_bytes for link in read_traffic(run.folder))
        beside = f" with compressed links, {human_bytes(raw)} without" if raw > run.num_bytes else ""
        texts.append(f"{run.label} {human_bytes(run.num_bytes)}{beside}")
    return f"Sent: {'; '.join(texts)}."


def train_shown(console: Console, config: RunConfig, folder: Path) -> None:
    """Train with a progress bar; Ray stays connected for the next run."""
    progress = progress_on(console)
    try:
        from raysplit.api import train_config

        train_config(config, callbacks=[progress], folder=folder, keep_ray=True)
    finally:
        progress.close()


def _tree(algorithm: str, seed: int, rounds: int, cluster: str) -> dict[str, Any]:
    return {
        "seed": seed,
        "model": {"name": "cnn8"},
        "data": {"name": "digits"},
        "partition": {"name": "noniid_ratio", "num_owners": 10, "ratio": 1.0},
        "links": {} if algorithm == "fedavg" else {"smashed": "int8", "gradients": "int8", "labels": "narrow"},
        "algorithm": {"name": algorithm} | ({} if algorithm == "fedavg" else {"cut": 1}),
        "training": {
            "rounds": rounds,
            "batch_size": 32,
            "local_epochs": 5,
            "optimizer": {"name": "sgd", "lr": LEARNING_RATES[algorithm]},
        },
        "cluster": {"kind": cluster},
    }
