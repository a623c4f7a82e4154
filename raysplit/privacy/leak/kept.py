"""The files of a measurement, in the folder ``leak`` of a run: each finished attack is kept, so that a measurement that
was cut short goes on."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raysplit.disk import written
from raysplit.privacy.leak.outcome import Outcome

FOLDER = "leak"
_ABOUT = "about"


def key_of(settings: Mapping[str, Any], *contents: bytes) -> str:
    """Return a key that is another one for other settings, or for another model or configuration."""
    text = json.dumps(settings, sort_keys=True, default=str).encode()
    return hashlib.blake2b(b"\x1f".join([text, *contents]), digest_size=12).hexdigest()


class KeptOutcomes:
    """The outcomes of a measurement in a folder.

    Args:
        folder: of the measurement.
        key: of its settings; outcomes of other settings are measured anew.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key

    def load(self, slug: str) -> list[Outcome] | None:
        """Return the outcomes of an attack that has run to its end; None where it has not."""
        path = self._path(slug)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
                about = json.loads(str(held[_ABOUT]))
                if about["key"] != self._key:
                    return None
                return [_outcome(held, number, row) for number, row in enumerate(about["rows"])]
        except (OSError, ValueError, KeyError):  # damaged: it is measured again
            return None

    def save(self, slug: str, outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes of an attack."""
        arrays: dict[str, Any] = {_ABOUT: json.dumps({"key": self._key, "rows": [dict(o.row) for o in outcomes]})}
        for number, outcome in enumerate(outcomes):
            arrays |= {f"{number}/column/{name}": column for name, column in outcome.samples.items()}
            if outcome.shown is not None and outcome.original is not None:
                arrays[f"{number}/shown"] = outcome.shown.numpy()
                arrays[f"{number}/original"] = outcome.original.numpy()
        self._path(slug).parent.mkdir(parents=True, exist_ok=True)
        with written(self._path(slug)) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)

    def _path(self, slug: str) -> Path:
        return self.folder / "attacks" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', slug)}.npz"


def _outcome(held: Any, number: int, row: Mapping[str, Any]) -> Outcome:
    start = f"{number}/column/"
    columns = {name.removeprefix(start): held[name] for name in held.files if name.startswith(start)}
    shown = torch.from_numpy(held[f"{number}/shown"]) if f"{number}/shown" in held.files else None
    original = torch.from_numpy(held[f"{number}/original"]) if f"{number}/original" in held.files else None
    return Outcome(row=row, samples=columns, shown=shown, original=original)


def write_files(folder: Path, page: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write ``leak.json`` and ``samples.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / "leak.json") as aside:
        aside.write_text(json.dumps(page, indent=2) + "\n", encoding="utf-8")
    with written(folder / "samples.parquet") as aside:
        pq.write_table(samples_table(outcomes), aside)


def samples_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """Return a table with a row for each attacked sample and attack; what an attack does not have is null."""
    columns = {
        "ssim": pa.float64(),
        "psnr": pa.float64(),
        "mse": pa.float64(),
        "label": pa.int64(),
        "guess": pa.int64(),
    }
    tables = []
    for outcome in outcomes:
        count = max(map(len, outcome.samples.values()), default=0)
        about = {key: str(outcome.row.get(key)) for key in ("name", "cut", "knows", "round")}
        fixed = {
            "row": pa.array(range(count), pa.int64()),
            **{
                "attack" if key == "name" else key: pa.array([value] * count, pa.string())
                for key, value in about.items()
            },
        }
        own = {
            name: pa.array(outcome.samples[name], kind) if name in outcome.samples else pa.nulls(count, kind)
            for name, kind in columns.items()
        }
        tables.append(pa.table({**fixed, **own}))
    return pa.concat_tables(tables) if tables else pa.table({"row": pa.array([], pa.int64())})
