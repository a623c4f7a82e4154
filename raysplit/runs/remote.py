"""Run folders anywhere that `pyarrow.fs` reaches: ``s3://bucket/runs/name``, ``gs://...``, ``file:///...``.

Object stores cannot append to a file or rename a folder. A run therefore writes to a folder of this machine, and what
has changed there is copied after every round and at the end; each file is replaced as a whole. Whoever reads gets a
copy. A run whose machine is lost goes on from the copy, its checkpoints included.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from raysplit.experiment.experiment import Experiment
from raysplit.runs.callback import Callback
from raysplit.runs.folder import LOCK, Row, RunFolderUsed
from raysplit.runs.result import Result
from raysplit.runs.storage import below, is_uri, opened

logger = logging.getLogger(__name__)

RECORDS = ("config.yaml", "metrics.jsonl", "summary.json", "environment.json", "traffic.parquet")
"""What tells how a run was set up and how it went; small beside its weights."""


class RemoteCopy(Callback):
    """Keeps a copy of a local folder at a URI; a callback of the run that writes there."""

    def __init__(self, local: Path, uri: str) -> None:
        self._local = local
        self._fs, self._folder = opened(uri, "run folders")
        self._copied: dict[str, tuple[int, int]] = {}  # size and time of change, by name

    def run_started(self, experiment: Experiment) -> None:
        self.push()

    def round_ended(self, row: Row) -> None:
        self.push()

    def run_ended(self, result: Result) -> None:
        self.push()

    def push(self) -> None:
        """Copy what has changed since the last time, remove what is gone; unfinished files (``.part``) stay here."""
        files = [path for path in self._local.rglob("*") if path.is_file() and path.name != LOCK]
        found = {path.relative_to(self._local).as_posix(): path for path in files}
        for name, path in found.items():
            stamp = (path.stat().st_size, path.stat().st_mtime_ns)
            if not name.endswith(".part") and self._copied.get(name) != stamp:
                target = f"{self._folder}/{name}"
                self._fs.create_dir(target.rpartition("/")[0], recursive=True)
                with self._fs.open_output_stream(target) as file:
                    file.write(path.read_bytes())
                self._copied[name] = stamp
        for name in self._copied.keys() - found.keys():
            self._fs.delete_file(f"{self._folder}/{name}")
            del self._copied[name]


@contextmanager
def new_folder(location: str, *, overwrite: bool) -> Iterator[tuple[Path, Sequence[Callback]]]:
    """Where a new run writes, and who copies it to ``location`` where that is a URI.

    Raises `RunFolderUsed` for a URI that holds something, unless ``overwrite``, which removes a run.
    """
    if not is_uri(location):
        yield Path(location), ()
        return
    _make_free(location, overwrite)
    with tempfile.TemporaryDirectory(prefix="raysplit-run-") as scratch:
        local = Path(scratch) / opened(location, "run folders")[1].rpartition("/")[2]
        with _mirrored(local, location) as mirror:
            yield local, (mirror,)


@contextmanager
def existing_folder(location: str) -> Iterator[tuple[Path, Sequence[Callback]]]:
    """The folder of a run that goes on; a URI's is fetched first and copied back."""
    if not is_uri(location):
        yield Path(location), ()
        return
    with tempfile.TemporaryDirectory(prefix="raysplit-run-") as scratch:
        local = fetched(location, Path(scratch))
        with _mirrored(local, location) as mirror:
            yield local, (mirror,)


@contextmanager
def _mirrored(local: Path, location: str) -> Iterator[RemoteCopy]:
    mirror = RemoteCopy(local, location)
    try:
        yield mirror
    finally:
        mirror.push()  # what a failed run has reached, too


def runs_below(uri: str) -> list[str]:
    """The URIs of the runs in the folder at a URI, by name."""
    source, folder = opened(uri, "run folders")
    entries = source.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    paths = [entry.path.removeprefix(f"{folder}/").split("/") for entry in entries]
    return [below(uri, path[0]) for path in sorted(paths) if len(path) == 2 and path[1] == "config.yaml"]


def fetched(uri: str, into: Path | None = None, *, only: Collection[str] = ()) -> Path:
    """A copy of the folder at a URI, under its own name. Raises ``ValueError`` where there is none.

    Args:
        into: the folder that gets it; None takes one below the temporary folder that later calls use again.
        only: the files to copy, where not all are wanted.
    """
    source, folder = opened(uri, "run folders")
    if into is None:
        digest = hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:12]
        into = Path(tempfile.gettempdir()) / "raysplit-runs" / digest
    local = into / folder.rpartition("/")[2]
    entries = source.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    files = [entry for entry in entries if entry.type == fs.FileType.File]
    files = [entry for entry in files if not only or entry.path.removeprefix(f"{folder}/") in only]
    if not files:
        raise ValueError(f"there is no run at {uri}")
    shutil.rmtree(local, ignore_errors=True)
    for entry in files:
        path = local / entry.path.removeprefix(f"{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open_input_stream(entry.path) as file:
            path.write_bytes(file.read())
    return local


def _make_free(uri: str, overwrite: bool) -> None:
    target, folder = opened(uri, "run folders")
    names = {entry.base_name for entry in target.get_file_info(fs.FileSelector(folder, allow_not_found=True))}
    if not names:
        return
    if not overwrite:
        raise RunFolderUsed(
            f"run folder {uri} already holds a run; give another output.name (--name) or set "
            f"output.overwrite=true (--overwrite) to replace it"
        )
    if "config.yaml" not in names:
        raise RunFolderUsed(f"{uri} is not empty and not a run folder; it is left alone, give another name")
    target.delete_dir_contents(folder)
