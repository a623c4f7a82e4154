"""Copies of runs that others have made: they lie where this program puts them, and nothing else is touched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from object_stores import s3
from pyarrow import fs
from support import metrics_row

from raysplit.cli.main import cli
from raysplit.runs.remote import RemoteCopy, existing_folder, fetched, new_folder, runs_below

CONFIG = "algorithm: {name: fedavg}\ntraining: {rounds: 2}\npartition: {name: iid, num_owners: 2}\n"


def told(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder that other programs use, a cache, and a run ``up/sub``."""
    for name in ("tmp/theirs", "up/sub"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tmp/theirs/file").write_text("theirs")
    (tmp_path / "up/config.yaml").write_text(CONFIG)
    (tmp_path / "up/sub/config.yaml").write_text(CONFIG)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("end", ["sub/..", "sub/.", "sub/../..", "%2e%2e", "sub/%2E%2E", "..", "", "/"])
@pytest.mark.parametrize("command", ["resume", "show", "compare"])
def test_a_uri_that_leads_up_deletes_nothing(command: str, end: str, world: Path) -> None:
    """``raysplit resume file:///path/up/sub/..`` took ``..`` for the name of the copy: all of /tmp was deleted."""
    before = tree(world)
    uri = f"file://{world}/up/{end}" if end.strip("/") else f"file://{end}"
    found = told(command, uri)
    assert isinstance(found.exception, ValueError), found.output
    assert {name: text for name, text in tree(world).items() if not name.startswith("cache")} == before


def test_a_planted_link_gets_nothing(world: Path) -> None:
    """A link at the foreseeable place of a copy, in the temporary folder, sent the run's files where it pointed."""
    (world / "tmp/raysplit-runs").symlink_to(world / "tmp/theirs")
    assert told("show", f"file://{world}/up/sub").exit_code == 0
    assert tree(world / "tmp/theirs") == {"file": "theirs"}
    copies = list((world / "cache/runs").iterdir())
    assert [copy.stat().st_mode & 0o777 for copy in copies] == [0o700]


def test_a_figure_about_a_copy_outlives_the_copy(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    (world / "up/sub/metrics.jsonl").write_text(json.dumps(metrics_row(1, test_accuracy=0.5)) + "\n", encoding="utf-8")
    assert "figure: comparison.png" in told("compare", f"file://{world}/up/sub").output
    assert (world / "comparison.png").exists()


def test_links_out_of_a_folder_are_not_copied(world: Path) -> None:
    secret = world / "tmp/theirs"
    for name in ("data.json", "deep"):
        (world / "up/sub" / name).symlink_to(secret / "file" if name == "data.json" else secret)
        with pytest.raises(ValueError, match="links out of a folder are not followed"):
            fetched(f"file://{world}/up/sub")
        (world / "up/sub" / name).unlink()


def keys_in(
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, str],
    folder: str = "kept/runs/x",
    sizes: dict[str, int] | None = None,
) -> list[str]:
    """Have a store with these keys below a folder; return the list of the paths that are opened there.

    It lists a key in ``sizes`` with that size, and sends the text of a key without end where that is ``endless``.
    """
    opened: list[str] = []

    class Store:
        def get_file_info(self, selector: Any) -> list[Any]:
            told = {key: len(text) for key, text in keys.items()} | (sizes or {})
            return [fs.FileInfo(key, fs.FileType.File, size=told[key]) for key in told]

        def open_input_stream(self, path: str) -> Any:
            import io

            opened.append(path)
            return Endless() if keys[path] == "endless" else io.BytesIO(keys[path].encode())

    monkeypatch.setattr("raysplit.runs.remote.opened", lambda uri, what: (Store(), folder))
    return opened


@pytest.mark.parametrize(
    "key",
    [
        "kept/runs/x/../../../../../../../../etc/evil", "kept/runs/x/..", "kept/runs/x//evil", "kept/runs/x/./evil",
        "kept/runs/x/a\\..\\evil", "kept/runs/other/evil", "kept/runs/x", "evil", "kept/runs/x/a\x1b[2Jb",
    ],
)  # fmt: skip
def test_a_key_that_leads_out_is_refused_before_anything_is_written(
    key: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys with ``..`` replaced files of the user outside the copy, before anything was printed."""
    opened = keys_in(monkeypatch, {"kept/runs/x/config.yaml": CONFIG, key: "evil"})
    with pytest.raises(ValueError, match="s3://kept/runs/x is not copied, because of one of its files"):
        fetched("s3://kept/runs/x")
    assert opened == []
    assert not list((world / "cache").rglob("*config*"))


class Endless:
    """A file that a store sends for ever."""

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, count: int) -> bytes:
        return bytes(count)


@pytest.mark.parametrize(
    ("keys", "sizes", "message"),
    [
        ({"model.pt": ""}, {"model.pt": 2**60}, "bytes, and .* are free at"),
        ({"a": "", "a/b": ""}, {}, "'a' is a file and a folder there"),
        ({"a/b": "", "a/b/c/d": ""}, {}, "'a/b' is a file and a folder there"),
        ({}, {f"checkpoints/{number}": 1 for number in range(100_001)}, "100,002 files, and a run has at most 100,000"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    keys: dict[str, str], sizes: dict[str, int], message: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket filled the disk when a run in it was shown, or ended in an error of the file system half way."""
    place = "kept/runs/x/"
    everything = {f"{place}config.yaml": CONFIG, **{place + key: text for key, text in keys.items()}}
    opened = keys_in(monkeypatch, everything, sizes={place + key: size for key, size in sizes.items()})
    with pytest.raises(ValueError, match=f"s3://kept/runs/x is not copied: .*{message}"):
        fetched("s3://kept/runs/x")
    assert opened == []


def test_a_store_that_sends_more_than_it_lists_is_stopped(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysplit.runs.remote._MOST_ADDED", 2**21)
    keys_in(monkeypatch, {"kept/runs/x/config.yaml": CONFIG, "kept/runs/x/model.pt": "endless"})
    with pytest.raises(ValueError, match=r"model\.pt: the store lists 7 bytes and sends more and more"):
        fetched("s3://kept/runs/x")
    assert sum(path.stat().st_size for path in world.rglob("model.pt")) < 2**22


def test_a_listing_leaves_such_keys_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a/config.yaml", "a/summary.json", "../b/config.yaml", "../b/summary.json"]
    keys_in(monkeypatch, {f"kept/runs/{name}": CONFIG for name in names}, "kept/runs")
    assert runs_below("s3://kept/runs", {"summary.json"}) == [("a", "s3://kept/runs/a")]
    assert "left out: s3://kept/runs is not copied" in caplog.text


def test_a_real_store_with_such_a_key(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with s3(monkeypatch) as uri:
        place, _, options = uri.partition("?")
        source, folder = fs.FileSystem.from_uri(f"{place}/x?{options}")
        source.create_dir(folder)
        with source.open_output_stream(f"{folder}/config.yaml") as file:
            file.write(CONFIG.encode())
        host = options.partition("endpoint_override=")[2].partition("&")[0].replace("%3A", ":")
        client = boto3.client("s3", endpoint_url=f"http://{host}", region_name="us-east-1")
        client.put_object(Bucket="kept", Key="runs/x/../../evil", Body=b"evil")
        found = told("show", f"{place}/x?{options}")
        if isinstance(found.exception, ValueError):
            assert "'..' is no name" in str(found.exception)
        else:
            assert found.exit_code == 0  # the store has normalised the key
        assert not list(world.rglob("evil"))


def test_only_files_of_a_run_are_replaced_at_a_uri(world: Path) -> None:
    """``--overwrite`` deleted whatever lay beside a configuration."""
    store = world / "up/sub"
    (store / "notes.txt").write_text("mine")
    (store / "checkpoints").mkdir()
    (store / "checkpoints/round-000001.ckpt").write_text("old")
    with new_folder(f"file://{store}", overwrite=True) as (local, _):
        local.mkdir()
        (local / "config.yaml").write_text("seed: 1")
    assert tree(store) == {"config.yaml": "seed: 1", "notes.txt": "mine"}


def test_a_run_that_goes_on_takes_back_what_it_moves(world: Path) -> None:
    """A file that was fetched and is then set aside must not stay at the URI under its old name."""
    store = world / "up/sub"
    (store / "model.pt").write_text("old")
    with existing_folder(f"file://{store}") as (local, _):
        os.replace(local / "model.pt", local / "last.pt")
    assert tree(store) == {"config.yaml": CONFIG, "last.pt": "old"}


def test_a_local_folder_that_is_gone_deletes_nothing_at_the_uri(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Temporary folders are swept by machines; the copy of a run would have been emptied in turn."""
    local = world / "local"
    local.mkdir()
    (local / "config.yaml").write_text("seed: 1")
    mirror = RemoteCopy(local, f"file://{world}/store")
    mirror.push()
    (local / "config.yaml").unlink()
    local.rmdir()
    mirror.push()
    assert tree(world / "store") == {"config.yaml": "seed: 1"}
    assert "is gone from this machine" in caplog.text
