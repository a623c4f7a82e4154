"""The running processes of a lab: start them, report on them, and end exactly these.

Every machine is a ``ray start --block`` process in a session of its own; on SIGTERM it drains its raylet and ends its
children. A record in this user's cache holds each process id with its start time, so that a process that was given the
same id later is left alone. Ray's files are in a temporary folder whose name nobody can foresee.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from raysplit.cluster.lab.certificates import DRIVER, make_certificates, variables
from raysplit.cluster.lab.machines import Lab, Machine, start_arguments
from raysplit.cluster.on_ray.connect import token_path
from raysplit.cluster.on_ray.own_session import in_environment
from raysplit.paths import inside, own_folder

_RAY = (sys.executable, "-m", "ray.scripts.scripts")
_POLL_S = 0.1
_TLS = "tls"


class LabError(RuntimeError):
    """Error raised when a lab cannot be started or does not exist; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class MachineProcess:
    """The process of one machine; ``created_s`` is its start in seconds since the epoch."""

    machine: str
    pid: int
    created_s: float

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs, else None."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.created_s) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if same else None


@dataclass(frozen=True, kw_only=True)
class RunningLab:
    """The record of a started lab: its folder, its addresses and its processes, the head's first.

    ``tls`` is the file of shell commands that let a program join a lab with TLS; empty for one without.
    """

    name: str
    folder: str
    address: str
    dashboard: str
    processes: tuple[MachineProcess, ...]
    tls: str = ""

    @property
    def alive(self) -> tuple[str, ...]:
        """The names of the machines whose process runs."""
        return tuple(entry.machine for entry in self.processes if entry.process() is not None)


def record_of(name: str) -> Path:
    """Return the file of a lab's record. Raises ``ValueError`` for a name that leads elsewhere."""
    return inside(own_folder("labs"), f"{name}.json")


def start(
    lab: Lab, nodes_alive: Callable[[str], Sequence[str]], *, timeout_s: float = 120.0, tls: bool = False
) -> RunningLab:
    """Start every machine and return when all are part of the cluster; end the started ones on failure.

    Args:
        lab: lab to start.
        nodes_alive: function that returns the names of the live nodes of the cluster at an address.
        timeout_s: seconds to wait for all machines.
        tls: make certificates, and let the machines talk to each other and to programs that join by TLS alone.

    Raises:
        LabError: if the lab is running already, a port is taken, or a machine ends or is not up in time.
    """
    if (known := find(lab.name)) and known.alive:
        raise LabError(f"lab {lab.name} is up at {known.address}; end it first: raysplit cluster down {lab.name}")
    for port in (lab.port, lab.dashboard_port):
        if _answers(port):
            raise LabError(f"port {port} is in use; give lab {lab.name} another port or dashboard_port")
    if known:
        _forget(known)
    folder = Path(tempfile.mkdtemp(prefix="rs-"))  # short, for the paths of sockets in it
    deadline = time.monotonic() + timeout_s
    environment = _environment()
    certificates = folder / _TLS
    if tls:
        make_certificates(certificates, [machine.name for machine in lab.machines])
    head, *others = lab.machines
    started: list[MachineProcess] = []
    try:
        _launch(lab, head, folder, environment, started)
        _wait(lambda: _answers(lab.port), lab, folder, started, deadline, "the head does not answer")
        for machine in others:
            _launch(lab, machine, folder, environment, started)
        names = {machine.name for machine in lab.machines}
        with in_environment(variables(certificates, DRIVER) if tls else {}):
            alive = partial(nodes_alive, lab.address)
            _wait(lambda: names <= set(alive()), lab, folder, started, deadline, "machines are missing")
        _wait(lambda: _answers(lab.dashboard_port), lab, folder, started, deadline, "the dashboard does not answer")
    except BaseException:
        _end(started)
        raise
    return _running(lab, folder, started)


def find(name: str) -> RunningLab | None:
    """Return the record of a lab, whether its processes run or not; None if there is no record."""
    try:
        record = json.loads(record_of(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    processes = tuple(MachineProcess(**entry) for entry in record.pop("processes"))
    return RunningLab(**record, processes=processes)


def stop(name: str, *, timeout_s: float = 40.0) -> tuple[str, ...]:
    """End a lab's processes, remove its files, and return the names of the machines that ran.

    Machines drain first; a machine that has not ended after ``timeout_s`` seconds is killed with its children.

    Raises:
        LabError: if there is no record of the lab.
    """
    lab = find(name)
    if lab is None:
        raise LabError(
            f"there is no lab {name!r} (no record {record_of(name)}); start one with: raysplit cluster up FILE"
        )
    alive = lab.alive
    _end(lab.processes, timeout_s=timeout_s)
    _forget(lab)
    return alive


def _forget(lab: RunningLab) -> None:
    shutil.rmtree(lab.folder, ignore_errors=True)  # made by `start`, as the record in this user's cache says
    record_of(lab.name).unlink()


def _launch(
    lab: Lab, machine: Machine, folder: Path, environment: Mapping[str, str], started: list[MachineProcess]
) -> None:
    own = variables(folder / _TLS, machine.name) if (folder / _TLS).exists() else {}
    with (folder / f"{machine.name}.log").open("wb") as output:
        process = subprocess.Popen(
            [*_RAY, "start", *start_arguments(lab, machine, folder / str(len(started)))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**environment, **own},
        )
    created_s = psutil.Process(process.pid).create_time()
    started.append(MachineProcess(machine=machine.name, pid=process.pid, created_s=created_s))
    record = json.dumps(asdict(_running(lab, folder, started)), indent=2)
    record_of(lab.name).write_text(record, encoding="utf-8")


def _running(lab: Lab, folder: Path, started: Sequence[MachineProcess]) -> RunningLab:
    addresses = {"address": lab.address, "dashboard": lab.dashboard}
    commands = folder / _TLS / "driver.env"
    tls = str(commands) if commands.exists() else ""
    return RunningLab(name=lab.name, folder=str(folder), **addresses, processes=tuple(started), tls=tls)


def _environment() -> dict[str, str]:
    """Return this process's environment with token authentication, without address and certificates of another cluster.

    Makes a token if there is none; raises `LabError` if Ray cannot make one.
    """
    if not os.environ.get("RAY_AUTH_TOKEN") and not token_path().exists():
        made = subprocess.run([*_RAY, "get-auth-token", "--generate"], capture_output=True, text=True, check=False)
        if made.returncode:
            raise LabError(f"Ray could not create an authentication token: {made.stderr.strip()[-300:]}")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS" and "_TLS" not in key}
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])  # jobs run `python`
    return environment | {"PATH": path, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}


def _wait(
    ready: Callable[[], bool],
    lab: Lab,
    folder: Path,
    started: Sequence[MachineProcess],
    deadline: float,
    problem: str,
) -> None:
    while not ready():
        ended = [entry.machine for entry in started if entry.process() is None]
        if ended or time.monotonic() > deadline:
            machine = ended[0] if ended else started[-1].machine
            what = f"machine {machine} ended" if ended else problem
            text = (folder / f"{machine}.log").read_text(encoding="utf-8", errors="replace")[-600:]
            raise LabError(f"lab {lab.name} did not start: {what}; the end of its log: {text.strip()}")
        time.sleep(_POLL_S)


def _end(processes: Sequence[MachineProcess], timeout_s: float = 40.0) -> None:
    head, others = processes[:1], processes[1:]
    # The head ends last, so that the other machines can drain.
    for group in (others, head):
        running = [process for entry in group if (process := entry.process()) is not None]
        families = [child for process in running for child in process.children(recursive=True)]
        for process in running:
            process.terminate()
        _, late = psutil.wait_procs([*running, *families], timeout=timeout_s)
        for process in late:
            process.kill()
        psutil.wait_procs(late, timeout=5)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
