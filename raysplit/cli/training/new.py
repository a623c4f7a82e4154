"""``raysplit new``: begin a project of your own, from a template that runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from raysplit.cli.options import FilePath
from raysplit.cli.streams import echo

TEMPLATES = ("own-data", "own-model", "own-algorithm", "cluster")


@click.command()
@click.argument("folder", type=FilePath(dir_okay=True))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default=TEMPLATES[0],
    show_default=True,
    help="What of your own the project begins with.",
)
def new(folder: Path, template: str) -> None:
    """Begin a project of your own, from a template that runs.

    FOLDER must be missing or empty. It gets a configuration, a function that returns the data, a model, a test and a
    README; each is short and meant to be changed.

    \b
    Templates:
      own-data       rows in CSV files, one of each owner
      own-model      a model of your own, cut in two
      own-algorithm  a method of your own in 30 lines
      cluster        owners and server on machines of their own

    \b
    Example:
      raysplit new myproject --template own-model
    """
    from raysplit.templates.project import write_project

    files = write_project(folder, template)
    echo(f"{folder} has a project that runs: {', '.join(path.relative_to(folder).as_posix() for path in files)}")
    echo("")
    for line in (
        *([] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]),
        *(["raysplit cluster up lab.yaml"] if template == "cluster" else []),
        "raysplit train config.yaml --name first",
        "python -m pytest",
    ):
        echo(f"  {line}")
