"""Plans under a budget of leakage, and what the same attack then gets.

    python benchmarks/privacy/budget.py --attacks leakage.jsonl --output budget.jsonl
    python benchmarks/privacy/budget.py --attacks leakage.jsonl --output budget.jsonl --report
    python benchmarks/privacy/budget.py --attacks leakage.jsonl --output budget.jsonl --data CIFAR10 --root DATA

Each line is a plan of ``raysplit plan --max-leak``, from a profile of ``raysplit profile --leak`` at initial weights,
which is what a user has before any training. Owners are 16 times slower than the node, so that without a budget the
earliest cut is the fastest. The attack is that of ``leakage.py`` at the plan's first cut, on trained weights: a decoder
of the present weights, the same for all plans.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from leakage import SPLIT, arguments, read, settings

BUDGETS = (1.0, 0.9, 0.7, 0.5)
PARTIES = ["--owner-memory", "1GiB", "--owner-slowdown", "16", "--owners", "2", "--node", "4GiB:1", "--links", "1Gbit"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of raysplit."""
    return subprocess.run([sys.executable, "-m", "raysplit", *words], capture_output=True, text=True, check=False)


def plans(data: str, seed: int, root: str | None) -> list[dict[str, Any]]:
    """The plan under each budget, or why there is none."""
    with TemporaryDirectory() as folder:
        config, profile = Path(folder, "run.yaml"), Path(folder, "profile.parquet")
        config.write_text(yaml.safe_dump(settings(data, seed, root, json.loads(SPLIT))))
        command("profile", str(config), "--leak", str(config), "--output", str(profile)).check_returncode()
        rows = []
        for budget in BUDGETS:
            done = command("plan", "--profile", str(profile), *PARTIES, "--max-leak", str(budget), "--json")
            found = json.loads(done.stdout) if done.returncode == 0 else {}
            row = (
                {"cut": found["cuts"][0], "round_ms": found["round_ms"]} if found else {"refused": done.stderr.strip()}
            )
            rows.append({"data": data, "seed": seed, "max_leak": budget, **row})
        return rows


def report(rows: list[dict[str, Any]], attacks: list[dict[str, Any]]) -> str:
    """A Markdown table: medians over seeds."""
    got = {(line["key"], line["seed"]): line["rows"][0] for line in attacks}
    text = ["| data, limit | first cut | round x | decoder's ssim (chance) | nmse |", "|---|---|---|---|---|"]
    for data, budget in dict.fromkeys((row["data"], row["max_leak"]) for row in rows):
        same = [row for row in rows if (row["data"], row["max_leak"]) == (data, budget)]
        free = {row["seed"]: row for row in rows if row["data"] == data and row["max_leak"] == 1}
        found = [row for row in same if "cut" in row and (f"order {data} {row['cut']}", row["seed"]) in got]
        if not found:
            text.append(f"| {data}, {budget:g} | refused | | | |")
            continue
        reached = [got[f"order {data} {row['cut']}", row["seed"]] for row in found]
        slower = median(row["round_ms"] / free[row["seed"]]["round_ms"] for row in found)
        cuts = ", ".join(map(str, sorted({row["cut"] for row in found})))
        ssim, chance, nmse = (median(a[name] for a in reached) for name in ("ssim", "ssim_chance", "nmse"))
        text.append(f"| {data}, {budget:g} | {cuts} | {slower:.2f} | {ssim:.3f} ({chance:.3f}) | {nmse:.3f} |")
    return "\n".join(text)


def main() -> None:
    """Plan what is missing, or print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--attacks", type=Path, required=True, help="Lines of leakage.py.")
    given = parser.parse_args()
    if given.report:
        print(report(read(given.output), read(given.attacks)))
        return
    done = {(row["data"], row["seed"]) for row in read(given.output)}
    for seed in given.seeds:
        for data in given.data:
            if (data, seed) not in done:
                rows = plans(data, seed, given.root)
                with given.output.open("a") as file:
                    file.write("".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
