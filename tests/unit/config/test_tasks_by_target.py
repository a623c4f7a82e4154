"""``data.tasks`` and ``owners.tasks``: what they take, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysplit.config.build import build
from raysplit.config.run import ConfigError, check_config, dump_config, load_config
from raysplit.experiment.fingerprint import fingerprint
from raysplit.tasks import SeveralTasks

KINDS = {"shape": "classification", "size": "regression"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Three targets: classes, numbers, and two numbers."""
    path = tmp_path / "three.npz"
    num = 20
    np.savez(
        path,
        x=np.zeros((num, 3, 16, 16), np.uint8),
        shape=np.arange(num) % 3,
        size=np.arange(num) / 3,
        place=np.ones((num, 2), np.float32),
        mask=np.zeros((num, 4, 4), np.int64),
    )
    return str(path)


def tree(file: str, tasks: Any = KINDS, **sections: Any) -> dict[str, Any]:
    return {
        "data": {"name": file, "tasks": tasks},
        "model": {"name": "multi_task", "backbone": "small"},
        "partition": {"num_owners": 1},
        "algorithm": {"name": "mtl_split"},
        "cluster": {"kind": "local"},
    } | sections


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ({"size": "regresion"}, r"data.tasks.size: unknown kind of task 'regresion'; did you mean 'regression'"),
        ({"size": {"kind": "regression", "weight": -1}}, r"data.tasks.size: must be greater than or equal to 0.*-1"),
        ({"size": {"kind": "regression", "weight": float("nan")}}, r"data.tasks.size: .*"),
        ({"size": {"kind": "regression", "lambda": 2}}, r"data.tasks.size: "),
        ({"size": {"kind": "regression", "loss": "l3"}}, r"data.tasks.size: task.loss is 'l3'"),
        ({"size": {"weight": 2.0}}, r"data.tasks.size: "),
        (["size"], r"tasks is \('size',\), and .*three.npz has no labels to choose among by name; say the kind"),
    ],
)
def test_settings_that_are_no_task_are_refused(tasks: Any, says: str, file: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_config(tree(file, tasks))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": {"seize": "regression"}}, r"no 'seize'"),
        ({"tasks": KINDS | {"seize": "regression"}}, r"no 'seize'"),
        ({"tasks": {"shape": "classification", "size": "classification"}}, r"labels must be integers 0..C-1"),
        (
            {"tasks": {"shape": "multi_label", "size": "regression"}},
            r"three.npz: shape is int64 .*task: classification",
        ),
        ({"tasks": {"shape": "classification", "mask": "segmentation"}}, r"'mask' is segmentation, and the heads"),
        ({"tasks": {"size": {"kind": "regression", "weight": 0}}}, r"the weights of the tasks size are all 0"),
        ({"training": {"loss": "mse"}}, r"training.loss is mse, and the tasks shape, size have their own"),
        ({"task": "regression"}, r"task is regression, .* leave it out, and say the kind of each with data.tasks"),
        (
            {"algorithm": {"name": "mas"}, "training": {"loss": "cross_entropy"}},
            "several tasks with a kind of their own",
        ),
        ({"owners": {"tasks": ["shape"]}}, r"owners.tasks gives the task 'size' to no owner"),
        ({"owners": {"tasks": [["shape", "seize"]]}}, r"the task 'seize'; did you mean 'size'"),
        ({"owners": {"tasks": {"owner-3": "size"}}}, r"owners.tasks names 'owner-3', which is no owner"),
        ({"owners": {"tasks": [[]]}}, r"owners.tasks gives owner-0 no task"),
        (
            {"partition": {"name": "dirichlet", "alpha": 1, "num_owners": 1}, "tasks": {"size": "regression"}},
            "none of the tasks size has classes",
        ),
    ],
)
def test_tasks_that_do_not_fit_the_run_are_refused(changes: dict[str, Any], says: str, file: str) -> None:
    tasks = changes.pop("tasks", KINDS)
    with pytest.raises(ValueError, match=says):
        build(check_config(tree(file, tasks, **changes)))


def test_one_target_needs_no_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((10, 3, 16, 16), np.uint8), y=np.arange(10.0))
    with pytest.raises(ValueError, match=r"data.tasks names y, and data .* have one target, y; leave it out"):
        build(check_config(tree(str(tmp_path / "one.npz"), {"y": "regression"})))


def test_the_targets_say_what_they_are(file: str) -> None:
    settings = tree(file, None)
    settings["data"] = {"name": file, "targets": ["shape", "size"]}
    task = build(check_config(settings)).setting.task
    assert isinstance(task, SeveralTasks)
    assert {name: own.kind for name, own in task.each} == KINDS
    settings["model"] = settings["model"] | {"tasks": ["size"]}
    task = build(check_config(settings)).setting.task
    assert isinstance(task, SeveralTasks)
    assert list(task.tasks) == ["size"]


def test_columns_of_a_table_are_targets_by_name(tmp_path: Path) -> None:
    """Several target columns were one target [N, k]; labels that are words are renumbered, numbers stay."""
    rows = [f"{i / 7},{'cat' if i % 3 else 'dog'},{i}" for i in range(20)]
    (tmp_path / "two.csv").write_text("\n".join(["width,animal,age", *rows]))
    tasks = {"animal": "classification", "age": "regression"}
    settings = tree("", tasks, model={"name": "mlp"}, algorithm={"name": "fedavg"})
    settings["data"] = {"name": str(tmp_path / "two.csv"), "encoder": "fitted", "renumber_labels": True, "tasks": tasks}
    experiment = build(check_config(settings))
    task = experiment.setting.task
    assert isinstance(task, SeveralTasks)
    assert [own.num_outputs for _, own in task.each] == [2, 1]
    assert experiment.setting.spec.num_classes == 3
    assert experiment.about_data["targets"]["animal"]["names"] == ["cat", "dog"]


def test_whole_amounts_may_be_numbers(tmp_path: Path) -> None:
    """With task: regression they were labels still: "y of training sample 3 is 3 and there are 1 classes"."""
    np.savez(tmp_path / "one.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20))
    settings = tree("", model={"name": "mlp"}, algorithm={"name": "fedavg"}, task="regression")
    settings["data"] = {"name": str(tmp_path / "one.npz")}
    experiment = build(check_config(settings))
    assert experiment.about_data["targets"]["y"]["type"] == "float32"
    np.savez(tmp_path / "two.npz", x=np.zeros((20, 3), np.float32), a=np.arange(20), b=np.arange(20))
    settings = tree(str(tmp_path / "two.npz"), dict.fromkeys("ab", "regression"), model={"name": "mlp"})
    settings["algorithm"] = {"name": "fedavg"}
    assert [own["type"] for own in build(check_config(settings)).about_data["targets"].values()] == ["float32"] * 2


def test_labels_of_drawn_pictures_may_be_numbers() -> None:
    """The names choose the labels that are read, as a list does."""
    drawn = {"grid": "reduced", "num_train": 12, "num_test": 6}
    tasks = {"shape": "classification", "scale": {"kind": "regression", "weight": 2}}
    config = check_config(tree("shapes3d", tasks) | {"data": {"name": "shapes3d", "tasks": tasks, **drawn}})
    assert config.data.options["tasks"] == ["shape", "scale"]
    task = build(config).setting.task
    assert isinstance(task, SeveralTasks)
    assert task.weights == (1.0, 2.0)
    assert [own.num_outputs for _, own in task.each] == [4, 1]


def test_a_recorded_configuration_is_read_again(file: str, tmp_path: Path) -> None:
    config = check_config(tree(file, {"shape": "classification", "size": {"kind": "regression", "weight": 0.5}}))
    (tmp_path / "config.yaml").write_text(dump_config(config))
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert again.data.by_target["size"].weight == 0.5


def test_runs_without_such_tasks_keep_their_fingerprint() -> None:
    """Run folders of before have neither key."""
    plain = check_config({"data": {"name": "digits"}}).model_dump(mode="json")
    before = {**plain, "data": {k: v for k, v in plain["data"].items() if k != "tasks"}}
    before["owners"] = {k: v for k, v in plain["owners"].items() if k != "tasks"}
    assert fingerprint(plain) == fingerprint(before)
    weighted = check_config({"data": {"name": "a.npz", "tasks": {"a": {"kind": "regression", "weight": 2.0}}}})
    other = check_config({"data": {"name": "a.npz", "tasks": {"a": {"kind": "regression"}}}})
    assert fingerprint(weighted.model_dump(mode="json")) != fingerprint(other.model_dump(mode="json"))
