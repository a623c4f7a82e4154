"""Checkpoints of a run, in files that are either complete or refused.

A file is a line of text, the SHA-256 of the rest, and the rest as `torch.save` writes it. It is written under another
name and then renamed, so that a file with its final name is complete; the checksum detects later changes, and digests
in the content (`raysplit.training.recovery.digests`) those that were written with a right checksum. Only tensors and
plain values are loaded. The folder is a local path or a URI of `pyarrow.fs`, such as ``s3://bucket/folder``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pyarrow import fs

from raysplit.cluster.contract import LinkTraffic
from raysplit.disk import PART, TRY_AGAIN, told_where
from raysplit.paths import is_uri
from raysplit.plain_yaml import flat
from raysplit.runs.records.read import Row
from raysplit.runs.storage import below, opened
from raysplit.training.recovery.content import checked_content

logger = logging.getLogger(__name__)

_HEADER = b"raysplit checkpoint 2\n"
_WITHOUT_DIGESTS = b"raysplit checkpoint 1\n"  # of versions before 0.2.0
_SUM_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"round-(\d+)\.ckpt")
_BEST = "best.ckpt"
_MAX_SHOWN = 5  # settings that differ


class CheckpointRefused(ValueError):
    """Exception for a file that is torn, changed, not a checkpoint, or of another run."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of a run after some rounds.

    Attributes:
        rounds: the number of finished rounds.
        fingerprint: a digest of the settings that the numbers depend on.
        parties: the state of every party whose state lasts longer than a round, by name.
        memory: the state of the algorithm's coordinator; the name is that of the key in files.
        rows: the metrics of the rounds.
        traffic: the traffic of the rounds.
        attempts: the number of times that the run has gone back to a checkpoint.
        excluded: the owners that no longer take part.
        cohort: the owners of the last round.
        settings: the settings that the numbers depend on; empty in files of versions before 0.2.0.
        base: the digest of the frozen weights, which are not in the file, and the path of those that were read; empty
            where all weights are trained.
    """

    rounds: int
    fingerprint: str
    parties: Mapping[str, Any]
    memory: Mapping[str, Any]
    rows: Sequence[Row]
    traffic: Sequence[LinkTraffic] = ()
    attempts: int = 0
    excluded: Sequence[str] = ()
    cohort: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Encode the checkpoint as the content of a file."""
        links = [
            (t.source, t.destination, t.num_bytes, t.num_messages, [tuple(kind) for kind in t.kinds])
            for t in self.traffic
        ]
        content = {each.name: getattr(self, each.name) for each in fields(self)} | {"traffic": links}
        import torch  # imported late: whether a file is whole can be seen without it

        from raysplit.training.recovery.digests import DIGESTS, digests_of

        body = io.BytesIO()
        torch.save(content | {DIGESTS: digests_of(content)}, body)
        return _HEADER + hashlib.sha256(body.getbuffer()).digest() + body.getvalue()


def decoded(data: bytes, name: str) -> Checkpoint:
    """Decode the content of a file. Raises `CheckpointRefused`, with the name of the file."""
    import torch

    from raysplit.training.recovery.digests import require_as_written

    start = _require_whole(data, name)
    try:
        content = torch.load(io.BytesIO(data[start:]), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling has errors of any kind for bytes that anybody wrote
        raise CheckpointRefused(f"{name} does not contain a checkpoint: {_first_line(error)}") from error
    try:
        require_as_written(content, may_lack_digests=data.startswith(_WITHOUT_DIGESTS))
        return Checkpoint(**checked_content(content))
    except ValueError as error:
        raise CheckpointRefused(f"{name} does not contain a checkpoint: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _other_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which settings a checkpoint is of another run."""
    if not before:
        return "was written with other settings, or by another version, and does not say which settings it had"
    old, new = dict(flat(before)), dict(flat(now))
    missing = object()
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key, missing) != new.get(key, missing)]
    shown = [f"{key} {old.get(key, 'not set')}, which is {new.get(key, 'not set')} now" for key in keys[:_MAX_SHOWN]]
    more = f" and {len(keys) - _MAX_SHOWN} more settings that differ" if len(keys) > _MAX_SHOWN else ""
    return f"was written with {'; '.join(shown)}{more}"


def _require_whole(data: bytes, name: str) -> int:
    """Return where the state begins in the content of a file. Raises `CheckpointRefused` for a torn or changed one."""
    start = len(_HEADER) + _SUM_BYTES
    if data[: len(_HEADER)] not in (_HEADER, _WITHOUT_DIGESTS):
        raise CheckpointRefused(f"{name} is not a checkpoint of this version: it begins with {data[:16]!r}")
    if hashlib.sha256(data[start:]).digest() != data[len(_HEADER) : start]:
        raise CheckpointRefused(f"{name} is torn or changed: its {len(data)} bytes do not match their checksum")
    return start


def location_of(elsewhere: str | None, folder: Path) -> str | Path:
    """Return where the checkpoints of the run in a folder are; ``elsewhere`` is that of its settings."""
    return below(elsewhere, folder.name) if elsewhere else folder / "checkpoints"


class Checkpoints:
    """The checkpoints of a run in a folder.

    Args:
        location: a local path or a URI; it is created when the first checkpoint is saved.
        keep_last: the number of newest checkpoints to keep, beside the best one in ``best.ckpt``.
        advice: what to do where the disk does not take a checkpoint.
    """

    def __init__(self, location: str | Path, *, keep_last: int = 2, advice: str = TRY_AGAIN) -> None:
        self.location = str(location)
        self._advice = advice
        self._keep_last = keep_last
        self._fs, self._folder = opened(self.location, "checkpoints")

    def save(self, checkpoint: Checkpoint, *, is_best: bool = False) -> None:
        """Write a checkpoint and delete those no longer kept. Raises ``OSError``, of a local disk `NotWritten`."""
        data = checkpoint.encoded()
        with self._told_where(""):
            self._fs.create_dir(self._folder, recursive=True)
        for name in [f"round-{checkpoint.rounds:06d}.ckpt", *([_BEST] if is_best else [])]:
            self._write(name, data)
        for name in self.names()[self._keep_last :]:
            self._fs.delete_file(self._path(name))

    def names(self) -> list[str]:
        """List the files of rounds, newest first."""
        return sorted((name for name in self._names() if _NAME.fullmatch(name)), reverse=True)

    def _names(self) -> list[str]:
        entries = self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return [entry.base_name for entry in entries]

    def load(self, name: str) -> Checkpoint:
        """Read a checkpoint. Raises `CheckpointRefused` for a file that is not valid."""
        found = decoded(self._read(name), f"{self.location}/{name}")
        number = _NAME.fullmatch(name)
        if number and int(number[1]) != found.rounds:
            raise CheckpointRefused(f"{self.location}/{name} is of {found.rounds} rounds, as its name is not")
        return found

    def require_whole(self, name: str) -> int:
        """Return after how many rounds a checkpoint was written. Raises `CheckpointRefused` for a torn or changed one.

        The state is not read, for which torch would be needed.
        """
        _require_whole(self._read(name), f"{self.location}/{name}")
        found = _NAME.fullmatch(name)
        assert found is not None, "names come from `names`"
        return int(found[1])

    def newest(self, fingerprint: str, settings: Mapping[str, Any]) -> Checkpoint | None:
        """Return the newest valid checkpoint of the run, or None where there is no file of one.

        Args:
            fingerprint: that of the run.
            settings: the settings of the run that its numbers depend on, for the message.

        Raises:
            CheckpointRefused: there are files, and none can be used; the message has the reason of each.
        """
        reasons: list[str] = []
        for name in self.names():
            try:
                found = self.load(name)
                if found.fingerprint != fingerprint:
                    raise CheckpointRefused(f"{self.location}/{name} {_other_settings(found.settings, settings)}")
            except CheckpointRefused as refused:
                reasons.append(str(refused))
            else:
                for reason in reasons:
                    logger.warning("%s; using the one before", reason)
                return found
        if reasons:
            raise CheckpointRefused("the run cannot go on from any of its checkpoints:\n  " + "\n  ".join(reasons))
        return None

    def tidy(self) -> None:
        """Delete what a process that was killed while it wrote has left."""
        for name in self._own():
            if name.endswith(PART):
                self._fs.delete_file(self._path(name))

    def clear(self) -> None:
        """Delete all checkpoints, which are of another run."""
        for name in self._own():
            self._fs.delete_file(self._path(name))

    def set_aside(self, folder: str) -> None:
        """Move all checkpoints into a folder of this name beside them."""
        own = self._own()
        if own:
            self._fs.create_dir(self._path(folder), recursive=True)
        for name in own:
            self._fs.move(self._path(name), self._path(f"{folder}/{name}"))

    def _own(self) -> list[str]:
        """List the files that `save` has written; others in the folder are somebody else's."""
        names = {name: name.removesuffix(PART) for name in self._names()}
        return [name for name, whole in names.items() if _NAME.fullmatch(whole) or whole == _BEST]

    def drop_after(self, rounds: int) -> None:
        """Delete the checkpoints of rounds after ``rounds``, which the run went back to."""
        for name in self.names():
            found = _NAME.fullmatch(name)
            if found and int(found[1]) > rounds:
                self._fs.delete_file(self._path(name))

    def _read(self, name: str) -> bytes:
        with self._fs.open_input_stream(self._path(name)) as file:
            content: bytes = file.read()
            return content

    def _write(self, name: str, data: bytes) -> None:
        aside = self._path(f"{name}{PART}")
        try:
            with self._told_where(name):
                with self._fs.open_output_stream(aside) as file:
                    file.write(data)
                self._fs.move(aside, self._path(name))
        except BaseException:
            with suppress(OSError):
                self._fs.delete_file(aside)
            raise

    def _told_where(self, name: str) -> AbstractContextManager[None]:
        """Return the context for writing a file; a store at a URI has errors of its own and no disk to make room on."""
        if is_uri(self.location):
            return nullcontext()
        return told_where(Path(self.location) / name, self._advice)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"
