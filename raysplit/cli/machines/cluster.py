"""``raysplit cluster``: start and stop a cluster of described machines on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from raysplit.cli.options import FilePath
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.paths import expanded

if TYPE_CHECKING:
    from raysplit.cluster.lab.processes import RunningLab


@click.group()
def cluster() -> None:
    """Start and stop a cluster of described machines on this machine.

    The cluster has one Ray node for each machine.

    \b
    Example:
      raysplit cluster up examples/clusters/edge_lab.yaml
      raysplit train my.yaml --set cluster.address=127.0.0.1:6390
      raysplit submit my.yaml --address http://127.0.0.1:8275
      raysplit cluster down edge_lab

    With --tls the machines talk to each other, and to programs that join, by TLS with certificates that are made for
    the lab. What joins then needs the variables that the printed file sets.
    """


@cluster.command()
@click.argument("lab", type=FilePath())
@click.option(
    "--timeout", "timeout_s", default=120.0, show_default=True, metavar="SECONDS", help="Longest wait for all machines."
)
@click.option("--tls", is_flag=True, help="Encrypt Ray's connections, with certificates made for this lab.")
def up(lab: Path, timeout_s: float, tls: bool) -> None:
    """Start the machines described in LAB.

    LAB is a YAML file. The command returns when all machines have joined the cluster.
    """
    from raysplit.cluster.lab.machines import read_lab
    from raysplit.cluster.lab.processes import start
    from raysplit.cluster.on_ray.jobs import alive_nodes

    described = read_lab(lab)
    running = start(described, alive_nodes, timeout_s=timeout_s, tls=tls)
    table = Table("machine", "CPUs", "memory", "resources", "labels", "process")
    for machine, entry in zip(described.machines, running.processes, strict=True):
        resources = ", ".join(f"{name}: {amount:g}" for name, amount in machine.resources.items())
        labels = ", ".join(f"{name}={value}" for name, value in machine.labels.items())
        memory = f"{machine.memory_bytes / 2**30:g} GiB"
        table.add_row(machine.name, str(machine.cpus), memory, resources, labels, str(entry.pid))
    print_table(Console(), table)
    echo(f"address: {running.address}   (RAY_ADDRESS or cluster.address)")
    echo(f"jobs and dashboard: {running.dashboard}   (raysplit submit --address)")
    _print_tls(running)
    echo(f"stop it: raysplit cluster down {running.name}")


@cluster.command()
@click.argument("name")
def down(name: str) -> None:
    """Stop the machines of the lab NAME.

    NAME may also be the YAML file of the lab. Only processes that `raysplit cluster up` started are stopped.
    """
    from raysplit.cluster.lab.processes import stop

    ended = stop(_lab_name(name))
    echo(f"stopped {len(ended)} machines: {', '.join(ended) or 'none was running'}")


@cluster.command()
@click.argument("name")
def status(name: str) -> None:
    """Show which machines of the lab NAME run.

    NAME may also be the YAML file of the lab. The exit code is 1 when a machine does not run.
    """
    from raysplit.cluster.lab.processes import LabError, find

    running = find(_lab_name(name))
    if running is None:
        raise LabError(f"there is no running lab {name!r}; start one: raysplit cluster up LAB.yaml")
    alive = set(running.alive)
    for entry in running.processes:
        echo(f"{entry.machine}: {'running' if entry.machine in alive else 'not running'} (process {entry.pid})")
    echo(f"address: {running.address}, jobs and dashboard: {running.dashboard}")
    _print_tls(running)
    if len(alive) < len(running.processes):
        raise click.exceptions.Exit(1)


def _print_tls(running: RunningLab) -> None:
    if running.tls:
        echo(f"TLS: before a command that joins, run: source {shlex.quote(running.tls)}")


def _lab_name(name: str) -> str:
    from raysplit.cluster.lab.machines import read_lab

    return read_lab(expanded(name)).name if name.endswith((".yaml", ".yml")) else name
