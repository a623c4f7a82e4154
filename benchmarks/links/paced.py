"""Predicted and measured rounds over emulated links of 10 and 100 Mbit/s, with and without codecs.

    python benchmarks/links/paced.py --output paced.jsonl
    python benchmarks/links/paced.py --output paced.jsonl --report

First the model is profiled and its codecs are measured on this machine, which should do nothing else. Then each run is
paced (computing, coding and sending take the described time) and compared with its simulation. Started again, it goes
on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from raysplit.api import train_config
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.models.profiler import measure_profile
from raysplit.prediction.codecs.measure import measure_codecs

RATES_MBIT = (10, 100)
LINKS: dict[str, dict[str, Any]] = {
    "none": {},
    "float16": {"smashed": "float16", "gradients": "float16"},
    "int8": {"smashed": "int8", "gradients": "int8", "weights": "int8"},
    "int4 + zstd": {"smashed": ["int4", "zstd"], "gradients": ["int4", "zstd"], "weights": "float16"},
}
METHODS = ("splitfed_v2", "minibatch_sfl")


def settings(method: str, links: Any, topology: dict[str, Any] | None, rounds: int = 3) -> dict[str, Any]:
    """Four owners with a slowdown of 4, so that this machine keeps up with what is described."""
    tree: dict[str, Any] = {
        "model": {"name": "cnn8"},
        "data": {"name": "digits"},
        "partition": {"num_owners": 4},
        "algorithm": {"name": method, "cut": 1},
        "training": {"rounds": rounds, "batch_size": 32, "optimizer": {"lr": 0.1}},
        "cluster": {"kind": "local"},
        "links": links,
        "evaluation": {"every": rounds},
    }
    return tree | ({"topology": topology} if topology else {})


def prepared(folder: Path) -> tuple[str, str]:
    """Profile the model and measure its codecs, where that has not been done; the paths of the two files."""
    profile, codecs = folder / "profile.parquet", folder / "codecs.json"
    experiment = build(check_config(settings("splitfed_v2", LINKS["none"], None)))
    if not profile.exists():
        spec = experiment.setting.spec
        measured = measure_profile(spec.build(), name="cnn8", inputs=dict(spec.inputs), batch_size=32)
        measured.to_parquet(profile)
    if not codecs.exists():
        measure_codecs(experiment).write(codecs)
    return str(profile), str(codecs)


def topology(profile: str, codecs: str, mbit_per_s: float) -> dict[str, Any]:
    """Owners behind a link of this rate, and a server on a fast one."""
    owner = {"profile": profile, "slowdown": 4, "bandwidth_mbit_per_s": mbit_per_s, "latency_ms": 2}
    server = {"profile": profile, "slowdown": 4, "bandwidth_mbit_per_s": 10_000}
    devices = {"owner": owner, "server": server}
    return {"devices": devices, "owners": "owner", "nodes": ["server"], "aggregator": "server", "codecs": codecs}


def measure(
    method: str, name: str, links: dict[str, Any], described: dict[str, Any], *, rounds: int = 3
) -> dict[str, Any]:
    """Train one paced run on a described topology."""
    result = train_config(check_config(settings(method, links, described, rounds)))
    assert result.comparison is not None
    predicted_s, measured_s = result.comparison.round_s
    return {
        "method": method,
        "codec": name,
        "mbit_per_s": described["devices"]["owner"]["bandwidth_mbit_per_s"],
        "predicted_s": predicted_s,
        "measured_s": measured_s,
        "error": measured_s / predicted_s - 1,
        "bytes": sum(record.num_bytes for record in result.links),
        "pace": result.comparison.pace,
    }


def report(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of all runs."""
    text = ["| method | Mbit/s | codec | predicted s | measured s | error | KiB |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        text.append(
            f"| {row['method']} | {row['mbit_per_s']} | {row['codec']} | {row['predicted_s']:.3f} | "
            f"{row['measured_s']:.3f} | {row['error']:+.1%} | {row['bytes'] / 1024:,.0f} |"
        )
    return "\n".join(text)


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a run."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    done = {(row["method"], row["codec"], row["mbit_per_s"]) for row in read(given.output)}
    if not given.report:
        files = prepared(given.output.resolve().parent)
        for rate in RATES_MBIT:
            for method in METHODS:
                for name in LINKS:
                    if (method, name, rate) not in done:
                        append(given.output, measure(method, name, LINKS[name], topology(*files, rate)))
    print(report(read(given.output)))


if __name__ == "__main__":
    main()
