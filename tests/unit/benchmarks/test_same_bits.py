"""The script that compares two trees finds what differs, and nothing where nothing does."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from raysplit.algorithms import ALGORITHMS

FOUNDATION = Path(__file__).parents[3] / "benchmarks" / "foundation"
EXAMPLES = FOUNDATION.parents[1] / "examples"

WEIGHTS = {"a.weight": torch.tensor([[1.0, 0.0], [float("nan"), 2.0]]), "a.steps": torch.tensor(3)}
ROWS: list[dict[str, Any]] = [
    {"round": 1, "seconds": 0.5, "train_loss": 2.0},
    {"round": 2, "seconds": 0.4, "train_loss": float("nan"), "test_accuracy": 0.25},
]
LINKS = {"source": ["owner-0", "server"], "destination": ["server", "owner-0"], "num_bytes": [8, 16]}
CHARGES = {"owner": ["owner-0"], "steps": [4], "training_s": [0.1]}


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOUNDATION))


@pytest.fixture
def compare() -> ModuleType:
    return importlib.import_module("run_differences")


@pytest.fixture
def same_bits() -> ModuleType:
    return importlib.import_module("same_bits")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders with the same contents."""
    base = tmp_path / "base"
    base.mkdir()
    torch.save(WEIGHTS, base / "model.pt")
    write_rows(base, ROWS)
    pq.write_table(pa.table({**LINKS, "num_messages": [1, 2]}), base / "traffic.parquet")
    pq.write_table(pa.table(CHARGES), base / "charges.parquet")
    (base / "summary.json").write_text(json.dumps({"stopped": "all rounds done", "last": ROWS[1], "spent": 0.1}))
    (base / "environment.json").write_text(json.dumps({"cpus": 2, "packages": {"torch": "2.14.0"}}))
    (base / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "training": {"rounds": 2}}))
    return Path(shutil.copytree(base, tmp_path / "ours")), base


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_same_is_the_same(folders: tuple[Path, Path], compare: ModuleType) -> None:
    ours, _ = folders
    write_rows(ours, [row | {"seconds": 9.0} for row in ROWS])
    pq.write_table(pa.table(CHARGES | {"training_s": [0.2]}), ours / "charges.parquet")
    (ours / "summary.json").write_text(json.dumps({"stopped": "all rounds done", "last": ROWS[1], "spent": 0.3}))
    assert compare.differences(*folders) == []


def test_new_settings_may_come(folders: tuple[Path, Path], compare: ModuleType) -> None:
    (folders[0] / "config.yaml").write_text(
        yaml.safe_dump({"seed": 0, "training": {"rounds": 2, "pause_s": 0}, "links": []})
    )
    assert compare.differences(*folders) == []


def a_bit(ours: Path) -> None:
    torch.save(WEIGHTS | {"a.weight": torch.tensor([[1.0, -0.0], [float("nan"), 2.0]])}, ours / "model.pt")


def a_type(ours: Path) -> None:
    torch.save(WEIGHTS | {"a.steps": torch.tensor(3, dtype=torch.int32)}, ours / "model.pt")


def a_tensor(ours: Path) -> None:
    torch.save({"a.weight": WEIGHTS["a.weight"]}, ours / "model.pt")


def a_loss(ours: Path) -> None:
    write_rows(ours, [ROWS[0] | {"train_loss": 2.0000000000000004}, ROWS[1]])


def a_column(ours: Path) -> None:
    write_rows(ours, [row | {"extra": 1} for row in ROWS])


def a_round(ours: Path) -> None:
    write_rows(ours, ROWS[:1])


def a_byte(ours: Path) -> None:
    pq.write_table(pa.table({**LINKS, "num_bytes": [8, 17], "num_messages": [1, 2]}), ours / "traffic.parquet")


def a_link(ours: Path) -> None:
    pq.write_table(pa.table({**LINKS, "num_messages": [1, 2]}).slice(1), ours / "traffic.parquet")


def a_table(ours: Path) -> None:
    pq.write_table(pa.table(CHARGES | {"steps": [5]}), ours / "charges.parquet")


def a_file(ours: Path) -> None:
    (ours / "traffic.parquet").unlink()


def a_version(ours: Path) -> None:
    (ours / "environment.json").write_text(json.dumps({"cpus": 2, "packages": {"torch": "2.14.1"}}))


def a_setting(ours: Path) -> None:
    (ours / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "training": {"rounds": 3}}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (a_bit, ["model.pt a.weight: off by up to nan"]),
        (a_type, ["model.pt a.steps: torch.int32 () instead of torch.int64 ()"]),
        (a_tensor, ["model.pt: a.steps is missing"]),
        (a_loss, ["metrics train_loss: 2.0000000000000004 instead of 2.0 in round 1"]),
        (a_column, ["metrics: extra is new"]),
        (a_round, ["metrics: 1 rounds instead of 2", "metrics: test_accuracy is missing"]),
        (a_byte, ["traffic server -> owner-0: 17 bytes in 2 messages instead of 16 in 2"]),
        (a_link, ["traffic owner-0 -> server: 0 bytes in 0 messages instead of 8 in 1"]),
        (a_table, ["charges.parquet: other rows"]),
        (a_file, ["traffic.parquet is missing"]),
        (a_version, ['packages torch: "2.14.1" instead of "2.14.0"']),
        (a_setting, ["config training rounds: 3 instead of 2"]),
    ],
)
def test_a_difference_is_found(
    change: Callable[[Path], None], told: list[str], folders: tuple[Path, Path], compare: ModuleType
) -> None:
    change(folders[0])
    assert compare.differences(*folders) == told


def test_models_by_owner_are_compared_tensor_by_tensor(compare: ModuleType) -> None:
    base = {"owner-0": {"w": torch.ones(2)}, "owner-1": {"w": torch.ones(2)}}
    ours = {"owner-0": {"w": torch.ones(2)}, "owner-1": {"w": torch.tensor([1.0, 1.5])}}
    assert list(compare.model_differences(ours, base, "model.pt")) == ["model.pt owner-1 w: off by up to 0.5"]


_TASKS = ("har", "lora", "mtl_split_kinds", "regression", "segmentation", "text_lm")
_NEWER = ("fsha_digits", "private_digits", "scaffold_digits", *_TASKS)
NEWER = {f"{name}.yaml" for name in _NEWER}
"""Examples with methods, tasks or data that the base does not have."""
NEWER_METHODS = {"fednova"}


def test_every_algorithm_and_example_has_a_case(same_bits: ModuleType) -> None:
    cases = same_bits.read_cases(same_bits.CASES.read_text(encoding="utf-8"))
    assert {case.config["algorithm"]["name"] for case in cases if case.config} == set(ALGORITHMS) - NEWER_METHODS
    examples = {path.name for path in EXAMPLES.glob("*.yaml")} - NEWER
    assert {case.example for case in cases if case.example} == examples


def test_a_named_section_replaces_and_another_changes(same_bits: ModuleType) -> None:
    text = """
    bases: {b: {model: {name: mlp, hidden: [3]}, training: {rounds: 2, batch_size: 4}}}
    cases:
      one: {base: b, config: {model: {name: cnn8}, training: {rounds: 3}, algorithm: {name: local}}}
      two: {example: a.yaml, set: [seed=1], verb: simulate}
    """
    one, two = same_bits.read_cases(text)
    assert one.config == {
        "model": {"name": "cnn8"},
        "training": {"rounds": 3, "batch_size": 4},
        "algorithm": {"name": "local"},
    }
    assert (two.config, two.example, two.overrides, two.verb) == (None, "a.yaml", ("seed=1",), "simulate")
    assert [case.name for case in same_bits.chosen([one, two], "t*,x")] == ["two"]
    with pytest.raises(SystemExit, match="no case fits 'x'"):
        same_bits.chosen([one, two], "x")


def test_the_first_differences_are_printed_and_the_others_counted(same_bits: ModuleType) -> None:
    assert same_bits.told("mpsl", []).split() == ["mpsl", "same"]
    lines = same_bits.told("mpsl", [f"difference {i}" for i in range(15)]).splitlines()
    assert lines[0].split() == ["mpsl", "difference", "0"]
    assert [len(lines), lines[-1].strip()] == [13, "and 3 more"]


class Runs:
    """A tree that writes the same two bytes for a simulation, or fails with a text."""

    def __init__(self, work: Path, seconds: float, wrong: str | None = None) -> None:
        self.work, self.seconds, self.wrong, self.count = work, seconds, wrong, 0

    def run(self, case: Any) -> str | None:
        self.count += 1
        folder = self.work / "runs" / case.name
        folder.mkdir(parents=True)
        (folder / "simulated.json").write_text(json.dumps({"round_s": self.seconds, "took_s": self.count}))
        return self.wrong


def test_both_trees_run_and_what_goes_wrong_is_told(same_bits: ModuleType, tmp_path: Path) -> None:
    case = SimpleNamespace(name="a", verb="simulate", example=None, digest=lambda: "0")

    def lines(ours: Runs, base: Runs) -> Any:
        return same_bits.compared(case, ours, base, None)

    assert lines(Runs(tmp_path / "1", 2.0), Runs(tmp_path / "2", 2.0)) == []
    assert lines(Runs(tmp_path / "3", 2.5), Runs(tmp_path / "4", 2.0)) == ["simulated round_s: 2.5 instead of 2.0"]
    assert lines(Runs(tmp_path / "5", 2.0, "exit code 1: no"), Runs(tmp_path / "6", 2.0)) == ["exit code 1: no"]
    assert lines(Runs(tmp_path / "7", 2.0), Runs(tmp_path / "8", 2.0, "bad")) == ["the base cannot run it: bad"]


def test_an_example_that_came_later_is_not_compared(same_bits: ModuleType, tmp_path: Path) -> None:
    case = SimpleNamespace(name="a", verb="train", example="new.yaml", digest=lambda: "0")
    base = Runs(tmp_path / "base", 2.0, "there is no new.yaml")
    assert same_bits.compared(case, Runs(tmp_path / "ours", 2.0), base, None) == []


def test_the_base_runs_are_kept_for_the_next_time(same_bits: ModuleType, tmp_path: Path) -> None:
    case = SimpleNamespace(name="a", verb="simulate", example=None, digest=lambda: "0")
    for turn in ("first", "second"):
        base = Runs(tmp_path / turn / "base", 2.0)
        assert same_bits.compared(case, Runs(tmp_path / turn / "ours", 2.0), base, tmp_path / "kept") == []
        assert base.count == (1 if turn == "first" else 0)
