"""The connection to Ray: a private local cluster on loopback, or the cluster at an address.

The environment variables that Ray reads at its first import are set before that import.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from raysplit.cluster.on_ray.own_session import in_environment, read_again, starting
from raysplit.cluster.ray_start import failure_to_join, failure_to_start, obstacles, probe
from raysplit.own_code import VARIABLE, folder, make_reachable

logger = logging.getLogger(__name__)

_MIB = 2**20

_is_kept: ContextVar[bool] = ContextVar("ray_is_kept", default=False)
"""Whether a context around this one disconnects from Ray at its end."""


class RayUnreachable(ConnectionError):
    """Error raised when Ray cannot be started or reached; the message says what was tried and what to do."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Options of the connection to Ray.

    Attributes:
        address: ``"host:port"`` of a running cluster, ``"auto"`` for one on this machine, or None for ``RAY_ADDRESS``
            if it is set and a new local cluster otherwise.
        num_cpus: logical CPUs of a new local cluster; None takes the machine's.
        num_gpus: logical GPUs of a new local cluster; None takes the machine's.
        object_store_bytes: shared memory of a new local cluster, which has to hold the tensors in transit.
        dashboard: whether a new local cluster starts Ray's dashboard.
        temp_dir: folder for the files of a new local cluster; None takes Ray's default.
        connect_timeout_s: seconds to wait for an answer at the address.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_bytes: int = 512 * _MIB
    dashboard: bool = False
    temp_dir: str | None = None
    connect_timeout_s: float = 5.0


def token_path() -> Path:
    """Return the path of this user's Ray authentication token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def prepare_environment(address: str | None) -> None:
    """Set Ray's environment variables: quiet logs without deduplication, and the token if one exists.

    Call this before Ray is first imported. A Ray that is started here sends values below half a MiB in the message
    itself: a round trip of 200 to 400 kB takes a quarter to a half less processor time than through shared memory, a
    round trip of 800 kB more.
    """
    os.environ.setdefault("RAY_max_direct_call_object_size", str(_MIB // 2))
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    has_token = bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().exists()
    if address not in (None, "local") and has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def connect(options: RayOptions) -> dict[str, float]:
    """Start or join Ray, and return the cluster's total resources by name, ``{"CPU": 8.0, ...}``.

    A Ray session that is already connected is used as it is.

    Raises:
        RayUnreachable: if Ray cannot be started or does not answer.
    """
    address = options.address or os.environ.get("RAY_ADDRESS")
    prepare_environment(address)
    import ray

    if not ray.is_initialized():
        _init(ray, options, address)
    return dict(ray.cluster_resources())


def connected() -> bool:
    """Return whether this process is connected to Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def ray_left_as_found() -> Iterator[None]:
    """Disconnect from Ray at the end, unless this process was already connected at the beginning.

    Within another such context, Ray stays connected until that one ends.
    """
    stays = connected() or _is_kept.get()
    token = _is_kept.set(True)
    try:
        yield
    finally:
        _is_kept.reset(token)
        if not stays:
            disconnect()


def disconnect() -> None:
    """Disconnect from Ray; this ends a local cluster that `connect` started."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    if control_answers():
        ray.shutdown()
        read_again(ray)  # a cluster that is joined later has another token
    else:
        _abandon(ray)


def control_answers() -> bool:
    """Return whether Ray's control process takes connections; without it, calls to Ray wait for a minute and fail."""
    ray = sys.modules["ray"]
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except OSError:
        return False
    return True


abandoned = False
"""Whether Ray was left without its control process; then it ends this process with exit code 1 within a minute."""


def _abandon(ray: Any) -> None:
    """Leave a Ray whose control process is gone: end what runs on this machine, and never call it again."""
    global abandoned
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    atexit.unregister(ray.shutdown)
    abandoned = True
    logger.warning(
        "Ray's control process was lost at the end; the run is not affected, and processes of Ray may be left on other "
        "machines"
    )


def run_tasks(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], options: RayOptions, *, at_once: int
) -> Iterator[tuple[int, Any]]:
    """Run ``function(*job)`` for every job as a Ray task of one CPU; yield (index, result) in order of completion.

    Connects to Ray and stays connected. An exception of a task ends the iteration.

    Args:
        function: importable function.
        jobs: arguments of each task.
        options: how to connect to Ray.
        at_once: largest number of tasks that wait or run at a time.
    """
    connect(options)
    import ray

    task = ray.remote(num_cpus=1)(_run_task)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            index, job = waiting.pop()
            running[task.remote(ray.cloudpickle.dumps((function, job)))] = index
        (ready,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ready), ray.get(ready)


def _run_task(packed: bytes) -> Any:
    make_reachable()  # before a user's own class is unpacked
    function, job = pickle.loads(packed)
    return function(*job)


class PublishedMetric(NamedTuple):
    """A metric to publish: a counter adds up, a gauge is the latest value; ``keys`` are the labels of its values."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    keys: tuple[str, ...] = ()


def publisher(named: Sequence[PublishedMetric], labels: Mapping[str, str]) -> Callable[..., None]:
    """Return a function that publishes ``(name, value, **keys)`` as Ray metrics with these labels."""
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
        elif value > 0:  # Ray's counters reject an increase of 0
            made[name].inc(value, tags=keys)

    return publish


def _init(ray: Any, options: RayOptions, address: str | None) -> None:
    if address in (None, "local") and (found := obstacles(options.temp_dir)):
        raise RayUnreachable(f"Ray cannot be started on this machine: {'. Also: '.join(map(str, found))}")
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
        variables = {"OMP_NUM_THREADS": "1", VARIABLE: folder()}
        arguments |= {"address": address, "runtime_env": {"env_vars": variables}}
    try:
        if address not in (None, "local", "auto"):
            probe(address, options.connect_timeout_s)
        arguments["job_config"] = _without_working_directory(ray)
        own = starting(ray, dashboard=options.dashboard) if address in (None, "local") else nullcontext()
        with in_environment({VARIABLE: folder()}), own, _stop_signal_left_as_found():  # a Ray started here gives it on
            ray.init(**arguments)
    except Exception as error:  # Ray raises plain exceptions, too
        raise RayUnreachable(_failure(address, error, options)) from error


def _without_working_directory(ray: Any) -> Any:
    """Return the description of a job whose processes do not get the working directory first on their import path.

    There it would replace modules of Python and of installed packages; `raysplit.own_code` puts it last instead.
    """

    class Paths(list[str]):
        def extend(self, paths: Any) -> None:
            super().extend(path for path in paths if os.path.realpath(path) != os.path.realpath(os.getcwd()))

    job = ray.job_config.JobConfig()
    job._py_driver_sys_path = Paths()
    return job


def _failure(address: str | None, error: Exception, options: RayOptions) -> str:
    if address in (None, "local"):
        return failure_to_start(error, object_store_bytes=options.object_store_bytes, given_folder=options.temp_dir)
    sent = "a token was sent" if os.environ.get("RAY_AUTH_MODE") == "token" else "no token was sent"
    return failure_to_join(address, error, f"from RAY_AUTH_TOKEN or {token_path()}; {sent}")


@contextmanager
def _stop_signal_left_as_found() -> Iterator[None]:
    """Keep a handler of SIGTERM that this program has: Ray's own prints a stack of C++ and ends the process."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
