"""`raysplit train --dry-run` says what would run where, and leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import shell

SMALL = ("--set", "data={name: digits, train_samples: 60, test_samples: 20}", "--set", "partition.num_owners=3")
CUT = (
    "--set",
    "algorithm={name: minibatch_sfl, cut: 1}",
    "--set",
    "training={rounds: 4, batch_size: 10, local_epochs: 1}",
)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_it_names_parties_places_cuts_sizes_and_bytes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    places = ("--set", "cluster={kind: ray, places: 2, num_cpus: 2}")
    code, out, _ = shell(capsys, "train", *SMALL, *CUT, *places, "--name", "mine", "--dry-run")
    assert code == 0
    text = " ".join(out.replace("│", " ").split())
    for said in (
        "MiniBatch-SFL, 4 rounds: model cnn8, data digits",
        "3 owners with 20 training samples and 2 mini-batches a round; links: no codec",
        "cut after 1",
        "1 of 2 owner-0, owner-1 and 1 more 640 B 16x8x8 float32, 4.0 KiB",
        "2 of 2 server",
        "place-0 owner-0, owner-2",
        "a Ray with 2 CPUs would be started on this machine",
        "bytes of the first round:",
        "run folder: runs/mine (not made)",
        "nothing was trained, started or written",
    ):
        assert said in text
    assert list(tmp_path.iterdir()) == []


def test_programs_read_the_bytes_that_the_run_then_sends(capsys: pytest.CaptureFixture[str]) -> None:
    local = ("--set", "cluster.kind=local", "--name", "mine")
    _, out, _ = shell(capsys, "train", *SMALL, *CUT, *local, "--dry-run", "--json")
    found = json.loads(out)
    shell(capsys, "train", *SMALL, *CUT, *local, "--quiet")
    row = json.loads(Path("runs/mine/metrics.jsonl").read_text().splitlines()[0])
    assert sum(found["round_bytes"].values()) == row["bytes"]
    assert found["total_bytes"] == 4 * row["bytes"]
    assert found["places"].keys() == {"this process"}


def test_it_refuses_what_the_run_would_be_refused_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/config.yaml").write_text("{}")
    code, _, err = shell(capsys, "train", *SMALL, "--name", "mine", "--dry-run")
    assert (code, "runs/mine already holds a run" in err) == (2, True)
    code, _, err = shell(capsys, "train", *SMALL, "--set", "algorithm={name: splitfed_v1, cut: conv9}", "--dry-run")
    assert (code, "conv9" in err) == (2, True)


def test_bytes_of_codecs_that_depend_on_values_are_an_upper_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """The largest sizes were shown as if they were sent: 774 KiB in a round that sent 585."""
    split = ("--set", "algorithm={name: splitfed_v2, cut: 1}", "--set", "cluster.kind=local")
    coded = ("--set", "links.smashed=[{codec: int4, bits: adaptive}, zstd]")
    out, exact = (
        " ".join(shell(capsys, "train", *SMALL, *split, *links, "--dry-run")[1].split())
        for links in (coded, ("--set", "links.smashed=int8"))
    )
    assert "bytes of the first round: at most" in out
    assert "bytes of 10 rounds: at most" in out
    assert "sizes depend on the values; raysplit codecs measures them" in out
    assert "bytes of the first round: " in exact
    assert "at most" not in exact


def test_bytes_that_depend_on_values_are_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "algorithm={name: mtsl, cut: 1}", "--set", "cluster.kind=local")
    _, out, _ = shell(capsys, "train", *SMALL, *settings, "--dry-run")
    assert "bytes: not known before the run, because mtsl depends on the values of tensors" in " ".join(out.split())


def test_the_configuration_of_a_run_runs_again_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Its weights are those of the first run, bit for bit."""
    local = ("--set", "cluster.kind=local", "--quiet")
    shell(capsys, "train", *SMALL, *CUT, *local, "--name", "first")
    code, out, err = shell(capsys, "train", "runs/first/config.yaml", "--name", "again", "--quiet")
    assert (code, "run folder: runs/again" in out, err) == (0, True, "")
    assert Path("runs/first/model.pt").read_bytes() == Path("runs/again/model.pt").read_bytes()
    code, _, err = shell(capsys, "train", "runs/first/config.yaml")
    assert (code, "runs/first already holds a run" in err) == (2, True)
