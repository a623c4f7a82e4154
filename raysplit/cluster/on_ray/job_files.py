"""The contents of a self-contained Ray job: a folder with configuration and user code, this package, a command.

Ray's job API accepts at most 100 MiB for the folder and for the package, so the files are counted before any is sent.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import raysplit

MAX_UPLOAD_BYTES = 100 * 2**20
CONFIG_NAME = "raysplit-job.yaml"
NOT_SENT = (
    *("__pycache__", "*.pyc", ".git", ".venv", "venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"),
    *("*.egg-info", "/runs", "/build", "/dist", "node_modules", ".ipynb_checkpoints"),
)
"""Patterns of files that are never sent, as in .gitignore; a folder's .gitignore and .rayignore are added."""
_NUM_LARGEST = 5

Package = Literal["send", "installed"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job to submit to Ray.

    Attributes:
        entrypoint: shell command of the job.
        folder: run folder of the results, as the job sees it.
        runtime_env: Ray's runtime environment: files to send, variables to set.
    """

    entrypoint: str
    folder: str
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


def training_job(
    *, folder: str, staged: Path, package: Package = "send", env_vars: Mapping[str, str] | None = None
) -> Job:
    """Return the job that trains by the configuration `CONFIG_NAME` in the folder ``staged``.

    Args:
        folder: run folder, ``<root>/<name>``.
        staged: folder to send, filled by `stage`.
        package: ``"send"`` sends this installation's raysplit; ``"installed"`` uses the one on the machines.
        env_vars: environment variables of the job.
    """
    root, _, name = folder.rpartition("/")
    command = ["python", "-m", "raysplit", "train", CONFIG_NAME, "--set", f"output.root={root}", "--name", name]
    runtime_env: dict[str, Any] = {"working_dir": str(staged)}
    if package == "send":
        runtime_env |= {"py_modules": [str(Path(raysplit.__file__).parent)], "excludes": ["__pycache__", "*.pyc"]}
    if env_vars:
        runtime_env["env_vars"] = dict(env_vars)
    return Job(entrypoint=shlex.join([*command, "--json"]), folder=folder, runtime_env=runtime_env)


def stage(target: Path, config: str, code: Path | None, files: Sequence[Path]) -> int:
    """Copy a job's configuration and the ``files`` of the folder ``code`` into an empty folder.

    Returns:
        The size of the files in bytes.

    Raises:
        ValueError: if the files exceed 100 MiB; the message names the largest ones.
    """
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values()) + len(config.encode())
    if code is not None:
        _check_size(code, sizes, total)
        for path in files:
            copy = target / path.relative_to(code)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (target / CONFIG_NAME).write_text(config, encoding="utf-8")
    return total


def _check_size(code: Path, sizes: Mapping[Path, int], total: int) -> None:
    if total <= MAX_UPLOAD_BYTES:
        return
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_NUM_LARGEST]
    names = ", ".join(f"{path.relative_to(code)} ({sizes[path] / 2**20:.1f} MiB)" for path in largest)
    raise ValueError(
        f"{code} holds {total / 2**20:.1f} MiB to send, and a job may have {MAX_UPLOAD_BYTES / 2**20:g} MiB; the "
        f"largest files are {names}. Put data where the machines can read it (a shared folder, s3://, gs://), list "
        f"files in .rayignore, or give a smaller --working-dir"
    )


def results_root(root: str, address: str) -> str:
    """Return ``output.root`` as every machine of the cluster can use it.

    A relative folder is made absolute, which suits a cluster on this machine.

    Raises:
        ValueError: for a relative folder and a cluster on other machines.
    """
    if "://" in root or os.path.isabs(root):
        return root.rstrip("/")
    host = urlsplit(address).hostname or ""
    if not _is_loopback(host):
        raise ValueError(
            f"output.root is the relative folder {root!r} and the cluster is at {host or address}, so the results "
            f"would be lost with the job; set output.root to a lasting place, such as s3://bucket/runs or the full "
            f"path of a shared folder"
        )
    return os.path.abspath(root)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
