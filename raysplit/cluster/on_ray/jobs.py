"""Requests to a Ray cluster without a driver on it: its nodes, and jobs (Ray's job API)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from raysplit.cluster.on_ray.connect import RayUnreachable, prepare_environment, token_path
from raysplit.cluster.on_ray.job_files import Job

logger = logging.getLogger(__name__)

_POLL_S = 0.5


def alive_nodes(address: str) -> list[str]:
    """Return the names of the live nodes of the cluster at ``host:port``, or none if it does not answer."""
    prepare_environment(address)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RayError

    try:
        nodes: dict[Any, Any] = GcsClient(address=address).get_all_node_info()
    except RayError:
        return []
    return [node.node_name for node in nodes.values() if node.state == 0]


def files_to_send(folder: Path, excludes: Sequence[str]) -> list[Path]:
    """Return the files of a folder that Ray would send: all but those excluded here, in .gitignore or in .rayignore."""
    from ray._private.runtime_env import packaging

    found: list[Path] = []
    folder = folder.absolute()
    rules = [packaging._get_excludes(folder, list(excludes))]
    packaging._dir_travel(folder, rules, found.append, include_gitignore=True, logger=logger)
    return sorted(path for path in found if path.is_file() and path.name not in (".gitignore", ".rayignore"))


class JobClient:
    """A client of Ray's job API at ``http://host:port``.

    Raises:
        RayUnreachable: if the API does not answer or rejects the token.
    """

    def __init__(self, address: str) -> None:
        prepare_environment(address)
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard").setLevel(logging.WARNING)  # no line per package and socket
        self._address = address
        self._errors = (ConnectionError, RuntimeError, RayError)  # a wrong token is a RayError
        try:
            self._client: Any = JobSubmissionClient(address)
        except self._errors as error:
            raise self._unreachable(error) from error

    def submit(self, job: Job) -> str:
        """Submit a job with its files, and return its id."""
        try:
            submitted: str = self._client.submit_job(entrypoint=job.entrypoint, runtime_env=dict(job.runtime_env))
        except self._errors as error:
            raise self._unreachable(error) from error
        return submitted

    async def output(self, job_id: str) -> AsyncIterator[str]:
        """Yield the lines that a job prints until it has ended."""
        rest = ""
        async for text in self._client.tail_job_logs(job_id):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                yield line
        if rest:
            yield rest

    async def exit_code(self, job_id: str) -> tuple[int, str]:
        """Wait for the end of a job; return its exit code (1 if it could not run) and Ray's message."""
        while True:
            info = self._client.get_job_info(job_id)
            if info.status.is_terminal():
                break
            await asyncio.sleep(_POLL_S)
        failed = str(info.status) != "SUCCEEDED"
        code = info.driver_exit_code
        return (int(failed) if code is None or (failed and code == 0) else int(code)), str(info.message or "")

    def _unreachable(self, error: Exception) -> RayUnreachable:
        return RayUnreachable(
            f"no job could be submitted to {self._address} ({type(error).__name__}: {_first_line(error)}). Give the "
            f"address of the cluster's dashboard, for example http://127.0.0.1:8265, and check that {token_path()} or "
            f"RAY_AUTH_TOKEN holds that cluster's token"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
