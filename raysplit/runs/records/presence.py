"""Whether a folder is still the one that a run began to write."""

from __future__ import annotations

from pathlib import Path

from raysplit.disk import NotWritten
from raysplit.runs.records.files import CONFIG, LOCK


class RunFolderLost(NotWritten):
    """Exception for a run folder that was removed, moved or replaced while the run goes on."""


class Presence:
    """A folder as it was when a run began to write it.

    Args:
        path: the folder, which is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = _number(path)
        self._lock = _number(path / LOCK)  # held open, so that no other file can get its number

    def require(self, *, has_config: bool, num_rounds: int) -> None:
        """Raise `RunFolderLost` if the folder is gone, is another one, or lacks its configuration.

        A folder that was removed is not made again: what would lie in it then is not the whole run.
        """
        found, lock = _number(self._path), _number(self._path / LOCK)
        if found is None:
            reason = "it was removed or moved"
        elif found != self._folder or (lock and self._lock and lock != self._lock):
            reason = "another folder is in its place"
        elif has_config and not (self._path / CONFIG).exists():
            reason = f"its {CONFIG} was removed"
        else:
            return
        raise RunFolderLost(
            f"run folder {self._path} is lost after {num_rounds} rounds: {reason} while the run went on; the run stops "
            f"and writes nothing more. A folder that was moved can be resumed where it is now"
        )


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
