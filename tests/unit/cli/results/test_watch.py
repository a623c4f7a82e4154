"""`raysplit watch` follows a run by its files: one that goes on, is cut short, resumes, ends, or never begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import shell
from support import metrics_row

from raysplit.cli.results.watch import _followed, _text
from raysplit.runs.folder import RunFolderUsed, held
from raysplit.runs.records.following import View, look


def configured(folder: Path, rounds: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "partition": {"name": "iid", "num_owners": 3},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": rounds, "cohort_size": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def with_rows(folder: Path, count: int, **more: Any) -> None:
    rows = [metrics_row(i, test_accuracy=i / 10, **more) for i in range(1, count + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ended(folder: Path, stopped: str = "all rounds done") -> None:
    (folder / "summary.json").write_text(json.dumps({"stopped": stopped}))


def test_a_run_goes_from_nothing_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert look(folder).state == "waiting"
    configured(folder)
    with held(tmp_path / "starting"):
        assert "starting" in _text(look(tmp_path / "starting"), 80).plain
    with held(folder):
        assert (look(folder).state, look(folder).title) == ("running", "FedAvg")
        assert "no round of 4 yet, running" in _text(look(folder), 80).plain
        with_rows(folder, 2)
        found = look(folder)
        assert (found.state, found.rounds, found.rounds_planned, found.members) == ("running", 2, 4, 2)
        assert found.left_s == pytest.approx(2 * found.row["seconds"])
        ended(folder)
        assert look(folder).state == "running", "as long as a process writes it"
    assert (look(folder).state, look(folder).stopped) == ("ended", "all rounds done")


def test_who_left_is_missing_until_it_comes_back(tmp_path: Path) -> None:
    folder = configured(tmp_path / "run")
    rows = [metrics_row(1, left=["owner-1", "owner-2"], came=[]), metrics_row(2, left=[], came=["owner-2"])]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = look(folder)
    assert (found.missing, found.came) == (("owner-1",), ("owner-2",))
    assert "missing: owner-1" in _text(found, 80).plain


def test_to_look_does_not_keep_a_run_from_beginning(tmp_path: Path) -> None:
    """The lock, by which a look finds out whether somebody writes, is free again before the run gives up."""
    folder = tmp_path / "run"
    with held(folder), pytest.raises(RunFolderUsed), held(folder):
        pass
    with held(folder):
        pass


class Time:
    """A clock that the waiting moves, and what happens meanwhile, by the number of the look."""

    def __init__(self, happens: dict[int, Callable[[], None]]) -> None:
        self.now_s, self.looks, self._happens = 0.0, 0, happens

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.looks += 1
        self._happens.get(self.looks, lambda: None)()


def follow(folder: Path, happens: dict[int, Callable[[], None]], wait: float = 60.0) -> tuple[View, list[str]]:
    clock, seen = Time(happens), list[str]()
    last = _followed(
        lambda: look(folder),
        lambda found: seen.append(f"{found.state} {found.rounds}"),
        every=1.0,
        wait=wait,
        sleep=clock.sleep,
        clock=lambda: clock.now_s,
    )
    return last, list(dict.fromkeys(seen))


def test_it_follows_through_a_cut_and_a_resume(tmp_path: Path) -> None:
    folder = configured(tmp_path / "run")
    lock: list[Iterator[None]] = []

    def begin() -> None:
        context = held(folder)
        context.__enter__()
        lock.append(context)  # type: ignore[arg-type]

    def let_go() -> None:
        lock.pop().__exit__(None, None, None)  # type: ignore[attr-defined]

    def finish() -> None:
        ended(folder)
        let_go()

    events = {
        1: begin,
        2: lambda: with_rows(folder, 1),
        3: lambda: with_rows(folder, 2),
        4: let_go,
        30: begin,
        31: lambda: with_rows(folder, 3),
        32: finish,
    }
    last, seen = follow(folder, events)
    assert last.state == "ended"
    assert seen == ["waiting 0", "running 0", "running 1", "running 2", "stopped 2", "running 3", "ended 3"]


def test_it_gives_up_where_nobody_begins_or_goes_on(tmp_path: Path) -> None:
    assert follow(tmp_path / "nothing", {})[0].state == "waiting"
    folder = configured(tmp_path / "run")
    with_rows(folder, 2)
    last, seen = follow(folder, {}, wait=5)
    assert (last.state, seen) == ("stopped", ["stopped 2"])


def test_the_command_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = configured(Path("runs/mine"))
    with_rows(folder, 4)
    ended(folder)
    code, out, _ = shell(capsys, "watch", "mine")
    assert code == 0
    assert out.splitlines() == [
        "round 4 of 4, all rounds done: loss 2.000, accuracy 0.400",
        "runs/mine has ended: all rounds done",
    ]
    code, out, _ = shell(capsys, "watch", "runs/mine", "--json")
    assert (code, json.loads(out)["rounds"]) == (0, 4)


def test_the_command_tells_of_a_run_that_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = shell(capsys, "watch", "nothing", "--wait", "0")
    assert code == 1
    assert "runs/nothing has not begun" in out
    folder = configured(Path("runs/cut"))
    with_rows(folder, 2)
    code, out, _ = shell(capsys, "watch", "cut", "--wait", "0")
    assert (code, "runs/cut is cut short; go on with: raysplit resume runs/cut" in out) == (1, True)
    code, out, _ = shell(capsys, "watch", "cut", "--once")
    assert (code, "round 2 of 4, cut short; nobody writes it" in out) == (0, True)
    code, _, err = shell(capsys, "watch", "s3://bucket/run")
    assert (code, "is a URI" in err) == (2, True)


def test_a_narrow_terminal_gets_no_bar(tmp_path: Path) -> None:
    folder = configured(tmp_path / "run")
    with_rows(folder, 2)
    assert "━" in _text(look(folder), 80).plain
    assert "━" not in _text(look(folder), 40).plain


def test_a_name_with_control_characters_is_shown_by_their_numbers(tmp_path: Path) -> None:
    folder = configured(tmp_path / "a\x1b[31mb")
    assert "\x1b" not in _text(look(folder), 80).plain
