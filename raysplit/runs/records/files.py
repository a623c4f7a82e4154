"""The names of the files that this program writes into a run folder; others in it are somebody else's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

LOCK = ".lock"
"""Name of the lock file, which exists while a process writes to the run folder, and after one was killed."""
CONFIG = "config.yaml"
EARLIER = "earlier"
"""Beginning of the folders with the rounds that a run started anew has set aside."""

TRACKED = "trackers.json"
"""Name of the file in which trackers note which of their runs this is."""
EVENTS = "tensorboard"
"""Name of the folder of TensorBoard's event files."""

_FOLDERS = rf"(?:{EARLIER}-\d+/)?"
_OF_RUN = re.compile(
    _FOLDERS
    + r"(?:(?:config\.yaml|(?:environment|data|summary|prediction|serving|timeline|trackers)\.json|metrics\.jsonl"
    r"|timeline\.png|(?:model|last)\.pt|[^/]+\.parquet|checkpoints/(?:round-\d+|best)\.ckpt"
    r"|leak/(?:leak\.json|samples\.parquet|(?:reconstructions|labels)\.png|attacks/[^/]+\.npz))(?:\.part)?|\.lock"
    rf"|{EVENTS}/events\.out\.tfevents\.[^/]+)"
)
_OWN_FOLDER = re.compile(rf"{_FOLDERS}(?:(?:checkpoints|{EVENTS})/?|leak(?:/attacks)?)|{EARLIER}-\d+")


def is_of_run(name: str) -> bool:
    """Return whether a path relative to a run folder, with /, is that of a file that a run writes."""
    return _OF_RUN.fullmatch(name) is not None


def names_in(folder: Path) -> Iterator[str]:
    """Yield the files of a run folder at any depth by relative path with /; links to folders are not followed."""
    for parent, _, files in os.walk(folder):
        below = Path(parent).relative_to(folder)
        for name in files:
            yield (below / name).as_posix()


def remove_run(folder: Path) -> None:
    """Delete the files of a run, and the folders that are empty then; everything else stays, and so does the lock."""
    _remove(folder, [name for name in names_in(folder) if is_of_run(name) and name != LOCK])


def remove_earlier(folder: Path) -> None:
    """Delete the files that were set aside in the folder of a run, and the folders that are empty then."""
    _remove(folder, [name for name in names_in(folder) if is_of_run(name) and name.startswith(EARLIER)])


def put_back(folder: Path, name: str) -> None:
    """Put what `set_aside` moved into the folder ``name`` in the place of the run that was begun after it."""
    _remove(
        folder, [each for each in names_in(folder) if is_of_run(each) and each != LOCK and not each.startswith(EARLIER)]
    )
    for each in sorted(names_in(folder / name)):
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name / each, folder / each)
    _remove(folder, ())


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in sorted(names):
        (folder / name).unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        if _OWN_FOLDER.fullmatch(Path(parent).relative_to(folder).as_posix()):
            with suppress(OSError):  # it holds somebody else's files
                Path(parent).rmdir()


def set_aside(folder: Path) -> str:
    """Move the files of a run into ``earlier-1``, or the next such folder, of its folder; return that name.

    The configuration stays, as a copy, and so does what is not of the run.
    """
    name = next(name for name in (f"{EARLIER}-{n}" for n in count(1)) if not (folder / name).exists())
    (folder / name).mkdir()
    shutil.copy2(folder / CONFIG, folder / name / CONFIG)
    for each in sorted(names_in(folder)):
        if is_of_run(each) and each not in (LOCK, CONFIG) and not each.startswith(EARLIER):
            (folder / name / each).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / each, folder / name / each)
    return name
