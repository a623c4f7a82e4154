"""Scripts outside of the package import names that there are, and commands import no more than they need."""

from __future__ import annotations

import ast
import importlib
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for folder in ("benchmarks", "examples", "tests/ray") for path in (ROOT / folder).rglob("*.py"))
NEED_RAY = ("raysplit.cluster.on_ray", "raysplit.serving.server")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("raysplit"):
            names = [(node.module, alias.name) for alias in node.names]
            yield from (pair for pair in names if not ".".join(pair).startswith(NEED_RAY))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_that_a_script_imports_are_there(path: Path) -> None:
    """Two benchmarks and a test on Ray named modules that had moved, and nobody had run them since."""
    for module, name in imported(path):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


RUN = {
    "config.yaml": "{partition: {name: iid, num_owners: 2}, algorithm: {name: fedavg}, training: {rounds: 1}}",
    "metrics.jsonl": '{"round": 1, "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": 0.5, "bytes": 1, '
    '"seconds": 1.0, "num_samples": 1, "num_owners": 2, "train_seconds_total": 1.0, "samples_per_s": 1.0, '
    '"bytes_total": 1}\n',
    "summary.json": '{"stopped": "all rounds done"}',
}


def loaded(code: str, of: set[str], folder: Path) -> str:
    """Return which of some packages a program has loaded at its end, beside what it prints."""
    end = f"\nimport sys; print('loaded', sorted({of!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["show", "one"],
        ["compare", "runs/one", "--json"],
        ["report", "runs/one"],
        ["report", "runs/one", "--html"],
        ["watch", "runs/one", "--once"],
    ],
)
def test_reading_runs_needs_no_torch(command: list[str], tmp_path: Path) -> None:
    """`raysplit list` took 6.5 s of processor time and 935 MiB to print a table."""
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    for name, text in RUN.items():
        (folder / name).write_text(text)
    code = f"from raysplit.cli.main import main; main({command!r})"
    assert loaded(code, {"torch", "ray", "scipy", "sympy", "torchvision"}, tmp_path) == "loaded []"


def test_planning_for_a_profile_needs_no_torch(tmp_path: Path) -> None:
    """It took 3 s of processor time and 582 MiB to solve for three nodes, most of them for torch."""
    plan = "plan --profile vgg19_mpsl_vm --units 3:21 --owners 50 --node 16GiB:1 --node 8GiB:2 --solver dp"
    command = shlex.split(plan)
    code = f"from raysplit.cli.main import main; main({command!r})"
    assert loaded(code, {"torch", "ray", "scipy", "matplotlib", "pandas"}, tmp_path) == "loaded []"


def test_a_run_on_built_in_parts_loads_no_package_that_it_does_not_use(tmp_path: Path) -> None:
    """torchvision and torch's compiler were loaded for their lists of names, SciPy's optimizers for one method."""
    code = "from raysplit.api import train; from raysplit.config.run import load_config; load_config(None)"
    heavy = {"torch._dynamo", "sympy", "scipy", "torchvision", "sklearn", "matplotlib", "ray"}
    assert loaded(code, heavy, tmp_path) == "loaded []"


@pytest.mark.parametrize("name", ["fedavg", "minibatch_sfl"])
def test_training_loads_no_compiler_and_no_algebra(name: str, tmp_path: Path) -> None:
    """Torch's first optimizer loaded its compiler, and the first given gradient SymPy; the digits loaded SciPy."""
    training = {"rounds": 1, "max_steps": 1, "optimizer": {"name": "adam", "lr": 0.01}}
    given = {"data": "digits", "algorithm": name, "partition": {"name": "iid", "num_owners": 2}, "training": training}
    code = f"import raysplit; raysplit.train(**{given}, cluster='local', folder='run')"
    heavy = {"torch._dynamo", "sympy", "scipy", "torchvision", "sklearn", "matplotlib", "ray"}
    assert loaded(code, heavy, tmp_path) == "loaded []"


def test_places_and_the_estimate_of_memory_load_no_more_than_they_need(tmp_path: Path) -> None:
    """A place had Triton and Arrow, 90 MiB, and used neither; a driver had the compiler."""
    code = """
    import raysplit.actors.data_owner, raysplit.actors.evaluator, raysplit.algorithms
    from raysplit.actors.parts.optim import OptimizerSpec
    from raysplit.training.preflight import _state_copies
    assert _state_copies(OptimizerSpec(name="adam")) == 2
    """
    of = {"pyarrow", "pandas", "triton", "torch._dynamo", "sympy"}
    assert loaded(textwrap.dedent(code), of - {"pyarrow"}, tmp_path) == "loaded []"
    places = "import raysplit.actors.data_owner, raysplit.actors.evaluator, raysplit.algorithms"
    assert loaded(places, of, tmp_path) == "loaded []"
