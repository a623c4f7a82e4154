"""Checkpoints: what a run goes on from, in files that are whole or refused.

A file is a line of text, the SHA-256 of the rest, and the rest as `torch.save` writes it. It is written aside and then
renamed, so a name stands for a whole file; the sum finds out what changed afterwards. Nothing but tensors and plain
values is ever loaded. Folders are those of `pyarrow.fs`: a local path, ``s3://bucket/folder`` or ``gs://bucket/folder``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs

from raysplit.cluster.contract import LinkTraffic
from raysplit.runs.folder import Row
from raysplit.runs.storage import opened

logger = logging.getLogger(__name__)

_HEADER = b"raysplit checkpoint 1\n"
_SUM_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"round-(\d+)\.ckpt")
_BEST = "best.ckpt"


class CheckpointRefused(ValueError):
    """A file is torn, changed, foreign, or of another run; the message has its name and the reason."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run after some rounds.

    Attributes:
        rounds: how many are done.
        fingerprint: of the settings that the numbers depend on.
        parties: what every party whose state outlives a round goes on from, by name.
        memory: what the algorithm's coordinator goes on from; files have it under this name.
        rows: the metrics of the rounds.
        traffic: what has crossed the links in them.
        attempts: how often the run has been set back.
        excluded: owners that take part no more.
        cohort: who took part in the last round.
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

    def encoded(self) -> bytes:
        """As a file has it."""
        links = [(t.source, t.destination, t.num_bytes, t.num_messages) for t in self.traffic]
        content = {field.name: getattr(self, field.name) for field in fields(self)} | {"traffic": links}
        body = io.BytesIO()
        torch.save(content, body)
        return _HEADER + hashlib.sha256(body.getbuffer()).digest() + body.getvalue()


def decoded(data: bytes, name: str) -> Checkpoint:
    """A checkpoint out of a file's bytes. Raises `CheckpointRefused` naming the file."""
    start = len(_HEADER) + _SUM_BYTES
    if data[: len(_HEADER)] != _HEADER:
        raise CheckpointRefused(f"{name} is no checkpoint of this version: it begins with {data[:16]!r}")
    if hashlib.sha256(data[start:]).digest() != data[len(_HEADER) : start]:
        raise CheckpointRefused(f"{name} is torn or changed: its {len(data)} bytes do not have the sum they were given")
    try:
        content = torch.load(io.BytesIO(data[start:]), map_location="cpu", weights_only=True)
        known = {field.name for field in fields(Checkpoint)}
        links = [
            LinkTraffic(source=source, destination=destination, num_bytes=size, num_messages=count)
            for source, destination, size, count in content["traffic"]
        ]
        return Checkpoint(**{key: content[key] for key in known} | {"traffic": links})
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointRefused(f"{name} holds something else than a checkpoint: {reason}") from error


class Checkpoints:
    """The checkpoints of one run in a folder.

    Args:
        location: a local path or a URI; made when the first checkpoint is saved.
        keep_last: so many of the newest stay; of older ones the best alone, as ``best.ckpt``.
    """

    def __init__(self, location: str | Path, *, keep_last: int = 2) -> None:
        self.location = str(location)
        self._keep_last = keep_last
        self._fs, self._folder = opened(self.location, "checkpoints")

    def save(self, checkpoint: Checkpoint, *, is_best: bool = False) -> None:
        """Write it; on return it is whole, and what need not stay is gone. Raises ``OSError`` with the place."""
        data = checkpoint.encoded()
        self._fs.create_dir(self._folder, recursive=True)
        for name in [f"round-{checkpoint.rounds:06d}.ckpt", *([_BEST] if is_best else [])]:
            self._write(name, data)
        for name in self.names()[self._keep_last :]:
            self._fs.delete_file(self._path(name))

    def names(self) -> list[str]:
        """The files of rounds, newest first."""
        entries = self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return sorted((entry.base_name for entry in entries if _NAME.fullmatch(entry.base_name)), reverse=True)

    def load(self, name: str) -> Checkpoint:
        """Raises `CheckpointRefused` for a file that is not whole."""
        with self._fs.open_input_stream(self._path(name)) as file:
            return decoded(file.read(), f"{self.location}/{name}")

    def newest(self, fingerprint: str) -> Checkpoint | None:
        """The newest good one of this run; a file that is refused is named in the log, and the one before is taken."""
        for name in self.names():
            try:
                found = self.load(name)
                if found.fingerprint != fingerprint:
                    raise CheckpointRefused(
                        f"{self.location}/{name} is of a run with other settings or another version"
                    )
            except CheckpointRefused as refused:
                logger.warning("%s; taking the one before", refused)
            else:
                return found
        return None

    def drop_after(self, rounds: int) -> None:
        """Remove what lies beyond a round that the run went back to."""
        for name in self.names():
            found = _NAME.fullmatch(name)
            if found and int(found[1]) > rounds:
                self._fs.delete_file(self._path(name))

    def _write(self, name: str, data: bytes) -> None:
        aside = self._path(f"{name}.part")
        with self._fs.open_output_stream(aside) as file:
            file.write(data)
        self._fs.move(aside, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"
