"""``raysplit doctor``: check whether this machine can run raysplit."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import click
import psutil
from rich.table import Table
from rich.text import Text

from raysplit.cli.progress import human_bytes
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.cluster.on_ray.connect import token_path
from raysplit.cluster.ray_start import failure_to_join, obstacles, probe, temp_folder

_GIB = 2**30
_PLACE_BYTES = int(0.25 * _GIB)  # a process with torch and an optimizer
_STORE_BYTES = 512 * 2**20  # cluster.object_store_mib, by default
_LEFT_BYTES = 100 * 10**6  # what Ray wants to be left beside it
_DASHBOARD_PORT = 8265


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check; ``advice`` says what to do where something should be done."""

    name: str
    state: Literal["good", "warning", "bad"]
    found: str
    advice: str = ""


@click.command()
@click.option("--start", is_flag=True, help="Also start Ray.")
def doctor(start: bool) -> None:
    """Check whether this machine can run raysplit.

    Python, packages, memory, disk, GPUs and ports are checked; the table says what to do about each problem.

    \b
    Examples:
      raysplit doctor
      raysplit doctor --start
    """
    checks: list[Callable[[], Finding]] = [*CHECKS, *([ray_starts] if start else [])]
    findings = [check() for check in checks]
    console = Console()
    table = Table("", "check", "found", "what to do")
    marks = {"good": Text("ok", "green"), "warning": Text("warning", "yellow"), "bad": Text("bad", "red")}
    for finding in findings:
        table.add_row(marks[finding.state], finding.name, finding.found, finding.advice)
    if console.is_terminal:
        print_table(console, table)
    else:  # a pipe has no width to fold the columns to
        for finding in findings:
            echo(f"{marks[finding.state].plain:<8}{finding.name}: {finding.found}")
            if finding.advice:
                echo(f"{'':8}{finding.advice}")
    if any(finding.state == "bad" for finding in findings):
        raise click.exceptions.Exit(1)


def python() -> Finding:
    found = sys.version.split()[0]
    good = (3, 11) <= sys.version_info[:2] <= (3, 14)
    return Finding(
        name="Python", state="good" if good else "bad", found=found, advice="" if good else "use Python 3.11 to 3.14"
    )


def packages() -> Finding:
    names = ("torch", "torchvision", "ray", "numpy", "pyarrow", "pydantic")
    found = {name: _version(name) for name in names}
    missing = [name for name, have in found.items() if have is None]
    text = ", ".join(f"{name} {have}" for name, have in found.items() if have)
    advice = f"install {', '.join(missing)}" if missing else ""
    return Finding(name="packages", state="bad" if missing else "good", found=text, advice=advice)


def shared_memory() -> Finding:
    path = Path("/dev/shm")
    if not path.exists():
        return Finding(
            name="shared memory", state="warning", found="no /dev/shm", advice="mount it; Ray is slower without"
        )
    free = shutil.disk_usage(path).free
    advice = "" if free > 600 * 2**20 else "set cluster.object_store_mib below it, or docker run --shm-size=1g"
    return Finding(
        name="shared memory", state="warning" if advice else "good", found=f"{human_bytes(free)} free", advice=advice
    )


def memory() -> Finding:
    free, cpus = psutil.virtual_memory().available, os.cpu_count() or 1
    if free < _STORE_BYTES + _LEFT_BYTES:
        advice = (
            f"Ray's object store takes {human_bytes(_STORE_BYTES)}: set cluster.object_store_mib lower, or free some"
        )
        return Finding(name="memory", state="bad", found=f"{human_bytes(free)} free", advice=advice)
    places = max(0, int((free - _GIB) / _PLACE_BYTES))
    advice = "" if places >= cpus else f"set cluster.places to at most {max(1, places)}"
    found = f"{human_bytes(free)} free, room for about {places} places; {cpus} CPUs"
    return Finding(name="memory", state="warning" if advice else "good", found=found, advice=advice)


def disk() -> Finding:
    spaces = {str(path): shutil.disk_usage(path).free for path in (Path.cwd(), Path(tempfile.gettempdir()))}
    short = [path for path, free in spaces.items() if free < 2 * _GIB]
    found = ", ".join(f"{human_bytes(free)} free at {path}" for path, free in spaces.items())
    advice = f"free space at {', '.join(short)}: Ray stops below 5 % free" if short else ""
    return Finding(name="disk", state="warning" if short else "good", found=found, advice=advice)


def ray_folder() -> Finding:
    found = [obstacle for obstacle in obstacles() if obstacle.subject != "open files"]
    advice = "; ".join(str(obstacle) for obstacle in found)
    return Finding(name="Ray's folder", state="bad" if found else "good", found=str(temp_folder()), advice=advice)


def ray_token() -> Finding:
    """Ray refuses a cluster's address without the cluster's token; a Ray of one's own needs none."""
    has = "a token is set" if os.environ.get("RAY_AUTH_TOKEN") else f"a token is in {token_path()}"
    found = has if os.environ.get("RAY_AUTH_TOKEN") or token_path().exists() else f"none in {token_path()}"
    return Finding(name="Ray token", state="good", found=found)


def writable() -> Finding:
    good = os.access(Path.cwd(), os.W_OK)
    advice = "" if good else "work in a folder that you can write to, or set output.root"
    return Finding(name="run folder", state="good" if good else "bad", found=f"{Path.cwd()}/runs", advice=advice)


def gpus() -> Finding:
    import torch

    count = torch.cuda.device_count()
    found = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none; training runs on CPUs"
    return Finding(name="GPUs", state="good", found=found, advice="set cluster.device to auto" if count else "")


def open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for obstacle in obstacles():
        if obstacle.subject == "open files":
            return Finding(name="open files", state="bad", found=str(soft), advice=str(obstacle))
    advice = "" if soft == resource.RLIM_INFINITY or soft >= 4096 else "ulimit -n 65536 for more than 50 places"
    return Finding(name="open files", state="warning" if advice else "good", found=str(soft), advice=advice)


def ports() -> Finding:
    with socket.socket() as probe:
        is_free = probe.connect_ex(("127.0.0.1", _DASHBOARD_PORT)) != 0
    found = f"{_DASHBOARD_PORT} is {'free' if is_free else 'taken'} (Ray's dashboard)"
    advice = "" if is_free else "another Ray may be running here: cluster.address auto joins it"
    return Finding(name="ports", state="good" if is_free else "warning", found=found, advice=advice)


def ray_environment() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        found = "RAY_ADDRESS is not set: every run starts Ray on this machine"
        return Finding(name="Ray address", state="good", found=found)
    found, advice = f"RAY_ADDRESS is {address}", ""
    if address != "auto":
        try:
            probe(address, timeout_s=5.0)
        except (OSError, ValueError) as error:
            advice = failure_to_join(address, error, f"from RAY_AUTH_TOKEN or {token_path()}")
    return Finding(name="Ray address", state="bad" if advice else "good", found=found, advice=advice)


_AGENTS = ("ray/dashboard/agent.py", "ray/_private/runtime_env/agent/main.py")


def left_of_ray() -> Finding:
    """Agents of Ray outlive a driver that was killed: nobody is left to end them."""
    left = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if any(agent in words for agent in _AGENTS) and not _has_raylet(process):
            left.append(str(process.pid))
    advice = f"the run that they were of has ended: kill {' '.join(left)}" if left else ""
    found = f"{len(left)} processes of a Ray that has ended" if left else "nothing"
    return Finding(name="left of Ray", state="warning" if left else "good", found=found, advice=advice)


def _has_raylet(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
        return parent is not None and "raylet" in parent.name()
    except psutil.Error:  # it ends, or belongs to another user
        return True


def ray_starts() -> Finding:
    from raysplit.cluster.on_ray.connect import RayOptions, RayUnreachable, connect, ray_left_as_found

    try:
        with ray_left_as_found():
            resources = connect(RayOptions())
    except RayUnreachable as error:
        return Finding(name="Ray starts", state="bad", found="no", advice=str(error))
    text = ", ".join(f"{name} {resources[name]:g}" for name in ("CPU", "GPU") if name in resources)
    return Finding(name="Ray starts", state="good", found=text)


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    packages,
    shared_memory,
    memory,
    disk,
    writable,
    gpus,
    open_files,
    ports,
    ray_folder,
    ray_environment,
    ray_token,
    left_of_ray,
)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
