"""The ``raysplit`` command."""

from __future__ import annotations

import ast
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

import raysplit

COMMANDS = {
    "demo": "raysplit.cli.training.demo:demo",
    "train": "raysplit.cli.training.train:train",
    "resume": "raysplit.cli.training.resume:resume",
    "list": "raysplit.cli.results.runs:list_runs",
    "show": "raysplit.cli.results.show:show",
    "export": "raysplit.cli.results.export:export",
    "doctor": "raysplit.cli.machines.doctor:doctor",
    "sweep": "raysplit.cli.training.sweep:sweep",
    "compare": "raysplit.cli.results.compare:compare",
    "report": "raysplit.cli.results.report:report",
    "cluster": "raysplit.cli.machines.cluster:cluster",
    "submit": "raysplit.cli.training.submit:submit",
    "plan": "raysplit.cli.planning.plan:plan",
    "simulate": "raysplit.cli.planning.simulate:simulate_command",
    "profile": "raysplit.cli.planning.profile:profile",
    "affinity": "raysplit.cli.planning.affinity:affinity",
    "split-cost": "raysplit.cli.planning.split_cost:split_cost",
    "serve": "raysplit.cli.serving.serve:serve",
    "edge": "raysplit.cli.serving.edge:edge",
}


SERVE_PACKAGES = {"fastapi", "httpx", "tenacity", "ray.serve"}
"""What the extra ``serve`` brings."""


class LazyGroup(click.Group):
    """Loads a command's module when it is asked for; ``raysplit --help`` reads docstrings and waits for nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = pkgutil.resolve_name(COMMANDS[name])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(target)) for name, target in COMMANDS.items()])


def summary(target: str) -> str:
    """What a command does: its module's first line after the colon, read without importing the module."""
    module = target.partition(":")[0]
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    first_line = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return first_line.partition(": ")[2]


@click.group(cls=LazyGroup)
@click.version_option(raysplit.__version__)
@click.option("-v", "--verbose", is_flag=True, help="Log every round and decision to standard error.")
def cli(verbose: bool) -> None:
    """Split and multi-task training across data owners that keep their data."""
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=verbose)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: a mistake of the user ends in one message and exit code 2, never in a traceback."""
    sys.path.insert(0, os.getcwd())  # a name such as "mymodel:build" means a file here
    try:
        return cli.main(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in SERVE_PACKAGES:
            raise
        text = f"this command needs {error.name}, which is not installed; pip install 'raysplit[serve]' brings it"
        Console(stderr=True).print(f"[red]error:[/red] {_escaped(text)}", highlight=False)
        sys.exit(1)
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        logging.getLogger("raysplit").debug("traceback", exc_info=True)
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        Console(stderr=True).print(f"[red]error:[/red] {_escaped(str(error))}{_escaped(notes)}", highlight=False)
        sys.exit(2 if isinstance(error, ValueError) else 1)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
