"""Whose a run folder is, and what the configuration in somebody else's would import, run, read and write.

When a run begins, its ``environment.json`` gets a mark: a keyed hash of ``config.yaml``, with a key that only this user
can read. A folder with a right mark was written by this user, and its configuration has not been changed since.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysplit.given import is_given
from raysplit.paths import FILE_SUFFIXES, own_folder
from raysplit.registry import one_line
from raysplit.runs.records.damaged import bytes_of
from raysplit.runs.records.files import CONFIG
from raysplit.runs.records.read import read_environment, read_settings

logger = logging.getLogger(__name__)

MARK = "mark"
"""Key of the mark in ``environment.json``."""

_IMPORT_PATH = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_KEY_BYTES = 32


class NotTrusted(ValueError):
    """Exception for a run folder that names code or places, and that this user has not written."""


@dataclass(frozen=True)
class Effects:
    """What a configuration has an effect on beyond its run folder, each line with the setting and its value.

    Attributes:
        imports: code that is imported and run.
        writes: places that are written to, or that code and data are sent to.
        reads: places that are read.
    """

    imports: tuple[str, ...]
    writes: tuple[str, ...]
    reads: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"  {line}" for line in (*self.imports, *self.writes, *self.reads))


def mark_of(folder: Path) -> str | None:
    """Return the mark of the configuration in a run folder; None where this user's key cannot be read or made."""
    try:
        key = _key()
    except (OSError, ValueError) as error:
        logger.info("the run folder gets no mark of its writer: %s", error)
        return None
    return hmac.new(key, bytes_of(folder / CONFIG), hashlib.sha256).hexdigest()


def is_own(folder: Path) -> bool:
    """Return whether this user has written the configuration in a run folder. Raises `Damaged`."""
    found, wanted = read_environment(folder).get(MARK), mark_of(folder)
    return wanted is not None and isinstance(found, str) and hmac.compare_digest(found.encode(), wanted.encode())


def effects_of(settings: Mapping[str, Any]) -> Effects:
    """Return what a configuration would import and run, and which places it would use; nothing is imported."""
    texts = {key: text if text.isprintable() else repr(text) for key, text in _texts(settings)}
    imports = [f"imports and runs {value}  ({key})" for key, value in texts.items() if _IMPORT_PATH.fullmatch(value)]
    downloads = bool((settings.get("data") or {}).get("download"))
    written = {
        "reliability.checkpoint_location": "writes, reads and deletes checkpoints in",
        "cluster.address": "sends code and data to",
        **({"data.root": "writes downloads to"} if downloads else {}),
    }
    own = [key for key in texts if key.startswith("data.by_owner.")]
    named = [key for key in ("data.name", *own) if key.endswith(".name") and texts.get(key, "").endswith(FILE_SUFFIXES)]
    read = dict.fromkeys(["data.root", *named, *(key for key in own if key.endswith(".root"))], "reads")
    writes, reads = (
        [f"{verb} {texts[key]}  ({key})" for key, verb in kinds.items() if key in texts] for kinds in (written, read)
    )
    return Effects(tuple(imports), (*writes, *_tracked(settings)), tuple(reads))


def _tracked(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield where trackers would send the metrics of a run, but for event files in its own folder."""
    output = settings.get("output")
    given = output.get("trackers") if isinstance(output, Mapping) else None
    for each in given if isinstance(given, list | tuple) else ():
        options = dict(each) if isinstance(each, Mapping) else {"name": each}
        name = options.pop("name", None)
        if options or name != "tensorboard":
            where = f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else ""
            yield f"sends settings and metrics to {one_line(f'{name}{where}')}  (output.trackers)"


def require_own(folder: Path, what: str) -> None:
    """Raise `NotTrusted` unless this user wrote the run folder, or its configuration has no effect beyond the folder.

    Args:
        folder: the run folder.
        what: what is about to be done, such as ``resume``.
    """
    effects = effects_of(read_settings(folder))
    if (effects.imports or effects.writes) and not is_own(folder):
        raise NotTrusted(
            f"{folder} was not written by this user on this machine, or its {CONFIG} has been changed; {what} would "
            f"do this:\n{effects}\nif you trust whoever wrote it, say so: --trust, or trust=True in Python"
        )


def _texts(tree: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        if not is_given(tree):
            yield where, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, f"{where}.{key}".strip("."))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _texts(value, f"{where}.{index}")


def _key() -> bytes:
    path = own_folder("keys") / "runs"
    while True:
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            _make_key(path)
            continue
        if len(key) != _KEY_BYTES:
            raise ValueError(f"{path} is not a key: it has {len(key)} bytes; remove it, and a new one is made")
        return key


def _make_key(path: Path) -> None:
    """Write a new key, which is whole when it has its name; another process may have been faster."""
    aside = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    aside.touch(mode=0o600)
    try:
        aside.write_bytes(secrets.token_bytes(_KEY_BYTES))
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
