"""``raysplit submit``: train as a job on a Ray cluster."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysplit.cli.options import FilePath, RunName
from raysplit.cli.progress import status_line
from raysplit.cli.streams import echo
from raysplit.cli.training.train import run_name

if TYPE_CHECKING:
    from raysplit.cluster.on_ray.job_files import Package
    from raysplit.cluster.on_ray.jobs import JobClient


@click.command()
@click.argument("config", type=FilePath())
@click.option(
    "--address", envvar="RAY_API_SERVER_ADDRESS", required=True, metavar="URL", help="Dashboard, http://HOST:8265."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--name", type=RunName(), metavar="NAME", help="Name of the run; its folder is output.root/NAME.")
@click.option(
    "--working-dir",
    "code",
    type=FilePath(exists=True, file_okay=False, dir_okay=True),
    help="Folder with your own modules, which is sent along.",
)
@click.option(
    "--package",
    type=click.Choice(["send", "installed"]),
    default="send",
    show_default=True,
    help="Send raysplit, or use the one on the machines.",
)
@click.option(
    "--env", "env_vars", multiple=True, metavar="NAME=VALUE", help="Environment variable of the job; repeatable."
)
@click.option("--no-wait", is_flag=True, help="Return when the job is submitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per round and a summary only.")
def submit(
    config: Path,
    address: str,
    overrides: tuple[str, ...],
    name: str | None,
    code: Path | None,
    package: Package,
    env_vars: tuple[str, ...],
    no_wait: bool,
    as_json: bool,
) -> None:
    """Train as a job on a Ray cluster.

    CONFIG is a YAML file. It is sent together with raysplit and your own modules; the machines of the cluster need
    Python, Ray and torch. The command prints the rounds and the run folder, and ends with the exit code of the job.

    \b
    Example:
      raysplit submit my.yaml --address http://127.0.0.1:8265 --working-dir . --set output.root=s3://bucket/runs
    """
    from raysplit.cluster.on_ray.job_files import NOT_SENT, results_root, stage, training_job
    from raysplit.cluster.on_ray.jobs import JobClient, files_to_send
    from raysplit.config.run import dump_config, load_config
    from raysplit.runs.storage import below

    checked = load_config(config, [*overrides, *([f"output.name='{name}'"] if name is not None else [])])
    folder = below(results_root(checked.output.root, address), run_name(checked, config))
    here = checked.model_copy(update={"cluster": checked.cluster.model_copy(update={"address": None})})
    environment = dict(_pair(entry) for entry in env_vars)
    client = JobClient(address)
    files = files_to_send(code, NOT_SENT) if code is not None else []
    with tempfile.TemporaryDirectory(prefix="raysplit-job-") as staged:
        num_bytes = stage(Path(staged), dump_config(here), code.absolute() if code is not None else None, files)
        job = training_job(folder=folder, staged=Path(staged), package=package, env_vars=environment)
        job_id = client.submit(job)
    echo(f"job {job_id} ({num_bytes / 2**10:.0f} KiB of configuration and code sent)", err=True)
    if no_wait:
        echo(f"run folder: {folder}")
        return
    code_of_job, message = asyncio.run(_follow(client, job_id, as_json))
    if code_of_job:
        echo(f"job {job_id} failed with exit code {code_of_job}: {message.strip()[-500:]}", err=True)
        raise click.exceptions.Exit(code_of_job)
    if not as_json:
        echo(f"run folder: {folder}")


def _pair(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals or not name:
        raise ValueError(f"--env {entry!r} does not have the form NAME=VALUE")
    return name, value


async def _follow(client: JobClient, job_id: str, as_json: bool) -> tuple[int, str]:
    try:
        async for line in client.output(job_id):
            echo(line if as_json else readable(line))
        return await client.exit_code(job_id)
    except asyncio.CancelledError:
        echo(f"the job continues; stop it: ray job stop {job_id}", err=True)
        raise


def readable(line: str) -> str:
    """Format a line of the job's output: rounds and the summary in words, any other line unchanged."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError:
        return line
    if isinstance(content, dict) and "round" in content:
        return f"round {content['round']}: {status_line(content)}"
    if isinstance(content, dict) and "summary" in content:
        return f"ended: {content['summary']['stopped']}"
    return line
