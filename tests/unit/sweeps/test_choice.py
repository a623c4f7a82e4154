"""A fair comparison: what validation chooses for every method and seed, and the differences between methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import metrics_row, settings

import raysplit
from raysplit.cli.training.sweep import sweep
from raysplit.config.errors import ConfigError
from raysplit.config.run import dump_config
from raysplit.sweeps.choice import ChosenRun, Method, checked_choice, differences, method_table, read_methods
from raysplit.sweeps.report import Group, as_data, table
from raysplit.sweeps.sweep import Axis, Cell, cells, with_seeds

RATE = Axis(key="training.optimizer.lr", values=(0.1, 0.01))
METHODS = Axis(key="algorithm.name", values=("fedavg", "local"))


def grid(**changes: Any) -> list[Cell]:
    return cells(settings(data__validation=0.2, **changes), with_seeds([METHODS, RATE], 2))


def write_run(folder: Path, cell: Cell, rows: list[dict[str, Any]]) -> None:
    place = folder / cell.name
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(dump_config(cell.config))
    lines = [json.dumps(metrics_row(number, **row)) for number, row in enumerate(rows, 1)]
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (place / "summary.json").write_text(json.dumps({"stopped": "all rounds done"}))


def test_each_method_gets_its_own_rate_and_round(tmp_path: Path) -> None:
    """FedAvg is best at 0.1 after the first round, local training at 0.01 after the second; tests do not matter."""
    losses = {("fedavg", 0.1): (0.2, 0.5), ("fedavg", 0.01): (0.9, 0.8), ("local", 0.1): (0.7, 0.6)}
    losses["local", 0.01] = (0.5, 0.1)
    for cell in grid():
        values = losses[cell.values["algorithm.name"], cell.values[RATE.key]]
        accuracy = 0.5 + cell.values["seed"] / 10
        rows = [
            {"val_loss": loss, "test_loss": 9 - loss, "test_accuracy": accuracy + number / 10, "tested_on": "all"}
            for number, loss in enumerate(values)
        ]
        write_run(tmp_path, cell, rows)
    methods = read_methods(grid(), tmp_path, [RATE.key])
    assert [(m.values, m.runs[0].settings, m.runs[0].round) for m in methods] == [
        ({"algorithm.name": "fedavg"}, {RATE.key: 0.1}, 1),
        ({"algorithm.name": "local"}, {RATE.key: 0.01}, 2),
    ]
    (found,) = differences(methods, "algorithm.name")
    assert str(found) == "+10 ± 0 points"
    columns, lines = method_table(methods)
    assert columns == ["algorithm", "accuracy", "lr", "round", "seeds"]
    assert lines == [["fedavg", "55.0 ± 7.1", "0.1", "1", "2"], ["local", "65.0 ± 7.1", "0.01", "2", "2"]]


def chosen(**row: Any) -> dict[int, ChosenRun]:
    return {seed: ChosenRun(settings={}, round=1, row={"tested_on": "all", **row}) for seed in (0, 1)}


def test_figures_of_single_tasks_are_compared_where_tasks_differ() -> None:
    """The mean over other tasks is another figure, so a network of one task is compared in that task alone."""
    alone = Method(values={"model.tasks": ["a"]}, runs=chosen(test_accuracy=0.5, test_accuracy_a=0.5))
    pair = chosen(test_accuracy=0.7, test_accuracy_a=0.6, test_accuracy_b=0.8)
    found = differences([alone, Method(values={"model.tasks": ["a", "b"]}, runs=pair)], "model.tasks")
    assert [(d.figure, round(d.found.mean, 6)) for d in found] == [("accuracy_a", 0.1)]


def test_models_of_all_and_of_single_owners_are_compared_owner_by_owner() -> None:
    of_all = Method(values={"m": "fedavg"}, runs=chosen(test_accuracy=0.9, owner_accuracy=0.4))
    own = Method(values={"m": "local"}, runs=chosen(test_accuracy=0.7, owner_accuracy=0.7, tested_on="own"))
    (found,) = differences([of_all, own], "m")
    assert found.found.mean == pytest.approx(0.3)


def test_a_choice_needs_validation_samples() -> None:
    without = cells(settings(), with_seeds([METHODS], 2))
    with pytest.raises(ConfigError, match=r"set data\.validation"):
        checked_choice("validation_loss", without, [METHODS])
    with pytest.raises(ConfigError, match="never the test samples"):
        checked_choice("test_accuracy", grid(), [METHODS])
    assert checked_choice("validation_loss", grid(), [METHODS, RATE]) == (RATE.key,)


def test_settings_follow_the_seed() -> None:
    tree = settings(data={"name": "random", "num_classes": 3, "num_samples": 60, "dim": 4})
    found = cells(tree, with_seeds([METHODS], 2), follow=["data.seed"])
    assert [cell.config.data.options["seed"] for cell in found] == [0, 1, 0, 1]
    with pytest.raises(ConfigError, match="given twice"):
        with_seeds([Axis(key="seed", values=(3,))], 2)


def test_a_comparison_is_one_command(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(settings(data__validation=0.2, output={"root": str(tmp_path)}, training__rounds=1)))
    arguments = [str(config), "--over", "algorithm.name=fedavg,local", "--over", "training.optimizer.lr=0.1"]
    done = CliRunner().invoke(sweep, [*arguments, "--seeds", "2", "--choose", "validation_loss", "--name", "fair"])
    assert done.exit_code == 0, done.output
    assert "difference" in done.output
    kept = json.loads((tmp_path / "fair" / "choice.json").read_text())
    assert [d["seeds"] for d in kept["differences"]] == [2]


def test_python_chooses_too(tmp_path: Path) -> None:
    found = raysplit.sweep(
        settings(data__validation=0.2, training__rounds=1),
        over={"algorithm.name": ["fedavg", "local"]},
        folder=tmp_path,
        choose="validation_loss",
    )
    assert [m.values["algorithm.name"] for m in found.methods] == ["fedavg", "local"]
    assert len(found.differences) == 1


def test_a_table_has_the_figures_of_single_tasks() -> None:
    """A network of one task has no figure of the other; single-task sweeps have no columns of tasks."""
    pair = {"test_accuracy": 0.7, "test_accuracy_a": 0.6, "test_accuracy_b": 0.8}
    groups = [
        Group(values={"model.tasks": ["a", "b"]}, runs=((pair,),)),
        Group(values={"model.tasks": ["a"]}, runs=(({"test_accuracy": 0.5, "test_accuracy_a": 0.5},),)),
    ]
    columns, lines = table(groups)
    assert columns == ["tasks", "accuracy", "a", "b", "worst owner"]
    assert lines == [['["a", "b"]', "70.0", "60.0", "80.0", "–"], ['["a"]', "50.0", "50.0", "–", "–"]]
    assert as_data(groups)[1]["tasks"] == {"a": {"mean": 0.5, "sd": 0.0}}
    assert table(groups[1:])[0] == ["tasks", "accuracy", "worst owner"]
