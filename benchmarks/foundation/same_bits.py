"""Whether this tree trains to the same bits as an older commit: every example and every algorithm, run on both.

The base commit is checked out as a `git worktree` in a temporary folder. Every case of `same_bits.yaml` then runs on
both trees with the command line, each in a process of its own, from the same configuration, and the two run folders are
compared: weights bit by bit, metrics, traffic, tables, summary and settings, all but times. Printed is a line per case;
the exit code is 1 where a case differs. Both trees run with the packages of the Python that runs this script.

    python benchmarks/foundation/same_bits.py --base 9a017e6 [--cases "mpsl*,example-*"] [--jobs 2]
        [--base-runs FOLDER]     keep the base's runs there, and take them from there the next time
        [--keep FOLDER]          keep all runs there, to look into a difference
        [--list]                 print the cases

Data that no machine has by itself are drawn: a small dSprites file, and profiles with invented times.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from run_differences import differences, tree_differences, without_times

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CASES = HERE / "same_bits.yaml"
SIMULATED = "simulated.json"
LONGEST_S = 300
MOST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run, as the command line takes it.

    Attributes:
        config: the whole configuration, or None for an example.
        example: the file of ``examples/`` of each tree, or None.
        overrides: ``section.key=value``.
        verb: ``train`` or ``simulate``.
    """

    name: str
    config: Mapping[str, Any] | None
    example: str | None
    overrides: tuple[str, ...]
    verb: str

    def digest(self) -> str:
        """Of all that decides what the case does, beside the tree and the packages."""
        nets = (HERE / "same_bits_nets.py").read_text(encoding="utf-8")
        text = json.dumps([self.config, self.example, self.overrides, self.verb, nets])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_cases(text: str) -> list[Case]:
    """The cases of a YAML text. A section of a case that has a name replaces the base's; another changes keys of it."""
    tree = yaml.safe_load(text)
    return [
        Case(
            name=name,
            config=_merged(tree["bases"][case["base"]], case.get("config", {})) if "base" in case else None,
            example=case.get("example"),
            overrides=tuple(case.get("set", ())),
            verb=case.get("verb", "train"),
        )
        for name, case in tree["cases"].items()
    ]


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for section, values in changes.items():
        replaced = section not in base or "name" in values or "kind" in values
        found[section] = values if replaced else {**base[section], **values}
    return found


class Tree:
    """A checked-out commit, and the folder in which its cases run."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.work = work
        draw_data(work)
        imported = self._python(["-c", "import raysplit; print(raysplit.__file__)"])
        if not Path(imported.stdout.strip()).is_relative_to(root):
            raise SystemExit(f"{root} should be tried, and Python imports {imported.stdout or imported.stderr}")

    def run(self, case: Case) -> str | None:
        """Run a case; its folder is ``runs/NAME`` of the working folder. What went wrong, or None."""
        folder = self.work / "runs" / case.name
        config = self.root / "examples" / case.example if case.example else self.work / f"{case.name}.yaml"
        if case.config is not None:
            config.write_text(yaml.safe_dump(dict(case.config)), encoding="utf-8")
        if not config.exists():
            return f"there is no {case.example}"
        command = ["-m", "raysplit", case.verb, str(config)]
        command += [part for override in case.overrides for part in ("--set", override)]
        command += (
            ["--json"] if case.verb == "simulate" else ["--quiet", "--name", case.name, "--set", "output.root=runs"]
        )
        try:
            ended = self._python(command)
        except subprocess.TimeoutExpired:
            return f"not done after {LONGEST_S} s"
        if ended.returncode != 0:
            lines = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
            return f"exit code {ended.returncode}: {lines[-1] if lines else 'no output'}"
        if case.verb == "simulate":
            folder.mkdir(parents=True)
            (folder / SIMULATED).write_text(ended.stdout, encoding="utf-8")
        return None

    def _python(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        environment |= {"PYTHONPATH": f"{self.root}{os.pathsep}{HERE}", "COLUMNS": "500"}  # an error is one line
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
        )


def draw_data(folder: Path) -> None:
    """What the examples read from files: 480 sprites, and profiles of `cnn8` and of a perceptron of four units."""
    draw = np.random.default_rng(0)
    count = 480
    latents = np.stack([np.zeros(count), *(np.arange(count) % n for n in (3, 6, 40, 32, 32))], axis=1).astype(np.int64)
    pictures = np.zeros((count, 64, 64), np.uint8)
    for picture, (_, shape, scale, *_rest) in zip(pictures, latents, strict=True):
        top, left = draw.integers(0, 24, 2)
        picture[top : top + 6 * (scale + 1), left : left + 8 * (shape + 1)] = 1
    (folder / "data").mkdir(parents=True)
    np.savez_compressed(folder / "data" / "dsprites.npz", imgs=pictures, latents_classes=latents)
    for name, units in (
        ("cnn8", ("conv1", "conv2", "hidden", "output")),
        ("mlp4", ("hidden1", "hidden2", "hidden3", "output")),
    ):
        rows = [
            {
                "model": name,
                "device": "invented",
                "batch_size": 32,
                "unit": unit,
                "forward_ms": 0.2 * (i + 1),
                "backward_ms": 0.3 * (4 - i),
                "update_ms": 0.05,
                "activation_bytes": 4096 >> i,
                "parameter_bytes": 512 << i,
            }
            for i, unit in enumerate(units)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def compared(case: Case, ours: Tree, base: Tree, base_runs: Path | None) -> list[str]:
    """Run a case on both trees; one line per difference."""
    wrong = _base_run(case, base, base_runs)
    if wrong == f"there is no {case.example}":
        return []  # an example that came later
    if wrong:
        return [f"the base cannot run it: {wrong}"]
    if wrong := ours.run(case):
        return [wrong]
    folders = [tree.work / "runs" / case.name for tree in (ours, base)]
    if case.verb == "simulate":
        found = [without_times(json.loads((folder / SIMULATED).read_text(encoding="utf-8"))) for folder in folders]
        return list(tree_differences(*found, "simulated"))
    return differences(*folders)


def _base_run(case: Case, base: Tree, kept: Path | None) -> str | None:
    if kept is None:
        return base.run(case)
    folder, before = base.work / "runs" / case.name, kept / f"{case.name}-{case.digest()}"
    if before.exists():
        shutil.copytree(before, folder)
        return None
    if wrong := base.run(case):
        return wrong
    shutil.copytree(folder, before.with_suffix(".part"))
    before.with_suffix(".part").rename(before)
    return None


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The commit checked out in a folder, for as long as the context lasts."""
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "--detach", "--quiet", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(folder)], check=True)


def chosen(cases: list[Case], patterns: str) -> list[Case]:
    """The cases whose names fit one of the patterns, which commas separate."""
    found = [case for case in cases if any(fnmatch.fnmatchcase(case.name, p.strip()) for p in patterns.split(","))]
    if not found:
        raise SystemExit(f"no case fits {patterns!r}; --list prints their names")
    return found


def told(name: str, found: list[str]) -> str:
    """A case and its first differences, one to a line."""
    lines = found[:MOST_LINES] or ["same"]
    lines += [f"and {len(found) - MOST_LINES} more"] if len(found) > MOST_LINES else []
    return "\n".join(f"{label:<28} {line}" for label, line in zip([name] + [""] * MOST_LINES, lines, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="9a017e6", metavar="COMMIT", help="compare with this commit")
    parser.add_argument("--cases", default="*", metavar="PATTERNS", help='which cases, such as "mpsl*,example-*"')
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases that run at the same time")
    parser.add_argument(
        "--base-runs", type=Path, metavar="FOLDER", help="where the base's runs are kept for the next time"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs of both trees there")
    parser.add_argument("--list", action="store_true", help="print the cases and do nothing else")
    given = parser.parse_args()
    cases = chosen(read_cases(CASES.read_text(encoding="utf-8")), given.cases)
    if given.list:
        print("\n".join(case.name for case in cases))
        return
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short=12", f"{given.base}^{{commit}}"], capture_output=True, text=True
    )
    if commit.returncode != 0:
        raise SystemExit(f"there is no commit {given.base!r} in this repository")
    short = commit.stdout.strip()
    base_runs = given.base_runs.resolve() / short if given.base_runs else None
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.keep or Path(temporary)).resolve()
        if given.keep and work.exists() and any(work.iterdir()):
            raise SystemExit("--keep takes a folder that is empty or does not exist")
        with worktree(short, Path(temporary) / "tree") as checked_out, ThreadPoolExecutor(given.jobs) as pool:
            ours, base = Tree(ROOT, work / "ours"), Tree(checked_out, work / "base")
            waiting = [(case, pool.submit(compared, case, ours, base, base_runs)) for case in cases]
            num_other = 0
            for case, future in waiting:
                found = future.result()
                num_other += bool(found)
                print(told(case.name, found), flush=True)
    took = time.perf_counter() - started
    print(f"{len(cases) - num_other} of {len(cases)} cases have the bits of {short} ({took:.0f} s)")
    raise SystemExit(1 if num_other else 0)


if __name__ == "__main__":
    main()
