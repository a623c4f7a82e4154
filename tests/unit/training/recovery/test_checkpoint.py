"""A checkpoint is loaded as it was saved, or refused by name; the one before is then used."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from disturbed import Killed, Killer, changes
from hypothesis import given, settings
from hypothesis import strategies as st
from object_stores import STORES
from support import metrics_row, same, train
from support import settings as settings_of

from raysplit.api import resume, train_config
from raysplit.cluster.contract import LinkTraffic
from raysplit.config.run import check_config
from raysplit.training.recovery.checkpoint import Checkpoint, CheckpointRefused, Checkpoints, decoded

MAGIC = b"raysplit checkpoint 2\n"


def checkpoint(rounds: int = 1, **changes: Any) -> Checkpoint:
    content: dict[str, Any] = {
        "rounds": rounds,
        "fingerprint": "f",
        "parties": {
            "server": {
                "average": None,
                "replicas": {"all owners": {"weights": {"w": torch.arange(6.0).view(2, 3)}, "lr": 0.1}},
            },
            "owner-0": {"parts": [{"optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}}]},
        },
        "memory": {"holder": "owner-1"},
        "rows": [metrics_row(n, train_loss=0.1 + 0.2) for n in range(1, rounds + 1)],
        "traffic": [LinkTraffic(source="a", destination="b", num_bytes=8, num_messages=1)],
    }
    return Checkpoint(**content | changes)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path / "c")
    place.save(checkpoint())
    found = place.newest("f", {})
    assert found is not None
    assert found.parties["server"]["replicas"]["all owners"]["weights"]["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.parties["owner-0"]["parts"][0]["optimizer"]["state"][0]["momentum_buffer"].tolist() == [1, 1]
    assert (found.memory, found.rows) == ({"holder": "owner-1"}, [metrics_row(1, train_loss=0.30000000000000004)])
    assert found.traffic == [LinkTraffic(source="a", destination="b", num_bytes=8, num_messages=1)]


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path, keep_last=2)
    for rounds in range(1, 6):
        place.save(checkpoint(rounds), is_best=rounds == 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "round-000004.ckpt", "round-000005.ckpt"]
    assert place.load("best.ckpt").rounds == 2


def test_what_lies_beyond_a_round_can_be_dropped(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path, keep_last=9)
    for rounds in (1, 2, 3):
        place.save(checkpoint(rounds))
    place.drop_after(1)
    assert place.names() == ["round-000001.ckpt"]


def test_an_empty_place_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing here").newest("f", {}) is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:-7], "torn or changed"),
        (lambda data: data[:30], "torn or changed"),
        (lambda data: b"", "is not a checkpoint of this version: it begins with b''"),
        (lambda data: b"PK\x03\x04" + data, r"begins with b'PK\\x03\\x04raysplit che'"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "torn or changed"),
    ],
)
def test_a_spoilt_file_is_named_and_the_one_before_is_used(
    spoil: Any, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Checkpoints(tmp_path)
    place.save(checkpoint(1))
    place.save(checkpoint(2))
    last = tmp_path / "round-000002.ckpt"
    last.write_bytes(spoil(last.read_bytes()))
    with pytest.raises(CheckpointRefused, match=reason):
        place.load(last.name)
    with caplog.at_level(logging.WARNING):
        found = place.newest("f", {})
    assert found is not None
    assert found.rounds == 1
    assert "round-000002.ckpt" in caplog.text
    assert "using the one before" in caplog.text


def test_a_checkpoint_of_another_run_is_refused_with_the_settings_that_differ(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path)
    place.save(checkpoint(1, fingerprint="another"))
    with pytest.raises(CheckpointRefused, match="was written with other settings, or by another version"):
        place.newest("f", {"seed": 1})
    place.save(checkpoint(2, fingerprint="another", settings={"seed": 2, "training": {"rounds": 3, "lr": 1}}))
    reason = r"2.ckpt was written with training.rounds 3, which is 4 now; training.lr 1, which is not set now\n"
    with pytest.raises(CheckpointRefused, match=reason):
        place.newest("f", {"seed": 2, "training": {"rounds": 4}})


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("intruder was here"),)


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with a right sum: nothing but tensors and plain values is ever loaded."""
    monkeypatch.chdir(tmp_path)
    body = io.BytesIO()
    torch.save({"rounds": Intruder()}, body)
    data = MAGIC + hashlib.sha256(body.getvalue()).digest() + body.getvalue()
    with pytest.raises(CheckpointRefused, match="evil does not contain a checkpoint"):
        decoded(data, "evil")
    assert list(tmp_path.iterdir()) == []


GOOD = checkpoint().encoded()
OTHER = checkpoint(7).encoded()


@pytest.mark.parametrize(
    ("change", "entries"),
    [
        (lambda c: c["parties"]["server"]["replicas"]["all owners"].update(lr=0.05), "parties.server"),
        (lambda c: c["parties"].update(server=c["parties"]["owner-0"]), "parties.server"),
        (lambda c: c["parties"].pop("owner-0"), "parties.owner-0"),
        (lambda c: c["memory"].update(holder="owner-0"), "memory"),
        (lambda c: c["rows"][0].update(train_loss=1), "rows"),
        (lambda c: (c.update(excluded=["owner-0"]), c.update(attempts=1)), "attempts, excluded"),
        (lambda c: c["digests"].pop("rows"), "rows"),
        (lambda c: c.pop("digests"), "it lacks the digests"),
    ],
)
def test_content_that_was_changed_under_a_right_sum_is_named(change: Any, entries: str) -> None:
    """Half the learning rate in a party's state, or the state of another, was gone on from without a word."""
    content = torch.load(io.BytesIO(GOOD[len(MAGIC) + 32 :]), weights_only=True)
    change(content)
    body = io.BytesIO()
    torch.save(content, body)
    with pytest.raises(CheckpointRefused, match=f"^x does not contain a checkpoint: {entries}"):
        decoded(MAGIC + hashlib.sha256(body.getvalue()).digest() + body.getvalue(), "x")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_fuzzed_file_is_loaded(data: st.DataObject) -> None:
    """Cut off, bits flipped, pieces swapped with those of another checkpoint."""
    kind = data.draw(st.sampled_from(["cut", "flip", "splice"]))
    at = data.draw(st.integers(0, len(GOOD) - 1))
    if kind == "cut":
        spoilt = GOOD[:at]
    elif kind == "flip":
        spoilt = GOOD[:at] + bytes([GOOD[at] ^ (1 << data.draw(st.integers(0, 7)))]) + GOOD[at + 1 :]
    else:
        spoilt = GOOD[:at] + OTHER[at:]
    if spoilt not in (GOOD, OTHER):
        with pytest.raises(CheckpointRefused, match="fuzzed"):
            decoded(spoilt, "fuzzed")


def test_a_place_that_nobody_knows_is_an_error_with_its_name() -> None:
    with pytest.raises(ValueError, match="checkpoints cannot be at nowhere://bucket/folder"):
        Checkpoints("nowhere://bucket/folder")


@pytest.fixture(params=STORES)
def object_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with STORES[request.param](monkeypatch) as uri:
        yield uri


def test_an_object_store_is_like_a_folder(object_store: str) -> None:
    place = Checkpoints(object_store, keep_last=2)
    assert place.newest("f", {}) is None
    for rounds in (1, 2, 3):
        place.save(checkpoint(rounds), is_best=rounds == 1)
    assert place.names() == ["round-000003.ckpt", "round-000002.ckpt"]
    assert place.load("best.ckpt").rounds == 1
    found = place.newest("f", {})
    assert found is not None
    assert found.rounds == 3
    place.drop_after(2)
    assert place.names() == ["round-000002.ckpt"]


def test_a_run_goes_on_from_an_object_store(object_store: str, tmp_path: Path) -> None:
    """The folder of the run has moved meanwhile, its name has not."""
    more = changes("fedavg", reliability={"checkpoint_location": object_store})
    with pytest.raises(Killed):
        train_config(check_config(settings_of(**more)), folder=tmp_path / "here" / "run", callbacks=[Killer(2)])
    assert not (tmp_path / "here" / "run" / "checkpoints").exists()
    (tmp_path / "here").rename(tmp_path / "there")
    assert same(resume(tmp_path / "there" / "run"), train(**changes("fedavg")))
