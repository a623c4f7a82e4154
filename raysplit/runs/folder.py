"""The run folder: configuration, environment, partition, metrics, traffic, model.

``runs/<name>/`` contains ``config.yaml`` (resolved), ``environment.json``, ``partition.parquet``, ``metrics.jsonl``
(a line per round, written when the round ends), ``metrics.parquet``, ``traffic.parquet``, ``model.pt`` and
``summary.json``.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.links.kinds import KINDS
from raysplit.disk import PART, TRY_AGAIN, append_line, told_where, written
from raysplit.guards.account.ledger import FOLDER as LEDGERS
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.environment import environment
from raysplit.runs.records.files import CONFIG, is_of_run, names_in, put_back, remove_earlier, remove_run, set_aside
from raysplit.runs.records.files import LOCK as LOCK
from raysplit.runs.records.origin import MARK, mark_of
from raysplit.runs.records.presence import Presence
from raysplit.runs.records.read import CUT_SHORT as CUT_SHORT
from raysplit.runs.records.read import DIVERGED as DIVERGED
from raysplit.runs.records.read import Row as Row
from raysplit.runs.records.read import finished as finished
from raysplit.runs.records.read import read_metrics as read_metrics
from raysplit.runs.records.read import read_models as read_models
from raysplit.runs.records.read import read_summary as read_summary
from raysplit.runs.records.read import read_traffic as read_traffic
from raysplit.runs.records.read import started_at

if TYPE_CHECKING:  # lists and tables of runs must not wait for torch
    from torch import Tensor

logger = logging.getLogger(__name__)


class RunFolderUsed(ValueError):
    """Exception for a run folder that already has a run."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a run folder for this process, and create it where it is missing; the lock ends with the process.

    A folder that was created here and is empty at the end is removed, with the parents that were created for it.

    Raises:
        RunFolderUsed: another process is writing to the folder.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise
        raise ValueError(f"output.root: {path} cannot be made ({error.strerror}); set another folder") from error
    lock = FileLock(path / LOCK, timeout=0.2)  # who only looks whether a run goes on has it for a moment
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout:
        raise RunFolderUsed(
            f"another process is writing the run in {path}; wait for it, stop it, or give another name"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not delete an open file; a file that stays does not block anyone
            (path / LOCK).unlink()  # before the release, so that a process that opened it meanwhile sees it is gone
        lock.release()
        with suppress(OSError):  # not empty, or another process has taken it
            for folder in made:
                folder.rmdir()


def is_held(path: Path) -> bool:
    """Return whether a process is writing to a run folder; a lock file that a killed process left does not count."""
    if not (path / LOCK).exists():
        return False
    lock = FileLock(path / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that this user may only read
        return False
    lock.release()
    return False


def entries(path: Path) -> list[Path]:
    """List the entries of a run folder, sorted, without the lock file."""
    return sorted(entry for entry in path.iterdir() if entry.name != LOCK)


FROM_START = "--from-start"
"""The option of ``raysplit resume`` that trains a run again, where it has rounds and no checkpoint."""


def refuse_used(place: object, names: Collection[str], *, overwrite: bool) -> None:
    """Raise `RunFolderUsed` if a new run cannot be at a path or URI, where entries of these names are."""
    if names and not overwrite:
        raise RunFolderUsed(
            f"run folder {place} already holds a run; give another output.name (--name) or set "
            f"output.overwrite=true (--overwrite) to replace it"
        )
    if names and CONFIG not in names:
        raise RunFolderUsed(f"{place} is not empty and not a run folder; it is left unchanged, give another name")


class RunFolder:
    """Writer of a run folder, which is empty or holds a run to replace until `begin`.

    Args:
        path: the folder.
        overwrite: replace a run that is in the folder.
        clear_others: clears what the run keeps elsewhere, when the run begins and when it is discarded.

    Attributes:
        has_checkpoint: whether there is a checkpoint to go on from, asked when a file could not be written.

    A run with rounds that is replaced is set aside in the folder until the first round of the new one ends; `discard`
    puts it back.

    Raises:
        RunFolderUsed: the folder is not empty, and ``overwrite`` is false or the folder has no run.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, clear_others: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._clear_others = clear_others
        self.has_checkpoint: Callable[[], bool] = lambda: True
        self._has_begun = False
        self._replaced: str | None = None
        self._rows: list[Row] = []
        self._num_bytes = 0
        self._continued: list[Row] | None = None
        self._presence: Presence | None = None
        self._has_config = False
        there = {entry.name for entry in entries(path)} if path.exists() else set()
        refuse_used(path, there - {LEDGERS}, overwrite=overwrite)  # which outlast a run that was discarded

    def begin(self) -> None:
        """Make the folder empty for the run that begins now; a run that continues keeps what is there."""
        if not self._has_begun:
            with told_where(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                if (self.path / "metrics.jsonl").exists():
                    self._replaced = set_aside(self.path)
                else:  # nothing to lose
                    remove_run(self.path)
            self._clear_others()
            self._has_begun, self._presence = True, Presence(self.path)

    def discard(self) -> None:
        """Remove all that a run without a finished round has written: the name is free again, or the old run's."""
        if self._has_begun and not self._rows:
            self._clear_others()
            if self._replaced is None:
                remove_run(self.path)
            else:
                put_back(self.path, self._replaced)

    @classmethod
    def reopen(cls, path: Path, rows: Sequence[Row]) -> RunFolder:
        """Open the folder of a run that continues after the rounds of ``rows``; `restore_rows` records them."""
        folder = cls(path, overwrite=True)  # begun, so that nothing is cleared
        folder._has_begun = True
        folder._presence, folder._has_config = Presence(path), (path / CONFIG).exists()
        for name in list(names_in(path)):  # what a process that was killed while it wrote has left
            if name.endswith(PART) and is_of_run(name):
                (path / name).unlink()
        folder._continued = list(rows)
        return folder

    def restore_rows(self) -> None:
        """Record the rounds that a continued run goes on from, once it is certain that it does."""
        if self._continued is not None:
            self.replace_rows(self._continued)
            self._continued = None

    def require_there(self) -> None:
        """Raise `RunFolderLost` if the folder is gone, is another one, or lacks its configuration."""
        if self._presence is not None:
            self._presence.require(has_config=self._has_config, num_rounds=len(self._rows))

    def write_text(self, name: str, text: str) -> None:
        """Write a file by renaming, so that a reader sees the old or the new content, never a part."""
        with self.written(name) as aside:
            aside.write_text(text, encoding="utf-8")
        self._has_config |= name == CONFIG

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """Yield the path to write a file at, which becomes the file ``name`` at the end.

        Raises `NotWritten` where the disk does not take it, with the way to go on.
        """
        self.require_there()
        with written(self.path / name, self.advice) as aside:
            yield aside

    @property
    def advice(self) -> str:
        """What to do after a file could not be written."""
        if not (self.path / CONFIG).exists():
            return TRY_AGAIN
        rounds = f"{len(self._rows)} rounds are recorded" if self._rows else "no round is recorded yet"
        command = f"raysplit resume {shlex.quote(str(self.path))}"
        if self._rows and not self.has_checkpoint():
            return f"{rounds} and no checkpoint is kept; make room there, then train again: {command} {FROM_START}"
        return f"{rounds}; make room there, then go on: {command}"

    def write_environment(self, resources: Mapping[str, float]) -> None:
        """Write versions, machine and resources, a mark of the writer, and when the run began, which stays as it is."""
        try:
            started = started_at(self.path)
        except Damaged as damaged:
            logger.warning("%s", damaged)
            started = None
        started = started or datetime.now().astimezone().isoformat(timespec="seconds")
        mark = mark_of(self.path) if self._has_config else None
        content = {"started": started, **environment(resources), **({MARK: mark} if mark else {})}
        self.write_text("environment.json", json.dumps(content, indent=2) + "\n")

    def add_row(self, row: Row) -> None:
        """Append the metrics of a round to ``metrics.jsonl`` and flush."""
        self.require_there()
        path = self.path / "metrics.jsonl"
        if (path.stat().st_size if path.exists() else 0) != self._num_bytes:
            logger.warning("%s was changed while the run wrote it; it is written again from memory", path)
            self.replace_rows(self._rows)
        append_line(path, json.dumps(row), self.advice)
        self._rows.append(row)
        self._num_bytes = path.stat().st_size
        if self._replaced is not None:
            remove_earlier(self.path)
            self._replaced = None

    def replace_rows(self, rows: Sequence[Row]) -> None:
        """Replace all metrics by ``rows``."""
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self._rows = list(rows)
        self._num_bytes = (self.path / "metrics.jsonl").stat().st_size

    def write_tables(self, traffic: Sequence[LinkTraffic], others: Mapping[str, pa.Table]) -> None:
        """Write the metrics, the traffic and the tables of the algorithm as Parquet."""
        for name, table in others.items():
            self._write_parquet(name, table)
        if self._rows:
            self._write_parquet("metrics.parquet", table_of(self._rows))
        self._write_parquet("traffic.parquet", traffic_table(traffic))

    def write_model(self, states: Mapping[str, Mapping[str, Tensor]], name: str = "model.pt") -> None:
        """Write the merged state dict, or one per label for algorithms that train several models."""
        import torch

        content: Any = dict(states["global"]) if set(states) == {"global"} else {k: dict(v) for k, v in states.items()}
        with self.written(name) as aside:
            torch.save(content, aside)

    def _write_parquet(self, name: str, table: pa.Table) -> None:
        with self.written(name) as aside:
            pq.write_table(table, aside, write_page_checksum=True)


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a table with the columns of all rows; a value that a row does not have is null."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return pa.table({key: [row.get(key) for row in rows] for key in keys})


def traffic_table(traffic: Sequence[LinkTraffic]) -> pa.Table:
    """Return a table with one row per link, the content of ``traffic.parquet``.

    Beside the bytes and messages of a link it has ``raw_bytes``, the bytes of the same values without a codec, and both
    for each kind of value, such as ``smashed_bytes`` and ``smashed_raw_bytes``.
    """
    columns = ("source", "destination", "num_bytes", "num_messages", "raw_bytes")
    table = {column: [getattr(record, column) for record in traffic] for column in columns}
    for kind in KINDS:
        of_kind = [{k.kind: k for k in record.kinds}.get(kind, KindTraffic(kind, 0, 0)) for record in traffic]
        table[f"{kind}_bytes"] = [record.num_bytes for record in of_kind]
        table[f"{kind}_raw_bytes"] = [record.raw_bytes for record in of_kind]
    return pa.table(table)
