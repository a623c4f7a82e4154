"""What two run folders differ in: weights bit by bit, metrics, traffic, tables, summary and settings, without times.

Used by `same_bits.py`. Nothing of raysplit is imported, so that folders of any two versions can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml
from torch import Tensor

TIMES = {
    "seconds",
    "train_seconds_total",
    "samples_per_s",
    "encode_s",
    "decode_s",
    "took_s",
    "device_s",
    "training_s",
    "affinity_s",
    "joules",
    "spent",
}
"""Columns and keys that hold measured time, or what is computed from it, at any depth."""

TIMED_TABLES = {"metrics.parquet", "timeline.parquet"}
"""Tables that repeat `metrics.jsonl` or hold nothing but times."""


def differences(ours: Path, base: Path) -> list[str]:
    """One line for each thing in which the run folder `ours` differs from `base`; empty where they are the same."""
    return [
        *_files(ours, base),
        *_models(ours, base),
        *_metrics(ours, base),
        *_tables(ours, base),
        *_records(ours, base),
    ]


def _files(ours: Path, base: Path) -> Iterator[str]:
    names = [{entry.name for entry in folder.iterdir()} for folder in (ours, base)]
    yield from (f"{name} is missing" for name in sorted(names[1] - names[0]))
    yield from (f"{name} is new" for name in sorted(names[0] - names[1]))


def _models(ours: Path, base: Path) -> Iterator[str]:
    for name in _both(ours, base, "*.pt"):
        yield from model_differences(*(torch.load(f / name, map_location="cpu") for f in (ours, base)), name)


def model_differences(ours: Mapping[str, Any], base: Mapping[str, Any], name: str) -> Iterator[str]:
    """Tensor by tensor, in state dicts by owner or group as well."""
    yield from _keys(ours, base, name)
    for key in ours.keys() & base.keys():
        if isinstance(ours[key], Mapping) and isinstance(base[key], Mapping):
            yield from model_differences(ours[key], base[key], f"{name} {key}")
        elif not same_tensor(ours[key], base[key]):
            yield f"{name} {key}: {_tensors_text(ours[key], base[key])}"


def same_tensor(ours: Tensor, base: Tensor) -> bool:
    """Same type, shape and bits: -0.0 is not 0.0, and a NaN is itself."""
    if ours.dtype != base.dtype or ours.shape != base.shape:
        return False
    return torch.equal(*(t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (ours, base)))


def _tensors_text(ours: Tensor, base: Tensor) -> str:
    if ours.dtype != base.dtype or ours.shape != base.shape:
        return f"{ours.dtype} {tuple(ours.shape)} instead of {base.dtype} {tuple(base.shape)}"
    return f"off by up to {float((ours.double() - base.double()).abs().max()):.2g}"


def _metrics(ours: Path, base: Path) -> Iterator[str]:
    rows = [_json_lines(folder / "metrics.jsonl") for folder in (ours, base)]
    if len(rows[0]) != len(rows[1]):
        yield f"metrics: {len(rows[0])} rounds instead of {len(rows[1])}"
    columns = [dict.fromkeys(key for row in side for key in row) for side in rows]
    yield from _keys(*columns, "metrics")
    for column in columns[0].keys() & columns[1].keys() - TIMES:
        for number, row in enumerate(zip(*rows, strict=False), start=1):
            values = [without_times(side.get(column)) for side in row]
            if _text(values[0]) != _text(values[1]):
                yield f"metrics {column}: {_text(values[0])} instead of {_text(values[1])} in round {number}"
                break


def _tables(ours: Path, base: Path) -> Iterator[str]:
    for name in _both(ours, base, "*.parquet"):
        tables = [pq.read_table(folder / name) for folder in (ours, base)]
        yield from _keys(*(dict.fromkeys(table.column_names) for table in tables), name)
        if name == "traffic.parquet":
            yield from traffic_differences(*(links(table.to_pylist()) for table in tables))
        elif name not in TIMED_TABLES:
            rows = [[without_times(row) for row in table.to_pylist()] for table in tables]
            if _text(rows[0]) != _text(rows[1]):
                yield f"{name}: other rows"


def links(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Bytes and messages by source and destination."""
    return {(row["source"], row["destination"]): (row["num_bytes"], row["num_messages"]) for row in rows}


def traffic_differences(
    ours: Mapping[tuple[str, str], tuple[int, int]], base: Mapping[tuple[str, str], tuple[int, int]]
) -> Iterator[str]:
    for link in sorted(ours.keys() | base.keys()):
        found, expected = ours.get(link, (0, 0)), base.get(link, (0, 0))
        if found != expected:
            text = "{} bytes in {} messages instead of {} in {}".format(*found, *expected)
            yield f"traffic {link[0]} -> {link[1]}: {text}"


def _records(ours: Path, base: Path) -> Iterator[str]:
    """The summary, the versions of the packages, and the settings that the base has, too."""
    summaries = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (ours, base)]
    yield from tree_differences(*map(without_times, summaries), "summary")
    packages = [json.loads((f / "environment.json").read_text(encoding="utf-8"))["packages"] for f in (ours, base)]
    yield from tree_differences(*packages, "packages")
    settings = [yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) for folder in (ours, base)]
    yield from tree_differences(*settings, "config", new_keys=True)


def tree_differences(ours: Any, base: Any, name: str, *, new_keys: bool = False) -> Iterator[str]:
    """In nested mappings; `new_keys` are allowed where settings may come."""
    if isinstance(ours, Mapping) and isinstance(base, Mapping):
        yield from _keys(ours, {**dict.fromkeys(ours), **base} if new_keys else base, name)
        for key in [key for key in base if key in ours]:
            yield from tree_differences(ours[key], base[key], f"{name} {key}", new_keys=new_keys)
    elif _text(ours) != _text(base):
        yield f"{name}: {_text(ours)} instead of {_text(base)}"


def without_times(value: Any) -> Any:
    """The value without the keys of `TIMES`, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def _keys(ours: Mapping[str, Any], base: Mapping[str, Any], name: str) -> Iterator[str]:
    yield from (f"{name}: {key} is missing" for key in base if key not in ours)
    yield from (f"{name}: {key} is new" for key in ours if key not in base)


def _both(ours: Path, base: Path, pattern: str) -> list[str]:
    return sorted({path.name for path in ours.glob(pattern)} & {path.name for path in base.glob(pattern)})


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _text(value: Any) -> str:
    """Exact: every float has one shortest text, and NaN equals itself in it."""
    return json.dumps(value, default=str)
