"""The ledger of one owner: an append-only file of what has left it, which no checkpoint takes back.

A line is JSON and is on the disk before the message that it speaks of leaves:

* the first line has the owner and the number of its samples;
* a *charge* has the kind of value, the mechanism, what it costs, and a key. The key is made of what the owner had
  received and of what it was going to send: the same key is the same message again, which tells nothing new and is
  charged once;
* a *step* has the hash of what the owner had received before it, so that a repeated round is known again, and the bytes
  that were sent since the step before.

A crash between a charge and its message counts too much, never too little. A line that a crash cut off was not followed
by its message, and is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from filelock import FileLock, Timeout

from raysplit.guards.account.charges import VERSION, Charge, LedgerRefused, charge_of, lines_of

SUFFIX = ".jsonl"
FOLDER = "ledger"
"""Name of the folder of the ledgers in a run folder."""
_encoded = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a ledger had been written: the size in bytes, and the digest of that much of it."""

    size: int
    digest: str


class Ledger:
    """The ledger of an owner, open for writing.

    Args:
        owner: the name of the owner.
        samples: the number of its samples.
        path: the file, which is locked for this process; None keeps the ledger in memory alone.

    Raises:
        LedgerRefused: the file is no ledger of this owner, or another process writes to it.
    """

    def __init__(self, owner: str, samples: int, path: Path | None = None) -> None:
        self.owner = owner
        self.samples = samples
        self.path = path
        self.charges: list[Charge] = []
        self._keys: set[tuple[str, str]] = set()
        self._steps: dict[tuple[str, int], str] = {}
        self._size = 0
        self._state = hashlib.blake2b(digest_size=16)
        self._file: BinaryIO | None = None
        self._lock: FileLock | None = None
        if path is not None and path.exists():
            self._open()

    def _open(self) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.path}.lock", blocking=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise LedgerRefused(
                f"another process writes to the ledger {self.path} of {self.owner}; wait for it or stop it"
            ) from None
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            for line in lines_of(whole, self.path):
                self._take(line)
            self._state.update(whole)
            self._size = len(whole)
            if len(whole) < len(content):
                os.truncate(self.path, len(whole))
        self._file = self.path.open("ab", buffering=0)
        if not self._size:
            self._append({"owner": self.owner, "samples": self.samples, "version": VERSION}, sync=True)

    def _take(self, line: Mapping[str, Any]) -> None:
        """Take in a line that is in the file."""
        if "version" in line:
            if line["owner"] != self.owner:
                raise LedgerRefused(
                    f"{self.path} is the ledger of {line['owner']}, not of {self.owner}; give each owner its own file"
                )
        elif "step" in line:
            self._steps[line["key"], line["step"]] = line["at"]
        else:
            charge = charge_of(line)
            self.charges.append(charge)
            self._keys.add((charge.value, charge.key))

    def _append(self, line: Mapping[str, Any], *, sync: bool) -> None:
        raw = (_encoded(line) + "\n").encode()
        if self.path is not None:
            if self._file is None:
                self._open()
            assert self._file is not None
            _write(self._file, raw, self._size)
            if sync:
                os.fsync(self._file.fileno())
        self._state.update(raw)
        self._size += len(raw)

    def has(self, charge: Charge) -> bool:
        """Return whether these messages were charged before."""
        return (charge.value, charge.key) in self._keys

    def charge(self, *charges: Charge) -> None:
        """Write charges, those that are there already left out; they are on the disk when this returns."""
        by_key = {(charge.value, charge.key): charge for charge in charges}
        fresh = [charge for charge in by_key.values() if not self.has(charge)]
        for charge in fresh:
            plain = {k: v for k, v in vars(charge).items() if v not in (None, "", 0.0) or k in ("round", "attempt")}
            self._append(plain, sync=charge is fresh[-1])
            self.charges.append(charge)
            self._keys.add((charge.value, charge.key))

    def known_step(self, key: str, step: int) -> str | None:
        """Return the hash at a step of the messages of this key; None for a step that has not been reached."""
        return self._steps.get((key, step))

    def step(self, key: str, step: int, at: str, sent: Mapping[str, tuple[int, int]]) -> None:
        """Note that a step begins, with bytes and messages by kind of value since the note before."""
        self._steps[key, step] = at
        self._append({"step": step, "key": key, "at": at, "sent": {k: list(v) for k, v in sent.items()}}, sync=False)

    def sent(self, key: str, sent: Mapping[str, tuple[int, int]]) -> None:
        """Note bytes and messages by kind of value since the note before."""
        if sent:
            self.step(key, -1, "", sent)

    # -- what a checkpoint keeps ---------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Return how far the ledger is written now."""
        return Mark(size=self._size, digest=self._state.hexdigest())

    def require_since(self, mark: Mark) -> None:
        """Raise `LedgerRefused` where the ledger is shorter than it was, or begins otherwise."""
        if self.path is None:
            return
        way_out = "put the file back; what has left an owner cannot be taken back"
        content = self.path.read_bytes() if self.path.exists() else b""
        if len(content) < mark.size:
            raise LedgerRefused(
                f"the ledger {self.path} of {self.owner} has {len(content)} bytes and had {mark.size} when the "
                f"checkpoint was written; {way_out}"
            )
        if hashlib.blake2b(content[: mark.size], digest_size=16).hexdigest() != mark.digest:
            raise LedgerRefused(
                f"the ledger {self.path} of {self.owner} was changed since the checkpoint was written; {way_out}"
            )

    def close(self) -> None:
        """Close the file and let others write to it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()  # before the release, as that of a run folder
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_OPEN: dict[Path, Ledger] = {}
"""The ledgers of this process by file: an owner that is made again goes on with its own."""


def opened(owner: str, samples: int, path: Path | None) -> Ledger:
    """Return the ledger of an owner, open for writing."""
    if path is None:
        return Ledger(owner, samples)
    path = path.absolute()
    found = _OPEN.get(path)
    if found is None or not path.exists() or found.owner != owner:
        if found is not None:
            found.close()
        found = _OPEN[path] = Ledger(owner, samples, path)
    return found


def let_go(folder: str | None) -> None:
    """Close the ledgers in a folder that this process has open, so that others may go on with them."""
    for path in [path for path in _OPEN if folder is not None and path.parent == Path(folder).absolute()]:
        _OPEN.pop(path).close()


def _write(file: BinaryIO, raw: bytes, size: int) -> None:
    """Append a line to a file of ``size`` bytes, whole or, where the disk is full, not at all."""
    rest = memoryview(raw)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


def path_in(folder: Path, owner: str) -> Path:
    """Return the file of an owner's ledger in a folder."""
    return folder / f"{owner}{SUFFIX}"
