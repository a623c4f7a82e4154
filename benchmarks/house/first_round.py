"""Seconds from `pip install` of the wheel to the first trained round, for a new user without and then with a torch.

    make dist && python benchmarks/house/first_round.py dist/*.whl
    python benchmarks/house/first_round.py dist/*.whl --uv .venv/bin/uv

Makes an environment in a temporary folder, installs the wheel with pip and no cache, and trains one round on Ray, as
the first command of the page "Getting started" does. Then everything but torch and what torch needs is removed, and the
same is timed again. The packages come from the index that pip is set up with: most of the time is its network. With
``--uv`` that program installs, with the cache that it has: what is left when the packages are on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import venv
from pathlib import Path

_KEPT = """
import importlib.metadata as m, re, sys
keep, todo = set(), ["torch", "torchvision", "pip"]
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    if name in keep:
        continue
    try:
        lines = m.requires(name) or []
    except m.PackageNotFoundError:
        continue
    keep.add(name)
    todo += [re.match(r"[\\w.-]+", line)[0] for line in lines if "extra ==" not in line]
print(*sorted({re.sub(r"[-_.]+", "-", d.name).lower() for d in m.distributions()} - keep))
"""
"""Program that prints what is neither torch nor needed by it."""


def main() -> None:
    """Print a line of JSON for each of the two machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--uv", type=Path, help="the program uv, which installs from its cache")
    arguments = parser.parse_args()
    wheel, uv = arguments.wheel.resolve(), arguments.uv and arguments.uv.absolute()
    with tempfile.TemporaryDirectory(prefix="raysplit-first-") as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        print(json.dumps({"torch": "none before", **timed(home, wheel, "without", uv)}), flush=True)
        others = run(home, "python", "-c", _KEPT).split()
        run(home, "python", "-m", "pip", "uninstall", "--quiet", "--yes", *others)
        print(json.dumps({"torch": "there before", **timed(home, wheel, "with", uv)}), flush=True)


def timed(home: Path, wheel: Path, name: str, uv: Path | None) -> dict[str, float]:
    """Return the seconds of the installation and of the first command."""
    start = time.perf_counter()
    if uv:
        python = home / "venv" / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, wheel], cwd=home, check=True)
    else:
        run(home, "python", "-m", "pip", "install", "--quiet", "--no-cache-dir", str(wheel))
    installed = time.perf_counter()
    run(home, "raysplit", "train", "--name", name, "--set", "training.rounds=1")
    trained = time.perf_counter()
    first, second = installed - start, trained - installed
    return {"install_s": round(first, 1), "first_round_s": round(second, 1), "total_s": round(first + second, 1)}


def run(home: Path, program: str, *arguments: str) -> str:
    """Run a program of the environment in its folder, and return what it prints."""
    command = [home / "venv" / "bin" / program, *arguments]
    return subprocess.run(command, cwd=home, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
