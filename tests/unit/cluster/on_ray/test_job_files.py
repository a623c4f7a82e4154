"""What is sent with a job, what is refused before anything is sent, and what a person reads of it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

import raysplit
from raysplit.cli.training.submit import readable
from raysplit.cluster.on_ray.job_files import CONFIG_NAME, results_root, stage, training_job


def test_the_job_trains_in_the_given_run_folder(tmp_path: Path) -> None:
    job = training_job(folder="s3://bucket/my runs/digits", staged=tmp_path)
    command = ["python", "-m", "raysplit", "train", CONFIG_NAME]
    settings = ["--set", "output.root=s3://bucket/my runs", "--name", "digits", "--json"]
    assert shlex.split(job.entrypoint) == [*command, *settings]
    assert job.runtime_env["working_dir"] == str(tmp_path)
    assert job.runtime_env["py_modules"] == [str(Path(raysplit.__file__).parent)]
    assert job.folder == "s3://bucket/my runs/digits"


def test_the_machines_own_package_can_be_used(tmp_path: Path) -> None:
    job = training_job(folder="/runs/a", staged=tmp_path, package="installed", env_vars={"A": "1"})
    assert job.runtime_env == {"working_dir": str(tmp_path), "env_vars": {"A": "1"}}


def test_configuration_and_code_are_staged_side_by_side(tmp_path: Path) -> None:
    code, target = tmp_path / "code", tmp_path / "staged"
    (code / "nets").mkdir(parents=True)
    target.mkdir()
    (code / "nets" / "mine.py").write_text("x = 1\n")
    (code / "left_out.bin").write_bytes(b"0" * 10)
    assert stage(target, "seed: 1\n", code, [code / "nets" / "mine.py"]) == 6 + 8
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*.*")) == ["nets/mine.py", CONFIG_NAME]
    assert (target / CONFIG_NAME).read_text() == "seed: 1\n"


def test_what_is_too_large_is_named_and_not_sent(tmp_path: Path) -> None:
    code, target = tmp_path / "code", tmp_path / "staged"
    code.mkdir()
    target.mkdir()
    for name, size_mib in (("data.bin", 90), ("more.bin", 20)):
        with (code / name).open("wb") as file:
            os.truncate(file.fileno(), size_mib * 2**20)  # sparse: takes no room
    message = (
        r"holds 110.0 MiB to send, and a job may have 100 MiB; the largest files are data.bin \(90.0 MiB\), more.bin"
    )
    with pytest.raises(ValueError, match=message):
        stage(target, "", code, sorted(code.iterdir()))
    assert not list(target.iterdir())


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265", "http://[::1]:8265"])
def test_on_this_machine_a_relative_folder_is_this_machines(address: str) -> None:
    assert results_root("runs", address) == os.path.abspath("runs")


def test_elsewhere_results_need_a_place_that_outlives_the_job() -> None:
    assert results_root("gs://bucket/runs/", "http://head:8265") == "gs://bucket/runs"
    assert results_root("/shared/runs", "http://head:8265") == "/shared/runs"
    with pytest.raises(ValueError, match=r"relative folder 'runs' and the cluster is at head, .* set output.root"):
        results_root("runs", "http://head:8265")


def test_rounds_are_told_in_words_and_other_lines_as_they_are() -> None:
    row = {"round": 3, "train_loss": 0.5, "test_accuracy": 0.75, "samples_per_s": 1234.0, "bytes_total": 2048}
    words = ["round", "3:", "loss", "0.500", "accuracy", "0.750", "2.0", "KiB"]
    assert readable(json.dumps(row)).split() == words
    assert readable(json.dumps({"summary": {"stopped": "all rounds done"}})) == "ended: all rounds done"
    assert readable("Running entrypoint") == "Running entrypoint"
    assert readable("[1, 2]") == "[1, 2]"
