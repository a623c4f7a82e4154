"""The ``raysplit`` command: a group that loads each command when it is called."""

from __future__ import annotations

import ast
import io
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.logging import RichHandler
from rich.text import Text

import raysplit
from raysplit.cli.stopping import StopSignals, WayOn, ways_on
from raysplit.cli.streams import Console, echo, show_any_text
from raysplit.data.failures import described, exit_text
from raysplit.registry import nearest

COMMANDS = {
    "new": "raysplit.cli.training.new:new",
    "demo": "raysplit.cli.training.demo:demo",
    "train": "raysplit.cli.training.train:train",
    "resume": "raysplit.cli.training.resume:resume",
    "sweep": "raysplit.cli.training.sweep:sweep",
    "submit": "raysplit.cli.training.submit:submit",
    "schema": "raysplit.cli.training.schema:schema_command",
    "reproduce": "raysplit.cli.claims.reproduce:reproduce",
    "list": "raysplit.cli.results.runs:list_runs",
    "show": "raysplit.cli.results.show:show",
    "watch": "raysplit.cli.results.watch:watch",
    "inspect": "raysplit.cli.results.inspect:inspect",
    "compare": "raysplit.cli.results.compare:compare",
    "report": "raysplit.cli.results.report:report",
    "export": "raysplit.cli.results.export:export",
    "cuts": "raysplit.cli.planning.cuts:cuts",
    "plan": "raysplit.cli.planning.plan:plan",
    "simulate": "raysplit.cli.planning.simulate:simulate_command",
    "profile": "raysplit.cli.planning.profile:profile",
    "validate": "raysplit.cli.planning.validate:validate",
    "codecs": "raysplit.cli.planning.codecs:codecs",
    "affinity": "raysplit.cli.planning.affinity:affinity",
    "split-cost": "raysplit.cli.planning.split_cost:split_cost",
    "leak": "raysplit.cli.privacy.leak:leak",
    "ledger": "raysplit.cli.privacy.ledger:ledger",
    "serve": "raysplit.cli.serving.serve:serve",
    "edge": "raysplit.cli.serving.edge:edge",
    "cluster": "raysplit.cli.machines.cluster:cluster",
    "doctor": "raysplit.cli.machines.doctor:doctor",
}
"""The commands, in the order of ``raysplit --help``, each below the heading of its folder."""

HEADINGS = {
    "training": "Train",
    "claims": "Train",
    "results": "Look",
    "planning": "Plan",
    "privacy": "Privacy",
    "serving": "Serve",
    "machines": "Machines",
}
"""The purpose that the commands of a folder have in common, in the order of ``raysplit --help``."""

COMPLETION = "_RAYSPLIT_COMPLETE"
"""Variable in which a shell asks for completion."""

SERVE_PACKAGES = {"fastapi", "h11", "httpx", "ray.serve", "starlette", "tenacity", "uvicorn"}
"""The packages that the extra ``serve`` installs."""


class LazyGroup(click.Group):
    """A group that imports a command's module when it is called; ``raysplit --help`` only reads docstrings."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = pkgutil.resolve_name(COMMANDS[name])
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:  # click would take it for Ctrl-D, and end without a word
            raise RuntimeError(f"the end of a file came too early: {described(error)}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in COMMANDS)  # one column for all headings
        for heading, names in by_purpose().items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", summary(COMMANDS[name])) for name in names])


def by_purpose() -> dict[str, list[str]]:
    """Return the names of the commands below each heading that has some, in the order of ``raysplit --help``."""
    of_name = {name: HEADINGS[target.split(".")[2]] for name, target in COMMANDS.items()}
    headings = dict.fromkeys(HEADINGS.values())
    return {
        heading: found for heading in headings if (found := [name for name in COMMANDS if of_name[name] == heading])
    }


def summary(target: str) -> str:
    """Return the first line of a command's module after the colon, read without importing the module."""
    module = target.partition(":")[0]
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    first_line = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    text = first_line.partition(": ")[2].removesuffix(".")
    return text[:1].upper() + text[1:]


@click.group(cls=LazyGroup, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(raysplit.__version__)
@click.option("-v", "--verbose", is_flag=True, help="Log rounds and decisions to standard error.")
def cli(verbose: bool) -> None:
    """Train neural networks across data owners that keep their data.

    \b
    Examples:
      raysplit demo
      raysplit train examples/minibatch_sfl_digits.yaml --name first
      raysplit show first
    """
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=verbose)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake ends in one message and exit code 2, not in a traceback.

    Ctrl-C and SIGTERM end a command in the same way, with exit codes 130 and 143. Returns the exit code of a command
    that ends with one, as the caller of a script expects it.
    """
    show_any_text()
    stop = StopSignals()
    with stop.installed():
        try:
            ended = _run(arguments, stop)
        except SystemExit as error:
            _leave_abandoned_ray(error.code)
            raise
        _leave_abandoned_ray(0)
        return ended


def _leave_abandoned_ray(code: Any) -> None:
    """End this process with its own exit code, before a Ray without its control process ends it with another one."""
    connection = sys.modules.get("raysplit.cluster.on_ray.connect")
    if connection is not None and connection.abandoned:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _run(arguments: list[str] | None, stop: StopSignals) -> Any:
    try:
        return cli.main(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(file=message)
        echo(message.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as stopped:
        if not ways_on(stopped):
            echo("stopped", err=True)
        _print_ways_on(stopped)
        sys.exit(stop.exit_code)
    except ModuleNotFoundError as error:
        if error.name not in SERVE_PACKAGES:
            raise
        text = f"this command needs {error.name}, which is not installed; run: pip install 'raysplit[serve]'"
        _print_error(text)
        sys.exit(1)
    except BrokenPipeError as error:  # the reader of a pipe, such as head, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is flushed into it at exit
        _print_ways_on(error)
        sys.exit(1)
    except MemoryError as error:
        _print_error(f"there is not enough memory: {error or 'take fewer or smaller samples'}")
        _print_ways_on(error)
        sys.exit(1)
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        logging.getLogger("raysplit").debug("traceback", exc_info=True)
        told = [note for note in getattr(error, "__notes__", ()) if not isinstance(note, WayOn)]
        notes = "".join(f" ({note})" for note in told)
        _print_error(f"{error}{notes}")
        _print_ways_on(error)
        is_mistake = isinstance(error, ValueError) and not isinstance(error, RuntimeError)  # a wrong answer is both
        sys.exit(2 if is_mistake else 1)
    except SystemExit as ended:  # no command raises it, so that code of the user's does
        if COMPLETION in os.environ:  # or click, which has answered a shell
            raise
        if not stop.has_come:
            _print_error(exit_text(ended))
        _print_ways_on(ended)
        sys.exit(stop.exit_code if stop.has_come else 1)
    except Exception as error:
        if not stop.has_come:
            raise
        _print_ways_on(error)  # a call of Ray's that the signal interrupted
        sys.exit(stop.exit_code)


def _print_error(text: str) -> None:
    # a terminal wraps long lines by itself, and a pipe keeps them whole
    Console(stderr=True).print(Text.assemble(("error:", "red"), f" {text}"), highlight=False, soft_wrap=True)


def _print_ways_on(error: BaseException) -> None:
    for way in ways_on(error):
        echo(way, err=True)
