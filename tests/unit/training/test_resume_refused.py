"""``resume`` never begins a run anew over rounds that are there, unless it is asked to by name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from disturbed import Killed, Killer
from support import same, settings

from raysplit.api import resume, train_config
from raysplit.config.run import check_config
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.presence import RunFolderLost
from raysplit.runs.records.read import read_metrics
from raysplit.training.recovery.checkpoint import Checkpoint, CheckpointRefused, Checkpoints


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def config(**more: Any) -> Any:
    return check_config(settings(training={"rounds": 4, "batch_size": 16, "optimizer": {"lr": 0.1}}, **more))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rounds that was cut short after its second."""
    folder = tmp_path_factory.mktemp("runs") / "cut"
    with pytest.raises(Killed):
        train_config(config(), folder=folder, callbacks=[Killer(2)])
    return folder


@pytest.fixture
def folder(cut: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cut, tmp_path / "x"))


def edited(section: str, **values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        tree[section] |= values
        (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")

    return edit


def torn(folder: Path) -> None:
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])


def config_of(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.yaml").write_text(text, encoding="utf-8") and None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (edited("training", optimizer={"name": "sgd", "lr": 0.2}), r"training\.optimizer\.lr 0\.1, which is 0\.2 now"),
        (edited("training", rounds=40), r"training\.rounds 4, which is 40 now"),
        (torn, r"round-000001\.ckpt is torn or changed"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "has 2 finished rounds and there are no checkpoints in"),
        (
            edited("reliability", checkpoint_location="elsewhere"),
            "rounds and there are no checkpoints in elsewhere",
        ),
    ],
    ids=["another rate", "more rounds", "torn", "no checkpoints", "checkpoints elsewhere"],
)
def test_what_is_there_stays_where_none_of_it_can_be_used(
    spoil: Callable[[Path], None], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed learning rate, or a byte off every checkpoint, began at round 1 of 40: 20 rounds were overwritten."""
    monkeypatch.chdir(folder.parent)
    spoil(folder)
    before = contents(folder)
    with pytest.raises(ValueError, match=message) as refused:
        resume(folder, trust=True)
    assert "--from-start" in str(refused.value)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "text", ["", "null\n", "{}\n", "seed: 0\n", "- a\n", "seed: [\n", "training: {rounds: 2}\n", "5: 6\n", "\0"]
)
def test_a_torn_configuration_is_damage(text: str, folder: Path) -> None:
    """A ``config.yaml`` of 0 bytes trained the default method with ten owners over the run's rounds."""
    config_of(text)(folder)
    before = contents(folder)
    with pytest.raises(Damaged, match=r"config\.yaml is damaged"):
        resume(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("section", ["training", "data", "output", "reliability", "seed", "model"])
@pytest.mark.parametrize("rest", [None, {}])
def test_a_configuration_without_a_section_is_damage(section: str, rest: Any, folder: Path) -> None:
    tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    del tree[section]
    tree |= {} if rest is None else {section: rest}
    config_of(yaml.safe_dump(tree))(folder)
    with pytest.raises(Damaged, match=r"config\.yaml is damaged"):
        resume(folder)


def test_from_the_start_keeps_the_old_rounds_aside(folder: Path, tmp_path: Path) -> None:
    edited("training", rounds=3)(folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(folder)
    result = resume(folder, from_start=True)
    training = {"rounds": 3, "batch_size": 16, "optimizer": {"lr": 0.1}}
    whole = train_config(check_config(settings(training=training)), folder=tmp_path / "w")
    assert same(result.states["global"], whole.states["global"])
    after = contents(folder)
    aside = {name.removeprefix("earlier-1/"): text for name, text in after.items() if name.startswith("earlier-1/")}
    assert aside == {name: text for name, text in before.items() if name != "notes.txt"}
    assert after["notes.txt"] == b"mine"
    resume(folder, from_start=True)
    assert len(read_metrics(folder / "earlier-2")) == len(read_metrics(folder)) == 3


def test_checkpoints_elsewhere_are_set_aside_there(tmp_path: Path) -> None:
    elsewhere = tmp_path / "kept"
    more = {"reliability": {"checkpoint_location": str(elsewhere)}}
    with pytest.raises(Killed):
        train_config(config(**more), folder=tmp_path / "x", callbacks=[Killer(2)])
    names = {path.name for path in (elsewhere / "x").iterdir()}
    resume(tmp_path / "x", from_start=True)
    assert {path.name for path in (elsewhere / "x" / "earlier-1").iterdir()} == names


# -- what a checkpoint holds --------------------------------------------------------------------------------------


def put_back(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the newest checkpoint with a right sum and other content, as the only one."""
    place = Checkpoints(folder / "checkpoints")
    name = place.names()[0]
    found = place.load(name)
    content = {name: getattr(found, name) for name in Checkpoint.__dataclass_fields__}
    change(content)
    place.clear()
    (folder / "checkpoints" / name).write_bytes(Checkpoint(**content).encoded())


def another_type(content: dict[str, Any]) -> None:
    weights = content["parties"]["aggregator"]["current"]
    name = next(iter(weights))
    weights[name] = weights[name].long()


def another_shape(content: dict[str, Any]) -> None:
    weights = content["parties"]["aggregator"]["current"]
    name = next(iter(weights))
    weights[name] = weights[name].reshape(-1)


def optimizer(content: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer of the server."""
    return dict(next(iter(content["parties"]["server"]["replicas"].values()))["optimizer"])


def groups(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of an optimizer of the server."""
    return list(optimizer(content)["param_groups"])


def kept_of_a_weight(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: optimizer(content)["state"].update({0: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_type, r"is int64 .*, and the run needs float64"),
        (another_shape, "does not fit the run"),
        (lambda content: content.update(parties={}), "it lacks the state of server, aggregator"),
        (lambda content: content["parties"].update(stranger={}), "it has other keys, 'stranger'"),
        (lambda content: content["parties"].update(aggregator={}), "loading it ended with KeyError"),
        (lambda content: content["parties"]["aggregator"].update(more=1), "it has other keys, 'more'"),
        (lambda content: content["parties"].update(aggregator={"current": None}), "does not fit the run"),
        (lambda content: content["parties"]["server"]["replicas"].clear(), "it has no weights of server"),
        (lambda content: content.update(memory={}), "loading it ended with KeyError"),
        (lambda content: groups(content)[0].update(momentum=0.5), "the optimizer's momentum is 0.5 in the state, 0"),
        (lambda content: groups(content)[0].update(params=[1, 0, 2]), r"the optimizer's params is \[1, 0, 2\]"),
        (lambda content: groups(content)[0].pop("weight_decay"), "the optimizer's state lacks weight_decay"),
        (lambda content: groups(content)[0].update(lr={}), r"the optimizer's lr is \{\} in the state, which is no"),
        (kept_of_a_weight("abc"), "state of parameter 0 is 'abc', not entries by name"),
        (kept_of_a_weight({"note": "abc"}), r"server\.replicas\..*\.optimizer\.state\.0\.note .* and became '<gen"),
        (lambda content: content["memory"].update(more=1), "memory of the checkpoint does not fit the run"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_not_gone_on_from(
    change: Callable[[dict[str, Any]], None], message: str, folder: Path
) -> None:
    """A weight as int64 was cast, and a checkpoint without parties left their first weights, without a word.

    A text in an optimizer's state became ``<generator object ...>``, as torch makes sequences anew by their type.
    """
    put_back(folder, change)
    before = contents(folder)["metrics.jsonl"]
    with pytest.raises(CheckpointRefused, match=message):
        resume(folder)
    assert contents(folder)["metrics.jsonl"] == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rounds", "2"), ("rounds", -1), ("rounds", 3), ("rounds", True), ("rows", None), ("rows", []),
        ("rows", [1, 2]),
        ("rows", [{"round": 2}, {"round": 1}]), ("excluded", 5), ("excluded", "owner-0"), ("cohort", [1]),
        ("attempts", None), ("attempts", -1), ("parties", None), ("parties", {1: {}}), ("parties", {"a": 1}),
        ("memory", None), ("fingerprint", 5), ("settings", None),
    ],
)  # fmt: skip
def test_every_field_of_a_checkpoint_is_checked(name: str, value: Any, folder: Path) -> None:
    """``rows: null`` and ``excluded: 5`` under a right sum ended in tracebacks."""
    put_back(folder, lambda content: content.update({name: value}))
    with pytest.raises(CheckpointRefused, match="does not contain a checkpoint"):
        resume(folder)


# -- a folder that changes under a run ----------------------------------------------------------------------------


class Does(Callback):
    """Callback that does something to the run folder after its second round."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def round_ended(self, row: Row) -> None:
        if row["round"] == 2:
            self._act()


def replaced(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()
    (folder / "config.yaml").write_text("theirs", encoding="utf-8")


@pytest.mark.parametrize(
    ("act", "reason", "left"),
    [
        (shutil.rmtree, "it was removed or moved", None),
        (lambda folder: folder.rename(folder.with_name("moved")), "it was removed or moved", None),
        (replaced, "another folder is in its place", {"config.yaml"}),
    ],
)
def test_a_folder_that_is_gone_ends_the_run_and_is_not_made_again(
    act: Callable[[Path], Any], reason: str, left: set[str] | None, tmp_path: Path
) -> None:
    """The folder came back without configuration, environment and the first rounds, and the run ended with 0."""
    folder = tmp_path / "x"
    with pytest.raises(RunFolderLost, match=f"is lost after 2 rounds: {reason}"):
        train_config(config(), folder=folder, callbacks=[Does(lambda: act(folder))])
    assert (set(contents(folder)) if folder.exists() else None) == left
    moved = tmp_path / "moved"
    if moved.exists():
        whole = train_config(config(), folder=tmp_path / "whole")
        assert same(resume(moved).states["global"], whole.states["global"])


def test_a_configuration_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    with pytest.raises(RunFolderLost, match=r"its config\.yaml was removed"):
        train_config(config(), folder=folder, callbacks=[Does((folder / "config.yaml").unlink)])


@pytest.mark.parametrize("act", [lambda path: path.unlink(), lambda path: path.write_text("", encoding="utf-8")])
def test_metrics_that_are_gone_are_written_again(
    act: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "x"
    with caplog.at_level(logging.WARNING):
        train_config(config(), folder=folder, callbacks=[Does(lambda: act(folder / "metrics.jsonl"))])
    assert [row["round"] for row in read_metrics(folder)] == [1, 2, 3, 4]
    assert "was changed while the run wrote it" in caplog.text


def test_links_out_of_a_run_folder_are_not_written_through(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bashrc").write_text("mine", encoding="utf-8")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(tmp_path / "bashrc")
    with pytest.raises(ValueError, match="links out of a folder are not followed"):
        resume(folder)
    assert (tmp_path / "bashrc").read_text(encoding="utf-8") == "mine"
