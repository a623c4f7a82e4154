"""Runs that are stopped: SIGTERM is the same orderly end as Ctrl-C, and the last line says how to go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysplit.cli.main import main
from raysplit.cli.progress import RoundLines
from raysplit.cli.stopping import StopSignals, WayOn, going_on, ways_on
from raysplit.runs.folder import read_metrics, read_summary

SMALL = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": {"name": "random", "num_classes": 3, "num_samples": 90, "dim": 4},
    "partition": {"name": "iid", "num_owners": 3},
    "training": {"rounds": 3, "batch_size": 8},
    "cluster": {"kind": "local"},
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")


@pytest.fixture(autouse=True)
def _interrupts_arrive() -> Iterator[None]:
    """Where the tests run in the background of a shell, they inherit that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def stop_in(monkeypatch: pytest.MonkeyPatch, event: str, when: Any, number: signal.Signals) -> None:
    """Send this process a signal at an event of the run, once."""
    before = getattr(RoundLines, event)

    def then_stop(self: RoundLines, what: Any) -> None:
        before(self, what)
        if what == when or (isinstance(what, dict) and what["round"] == when):
            monkeypatch.setattr(RoundLines, event, before)
            signal.raise_signal(number)

    monkeypatch.setattr(RoundLines, event, then_stop)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_kept_and_says_how_to_go_on(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM, with which schedulers and container runtimes end a process, killed the run without a word."""
    stop_in(monkeypatch, "round_ended", 1, number)
    assert ended("train", "small.yaml", "--name", "one") == code
    assert capsys.readouterr().err.splitlines()[-1] == "kept; go on with: raysplit resume one"
    assert read_summary(Path("runs/one"))["stopped"] == "cut short"
    main(["resume", "one"])
    assert [row["round"] for row in read_metrics(Path("runs/one"))] == [1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_before_its_first_round_leaves_nothing(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_in(monkeypatch, "stage_began", "check", number)
    assert ended("train", "small.yaml", "--name", "one") == 128 + number
    assert capsys.readouterr().err.splitlines()[-1] == "stopped before the first round; nothing is kept"
    assert not Path("runs").exists()


def test_a_stopped_sweep_says_its_own_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "small.yaml", "--over", "seed=0,1", "--name", "s"]
    monkeypatch.setattr("sys.argv", ["raysplit", *arguments])
    monkeypatch.setattr(
        "raysplit.cli.training.sweep._Progress.__call__", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    assert ended(*arguments) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "kept; go on with: raysplit sweep small.yaml --over seed=0,1 --name s"


def test_sigterm_lets_coroutines_clean_up() -> None:
    cleaned = []

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    stop = StopSignals()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop.installed():
        asyncio.run(work())
    assert cleaned
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_ends_a_command_in_the_background() -> None:
    """A shell without job control lets background commands ignore SIGINT; SIGTERM must end them all the same."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), StopSignals().installed():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_mistake_has_no_way_on() -> None:
    with pytest.raises(ValueError, match="wrong") as mistake, going_on(lambda: "go on"):
        raise ValueError("wrong")
    assert ways_on(mistake.value) == []
    with pytest.raises(OSError, match="gone") as failure, going_on(lambda: "outer"), going_on(lambda: "inner"):
        raise OSError("gone")
    assert ways_on(failure.value) == [WayOn("inner")]


def test_a_stopped_run_without_checkpoints_says_that_it_has_to_be_trained_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was told to go on with a plain resume, which refuses it."""
    stop_in(monkeypatch, "round_ended", 1, signal.SIGINT)
    assert ended("train", "small.yaml", "--name", "one", "--set", "reliability.checkpoint_every=null") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "kept, without a checkpoint; train it again with: raysplit resume one --from-start"
    main(["resume", "one", "--from-start"])
