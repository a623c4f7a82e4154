"""Tables in Markdown out of what `accuracy.py` and `serving.py` have measured.

Beside the gains stand those of Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982), +0.17 to +80.22 points, and
beside the latencies its 87 %.

    python benchmarks/mtl_split/report.py --accuracy accuracy.jsonl --serving serving.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NUM_CLASSES = {
    "reduced": {"scale": 8, "shape": 4, "orientation": 5, "floor_hue": 4, "wall_hue": 4, "object_hue": 4},
    "full": {"scale": 8, "shape": 4, "orientation": 15, "floor_hue": 10, "wall_hue": 10, "object_hue": 10},
    "dsprites": {"scale": 6, "shape": 3},
}
"""Classes of each task of 3D Shapes by grid, and of dSprites."""
PAPER_GAINS = "+0.17 ... +80.22"


def accuracy_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean over the seeds (their range), single-task and multi-task, for cells of which all seeds have both."""
    found: dict[tuple[str, ...], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in by_validation(rows):
        kind = "multi" if len(row["tasks"]) > 1 else "single"
        for task, share in row["accuracy"].items():
            grid = row.get("grid", row["data"])
            found[row["data"], row["noise"], row["backbone"], grid, task][kind][row["seed"]] = 100 * share
    lines = [
        "| data | noise | backbone | task | chance | STL | MTL | gain, mean (each seed) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    gains = []
    for (data, noise, backbone, grid, task), of in sorted(found.items()):
        seeds = sorted(of["single"].keys() & of["multi"].keys())
        if not seeds:
            continue
        single, multi = ([of[kind][seed] for seed in seeds] for kind in ("single", "multi"))
        own = [b - a for a, b in zip(single, multi, strict=True)]
        gains += own
        each = ", ".join(f"{gain:+.1f}" for gain in own)
        lines.append(
            f"| {data} | {noise} | {backbone} | {task} | {100 / NUM_CLASSES[grid][task]:.1f} | {_spread(single)} | "
            f"{_spread(multi)} | {statistics.mean(own):+.1f} ({each}) |"
        )
    if gains:
        better = sum(gain > 0 for gain in gains)
        lines += [
            "",
            f"Gains of single runs from {min(gains):+.2f} to {max(gains):+.2f} points, {better} of {len(gains)} above "
            f"0; the paper reports {PAPER_GAINS}.",
        ]
    return "\n".join(lines)


def by_validation(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every network and seed, the rate of the lowest joint loss on validation pictures."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["data"], row["noise"], row["backbone"], row["seed"], row.get("grid"), tuple(row["tasks"]))
        if key not in best or row["val_loss"] < best[key]["val_loss"]:
            best[key] = row
    return list(best.values())


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} ... {max(values):.1f})"


def serving_tables(measured: dict[str, Any]) -> str:
    """Requests per second and latency on loopback, then the same with the bytes on slower links."""
    lines = [
        "| what is sent | heads | pictures | clients | requests/s | p50 ms | p99 ms | edge p50 | server p50 | "
        "up bytes | down bytes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in [*measured["rows"], *measured["emulated"]]:
        ms = [f"{1e3 * row[key]:.1f}" for key in ("p50_s", "p99_s", "edge_p50_s", "server_p50_s")]
        lines.append(
            f"| {row['sent']} | {row['heads']} | {row['pictures']} | {row['clients']} | {row['requests_per_s']:.1f} | "
            f"{' | '.join(ms)} | {row['up_bytes']:,} | {row['down_bytes']:,} |"
        )
    lines += ["", "| pictures | link | " + " | ".join(measured["ways"]) + " | split against float32 pictures |"]
    lines.append("|---" * (len(measured["ways"]) + 3) + "|")
    for row in measured["links"]:
        ms = [f"{1e3 * row['total_s'][way]:.1f} ms" for way in measured["ways"]]
        saved = 1 - row["total_s"]["features float32"] / row["total_s"]["pictures float32"]
        lines.append(f"| {row['pictures']} | {row['link']} | {' | '.join(ms)} | {100 * saved:+.1f} % less time |")
    lines += ["", "The paper reports 87 % less latency."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", type=Path)
    parser.add_argument("--serving", type=Path)
    options = parser.parse_args()
    if options.accuracy:
        print(accuracy_table([json.loads(line) for line in options.accuracy.read_text().splitlines()]))
    if options.serving:
        print(serving_tables(json.loads(options.serving.read_text())))


if __name__ == "__main__":
    main()
