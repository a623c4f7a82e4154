"""Run folders at the URIs of `pyarrow.fs`: ``s3://bucket/runs/name``, ``gs://...``, ``file:///...``.

Object stores cannot append to a file or rename a folder. A run therefore writes to a local folder, and changed files
are copied after every round and at the end; each file is replaced as a whole. Readers get a local copy. When the
machine of a run is lost, the run continues from the copy, which includes the checkpoints.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pyarrow import fs

from raysplit.experiment.experiment import Experiment
from raysplit.paths import is_uri
from raysplit.runs.callback import Callback
from raysplit.runs.folder import LOCK, Row, RunFolderUsed
from raysplit.runs.result import Result
from raysplit.runs.storage import below, opened

logger = logging.getLogger(__name__)

RECORDS = ("config.yaml", "metrics.jsonl", "summary.json", "environment.json", "traffic.parquet")
"""Files with the settings and metrics of a run, which are small beside its weights."""


class RemoteCopy(Callback):
    """Callback that copies a local run folder to a URI.

    Args:
        local: the folder.
        uri: the place of the copy.
        replaces: remove what is there before the first file is copied.
    """

    def __init__(self, local: Path, uri: str, *, replaces: bool = False) -> None:
        self._local = local
        self._replaces = replaces
        self._fs, self._folder = opened(uri, "run folders")
        self._copied: dict[str, tuple[int, int]] = {}  # size and modification time by name

    def run_started(self, experiment: Experiment) -> None:
        self.push()

    def round_ended(self, row: Row) -> None:
        self.push()

    def run_ended(self, result: Result) -> None:
        self.push()

    def push(self) -> None:
        """Copy the files that changed since the last call and remove deleted ones; ``.part`` files are skipped."""
        files = [path for path in self._local.rglob("*") if path.is_file() and path.name != LOCK]
        found = {path.relative_to(self._local).as_posix(): path for path in files}
        if found and self._replaces:
            self._fs.delete_dir_contents(self._folder, missing_dir_ok=True)
            self._replaces = False
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
    """Yield the local folder of a new run, and the callbacks that copy it to ``location`` where that is a URI.

    Raises:
        RunFolderUsed: the URI is not empty, and ``overwrite`` is false or the folder has no run.
    """
    if not is_uri(location):
        yield Path(location), ()
        return
    _refuse_used(location, overwrite)
    with tempfile.TemporaryDirectory(prefix="raysplit-run-") as scratch:
        local = Path(scratch) / opened(location, "run folders")[1].rpartition("/")[2]
        with _mirrored(RemoteCopy(local, location, replaces=overwrite)) as mirror:
            yield local, (mirror,)


@contextmanager
def existing_folder(location: str) -> Iterator[tuple[Path, Sequence[Callback]]]:
    """Yield the local folder of a run that continues; a URI is fetched first and copied back."""
    if not is_uri(location):
        yield Path(location), ()
        return
    with tempfile.TemporaryDirectory(prefix="raysplit-run-") as scratch:
        local = fetched(location, Path(scratch))
        with _mirrored(RemoteCopy(local, location)) as mirror:
            yield local, (mirror,)


@contextmanager
def _mirrored(mirror: RemoteCopy) -> Iterator[RemoteCopy]:
    try:
        yield mirror
    finally:
        mirror.push()  # also after an error


def runs_below(uri: str, marks: Collection[str]) -> list[tuple[str, str]]:
    """List the runs below a URI at any depth, as names relative to it and URIs, sorted by name.

    A run has ``config.yaml`` and one of the files ``marks``; folders inside of a run are not looked at.
    """
    source, folder = opened(uri, "run folders")
    entries = source.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    files: dict[str, set[str]] = {}
    for entry in entries:
        parent, _, name = entry.path.removeprefix(f"{folder}/").rpartition("/")
        files.setdefault(parent, set()).add(name)
    found = {name for name, have in files.items() if name and "config.yaml" in have and have & set(marks)}
    outer = [name for name in found if found.isdisjoint(map(str, PurePosixPath(name).parents))]
    return [(name, below(uri, name)) for name in sorted(outer)]


def fetched(uri: str, into: Path | None = None, *, only: Collection[str] = ()) -> Path:
    """Copy the folder at a URI to this machine and return the copy, which has the same name.

    Args:
        uri: the run folder.
        into: the parent of the copy; None takes a temporary folder that later calls use again.
        only: the files to copy; empty copies all.

    Raises:
        ValueError: there is no run at the URI.
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
        raise ValueError(f"there is no run at {uri}; raysplit list --root shows the runs below a URI")
    shutil.rmtree(local, ignore_errors=True)
    for entry in files:
        path = local / entry.path.removeprefix(f"{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open_input_stream(entry.path) as file:
            path.write_bytes(file.read())
    return local


def _refuse_used(uri: str, overwrite: bool) -> None:
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
        raise RunFolderUsed(f"{uri} is not empty and not a run folder; it is left unchanged, give another name")
