"""Connect to Ray: a private local cluster, or the one that an address names.

Everything that Ray reads from the environment when it is first imported is set before that import.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

logger = logging.getLogger(__name__)

_MIB = 2**20


class RayUnreachable(ConnectionError):
    """Ray could not be started or reached; the message says what was tried and what to do."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How to get hold of Ray.

    Attributes:
        address: ``host:port`` of a running cluster, ``auto`` for one on this machine, None for ``RAY_ADDRESS`` or,
            where that is unset, a new local one.
        num_cpus: logical CPUs of a new local cluster; None takes the machine's.
        object_store_bytes: shared memory of a new local cluster, sized to the tensors under way.
        connect_timeout_s: how long to wait for somebody to answer at the address at all.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_bytes: int = 512 * _MIB
    dashboard: bool = False
    temp_dir: str | None = None
    connect_timeout_s: float = 5.0


def token_path() -> Path:
    """Where Ray keeps the authentication token of this user."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def prepare_environment(address: str | None) -> None:
    """Quiet, un-deduplicated logs, and the token sent wherever one exists. Call before Ray is first imported.

    A Ray that is started here carries values below half a MiB in the message itself: a round trip of 200 to 400 kB
    costs a quarter to a half less processor time than one by way of shared memory, of 800 kB more.
    """
    os.environ.setdefault("RAY_max_direct_call_object_size", str(_MIB // 2))
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    has_token = bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().exists()
    if address not in (None, "local") and has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def connect(options: RayOptions) -> dict[str, float]:
    """Start or join Ray and return the cluster's total resources.

    Raises `RayUnreachable` with the way out. A Ray session that is already connected is used as it is.
    """
    address = options.address or os.environ.get("RAY_ADDRESS")
    prepare_environment(address)
    import ray

    if not ray.is_initialized():
        _init(ray, options, address)
    return dict(ray.cluster_resources())


def connected() -> bool:
    """Whether this process is part of a Ray session."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def ray_left_as_found() -> Iterator[None]:
    """At the end, leave a Ray session that was joined or started meanwhile; one that was there before stays."""
    was_connected = connected()
    try:
        yield
    finally:
        if not was_connected:
            disconnect()


def disconnect() -> None:
    """Leave Ray; a local cluster that `connect` started ends with it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def run_tasks(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], options: RayOptions, *, at_once: int
) -> Iterator[tuple[int, Any]]:
    """``function(*job)`` for every job as plain Ray tasks of one CPU; (index of the job, result) as they finish.

    At most ``at_once`` of them wait or run at a time. An importable function; what it raises ends the iteration.
    Stays connected to Ray.
    """
    connect(options)
    import ray

    task = ray.remote(num_cpus=1)(function)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            index, job = waiting.pop()
            running[task.remote(*job)] = index
        (ready,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ready), ray.get(ready)


class PublishedMetric(NamedTuple):
    """A metric that is published: a counter adds up, a gauge is the latest value; ``keys`` tell its values apart."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    keys: tuple[str, ...] = ()


def publisher(named: Sequence[PublishedMetric], labels: Mapping[str, str]) -> Callable[..., None]:
    """Publishes ``(name, value, **keys)`` with Ray's metrics under these labels, from the connected process."""
    from ray.util import metrics

    kinds = {"counter": metrics.Counter, "gauge": metrics.Gauge}
    made: dict[str, Any] = {}
    for metric in named:
        keys = (*labels, *metric.keys)
        made[metric.name] = kinds[metric.kind](metric.name, description=metric.description, tag_keys=keys)
        made[metric.name].set_default_tags(dict(labels))
    gauges = {metric.name for metric in named if metric.kind == "gauge"}

    def publish(name: str, value: float, **keys: str) -> None:
        if name in gauges:
            made[name].set(value, tags=keys)
        elif value > 0:  # Ray's counters refuse to stand still
            made[name].inc(value, tags=keys)

    return publish


def _init(ray: Any, options: RayOptions, address: str | None) -> None:
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address in (None, "local"):
        arguments |= {
            "address": "local",
            "num_cpus": options.num_cpus,
            "num_gpus": options.num_gpus,
            "object_store_memory": options.object_store_bytes,
            "include_dashboard": options.dashboard,
            "_temp_dir": options.temp_dir,
        }
    else:
        arguments |= {"address": address, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
    try:
        if address not in (None, "local", "auto"):
            _knock(address, options.connect_timeout_s)
        ray.init(**arguments)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise RayUnreachable(_unreachable(address, error)) from error


def _knock(address: str, timeout_s: float) -> None:
    """Fail at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not of the form host:port")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def _unreachable(address: str | None, error: Exception) -> str:
    where = f"at {address}" if address not in (None, "local") else "on this machine"
    token = "a token was sent" if os.environ.get("RAY_AUTH_MODE") == "token" else "no token was sent"
    return (
        f"Ray could not be reached {where} ({type(error).__name__}: {error}; {token}). Check the address "
        f"(RAY_ADDRESS or cluster.address), that `ray start --head` runs there, and that {token_path()} or "
        f"RAY_AUTH_TOKEN holds that cluster's token; or leave the address out to start a local cluster"
    )
