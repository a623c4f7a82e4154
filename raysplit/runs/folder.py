"""The run folder: configuration, environment, partition, metrics, traffic, model.

``runs/<name>/`` holds ``config.yaml`` (resolved), ``environment.json``, ``partition.parquet``, ``metrics.jsonl``
(a line per round, written at once), ``metrics.parquet``, ``traffic.parquet``, ``model.pt`` and ``summary.json``.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from raysplit.cluster.contract import LinkTraffic

Row = dict[str, Any]
CUT_SHORT = "cut short"
"""Why a run ended that an error or a person interrupted."""
LOCK = ".lock"
"""A file that is there while a process writes to the run folder, and after one that was killed."""

_PACKAGES = ("raysplit", "ray", "torch", "torchvision", "numpy", "pyarrow", "pulp", "pydantic")


class RunFolderUsed(ValueError):
    """The run folder already holds a run."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Be the only process that writes to a run folder, which is made if need be; death lets it go.

    Raises `RunFolderUsed` where another process writes there.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderUsed(
            f"another process is writing the run in {path}; wait for it or end it, or give another name"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open; one that is left holds nobody up
            (path / LOCK).unlink()  # before the release: whoever opened it meanwhile sees that it is gone
        lock.release()


def entries(path: Path) -> list[Path]:
    """What a run folder holds, in order, without the lock of a process that writes or wrote there."""
    return sorted(entry for entry in path.iterdir() if entry.name != LOCK)


class RunFolder:
    """Writes one run. Raises `RunFolderUsed` when the folder holds something and ``overwrite`` is off."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        if path.exists() and entries(path):
            if not overwrite:
                raise RunFolderUsed(
                    f"run folder {path} already holds a run; give another output.name (--name) or set "
                    f"output.overwrite=true (--overwrite) to replace it"
                )
            if not (path / "config.yaml").exists():
                raise RunFolderUsed(f"{path} is not empty and not a run folder; it is left alone, give another name")
            for entry in entries(path):  # not the lock: whoever writes there holds it
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        path.mkdir(parents=True, exist_ok=True)
        self._rows: list[Row] = []

    @classmethod
    def reopen(cls, path: Path, rows: Sequence[Row]) -> RunFolder:
        """The folder of a run that goes on after these rounds."""
        folder = cls.__new__(cls)
        folder.path = path
        folder.replace_rows(rows)
        return folder

    def write_text(self, name: str, text: str) -> None:
        """Write aside, then rename: a reader sees the old file or the new one, never half of it."""
        target = self.path / name
        aside = target.with_name(target.name + ".part")
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, target)

    def write_environment(self, resources: Mapping[str, float]) -> None:
        self.write_text("environment.json", json.dumps(environment(resources), indent=2) + "\n")

    def add_row(self, row: Row) -> None:
        """Append a round's metrics; on disk when this returns."""
        self._rows.append(row)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()

    def replace_rows(self, rows: Sequence[Row]) -> None:
        """Have the metrics of these rounds and no others."""
        self._rows = list(rows)
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_tables(self, traffic: Sequence[LinkTraffic], others: Mapping[str, pa.Table]) -> None:
        """Write the metrics, the traffic and the algorithm's own tables as Parquet."""
        for name, table in others.items():
            self._write_parquet(name, table)
        if self._rows:
            self._write_parquet("metrics.parquet", table_of(self._rows))
        self._write_parquet("traffic.parquet", traffic_table(traffic))

    def write_model(self, states: Mapping[str, Mapping[str, Tensor]], name: str = "model.pt") -> None:
        """``model.pt``: the merged state dict, or one per owner for methods that train many models."""
        content: Any = dict(states["global"]) if set(states) == {"global"} else {k: dict(v) for k, v in states.items()}
        aside = self.path / f"{name}.part"
        torch.save(content, aside)
        os.replace(aside, self.path / name)

    def _write_parquet(self, name: str, table: pa.Table) -> None:
        aside = self.path / f"{name}.part"
        pq.write_table(table, aside)
        os.replace(aside, self.path / name)


def table_of(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table with all their columns; null where a row lacks one."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return pa.table({key: [row.get(key) for row in rows] for key in keys})


def traffic_table(traffic: Sequence[LinkTraffic]) -> pa.Table:
    """A row per link, as ``traffic.parquet`` has it."""
    columns = ("source", "destination", "num_bytes", "num_messages")
    return pa.table({column: [getattr(record, column) for record in traffic] for column in columns})


def read_traffic(folder: Path) -> tuple[LinkTraffic, ...]:
    """What crossed the links of a run; nothing where it was not written yet."""
    path = folder / "traffic.parquet"
    return tuple(LinkTraffic(**row) for row in pq.read_table(path).to_pylist()) if path.exists() else ()


def read_models(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The trained weights of a run by label, as `RunFolder.write_model` wrote them; empty before its first evaluation.

    Raises ``ValueError`` for a file that is none.
    """
    path = folder / "model.pt"
    if not path.exists():
        return {}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path} holds no model: {error}") from error
    is_one = all(isinstance(value, Tensor) for value in content.values())
    return {"global": content} if is_one else content


def environment(resources: Mapping[str, float]) -> dict[str, Any]:
    """Versions, machine and the cluster's resources, for the record."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cuda": torch.cuda.is_available(),
        "packages": versions,
        "cluster": dict(resources),
    }


def finished(folder: Path) -> bool:
    """Whether the folder holds a run that went to its end: its last round, or a reason to stop before."""
    return bool(read_summary(folder).get("stopped", CUT_SHORT) != CUT_SHORT)


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``summary.json`` says; nothing where it was not written yet."""
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return summary


def read_metrics(folder: Path) -> list[Row]:
    """The rows of a run, also of one that was cut short. Raises ``ValueError`` where there are none."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise ValueError(f"{folder} is not a run folder: it has no metrics.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    if not rows:
        raise ValueError(f"{folder} has no finished round yet")
    return rows
