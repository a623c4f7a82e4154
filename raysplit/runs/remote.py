"""Run folders at the URIs of `pyarrow.fs`: ``s3://bucket/runs/name``, ``gs://...``, ``file:///...``.

Object stores cannot append to a file or rename a folder. A run therefore writes to a local folder, and changed files
are copied after every round and at the end; each file is replaced as a whole. Readers get a local copy. When the
machine of a run is lost, the run continues from the copy, which includes the checkpoints.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pyarrow import fs

from raysplit.experiment.experiment import Experiment
from raysplit.paths import checked_steps, fresh_folder, inside, is_uri, refuse_links_out
from raysplit.runs.callback import Callback
from raysplit.runs.folder import LOCK, Row, refuse_used
from raysplit.runs.records.files import CONFIG, is_of_run, names_in
from raysplit.runs.result import Result
from raysplit.runs.storage import COPIES, below, last_part, opened

logger = logging.getLogger(__name__)

RECORDS = (CONFIG, "metrics.jsonl", "summary.json", "environment.json", "traffic.parquet")
"""Files with the settings and metrics of a run, which are small beside its weights."""
_CHUNK = 2**20  # bytes of a file in memory at a time
_MOST_FILES = 100_000
_MOST_ADDED = 2**26  # bytes that a file of a run in progress grows by while it is copied


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
        paths = {name: self._local / name for name in names_in(self._local)}
        found = {name: path for name, path in paths.items() if path.name != LOCK and not path.is_symlink()}
        if found and self._replaces:
            for old in _files_below(self._fs, self._folder):
                if is_of_run(old.removeprefix(f"{self._folder}/")):
                    self._fs.delete_file(old)
            self._replaces = False
        for name, path in found.items():
            stamp = _stamp(path)
            if not name.endswith(".part") and self._copied.get(name) != stamp:
                target = f"{self._folder}/{name}"
                self._fs.create_dir(target.rpartition("/")[0], recursive=True)
                with self._fs.open_output_stream(target) as file:
                    file.write(path.read_bytes())
                self._copied[name] = stamp
        if CONFIG in self._copied and CONFIG not in found:
            logger.warning("%s is gone from this machine; what is at %s stays", self._local, self._folder)
            return
        for name in self._copied.keys() - found.keys():
            self._fs.delete_file(f"{self._folder}/{name}")
            del self._copied[name]

    def take_as_copied(self) -> None:
        """Note that all files in the local folder are at the URI, from where they have just been fetched."""
        for name in names_in(self._local):
            self._copied[name] = _stamp(self._local / name)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


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
        local = Path(scratch) / last_part(opened(location, "run folders")[1])
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
            mirror.take_as_copied()
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
    files: dict[str, set[str]] = {}
    for path in _files_below(source, folder):
        try:
            parent, _, name = _name_below(folder, path, uri).rpartition("/")
        except ValueError as error:
            logger.warning("left out: %s", error)
            continue
        files.setdefault(parent, set()).add(name)
    found = {name for name, have in files.items() if name and CONFIG in have and have & set(marks)}
    outer = [name for name in found if found.isdisjoint(map(str, PurePosixPath(name).parents))]
    return [(name, below(uri, name)) for name in sorted(outer)]


def fetched(uri: str, into: Path | None = None, *, only: Collection[str] = ()) -> Path:
    """Copy the folder at a URI to this machine and return the copy, which has the same name.

    Args:
        uri: the run folder.
        into: the parent of the copy; None takes a folder of this user's cache, until the program ends.
        only: the files to copy; empty copies all.

    Raises:
        ValueError: there is no run at the URI, a file of it has a name that leads out of the copy, or its files are too
            many or too large; nothing has been written then. A store sends other bytes of a file than it lists.
    """
    source, folder = opened(uri, "run folders")
    sizes = _files_below(source, folder)
    names = {path: _name_below(folder, path, uri) for path in sizes}
    names = {path: name for path, name in names.items() if not only or name in only}
    if not names:
        raise ValueError(f"there is no run at {uri}; raysplit list --root shows the runs below a URI")
    if into is None:
        into = _until_the_end(fresh_folder("runs"))
    into.mkdir(parents=True, exist_ok=True)
    _refuse_what_does_not_fit(uri, {name: sizes[path] for path, name in names.items()}, into)
    local = inside(into, last_part(folder))
    local.mkdir(parents=True)
    for path, name in names.items():
        target = inside(local, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open_input_stream(path) as file, target.open("xb") as copy:
            _copy(file, copy, sizes[path], f"{uri}: {name}")
    return local


def _refuse_what_does_not_fit(uri: str, sizes: Mapping[str, int], into: Path) -> None:
    """Raise ``ValueError`` for files that cannot be copied, by what the store lists of them."""
    both = next((parent for name in sizes for parent in map(str, PurePosixPath(name).parents) if parent in sizes), None)
    if both is not None:
        raise ValueError(f"{uri} is not copied: {both!r} is a file and a folder there")
    if len(sizes) > _MOST_FILES:
        raise ValueError(f"{uri} is not copied: it has {len(sizes):,} files, and a run has at most {_MOST_FILES:,}")
    total, free = sum(sizes.values()), shutil.disk_usage(into).free
    if total > free:
        raise ValueError(
            f"{uri} is not copied: it has {total:,} bytes, and {free:,} are free at {into}; make room there, or set "
            f"RAYSPLIT_CACHE to a folder elsewhere"
        )


def _copy(file: Any, copy: BinaryIO, size: int, what: str) -> None:
    """Copy a stream of the size that the store lists, and what a run has added since; ``ValueError`` for more."""
    copied = 0
    while part := file.read(_CHUNK):
        copied += len(part)
        if copied > size + _MOST_ADDED:
            raise ValueError(f"{what}: the store lists {size:,} bytes and sends more and more; ask who runs it")
        copy.write(part)


def _files_below(source: Any, folder: str) -> dict[str, int]:
    """List the files below a folder of a store, and their sizes in bytes.

    Raises ``ValueError`` for a local folder with links that lead out.
    """
    if isinstance(source, fs.LocalFileSystem):  # pyarrow would follow links
        refuse_links_out(Path(folder))
        return {f"{folder}/{name}": (Path(folder) / name).stat().st_size for name in names_in(Path(folder))}
    entries = source.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return {entry.path: entry.size for entry in entries if entry.type == fs.FileType.File}


def _name_below(folder: str, path: str, uri: str) -> str:
    """Return the name of a file relative to its folder. Raises ``ValueError`` where it is not below the folder."""
    name = path.removeprefix(f"{folder}/")
    try:
        if name == path:
            raise ValueError(f"{path!r} is not below {folder!r}")
        checked_steps(name)
    except ValueError as error:
        raise ValueError(f"{uri} is not copied, because of one of its files: {error}") from None
    return name


def _until_the_end(folder: Path) -> Path:
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # made by this process, with a name of its own
    COPIES.add(folder)
    return folder


def _refuse_used(uri: str, overwrite: bool) -> None:
    target, folder = opened(uri, "run folders")
    found = target.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    refuse_used(uri, {entry.base_name for entry in found}, overwrite=overwrite)
