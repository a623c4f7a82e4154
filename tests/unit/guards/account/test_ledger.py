"""A ledger only grows, is read as it was written, and refuses to be shorter than it was."""

from __future__ import annotations

import errno
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fuzzing import read_or_refused

from raysplit.guards.account.charges import NONE, PAID, Charge, LedgerRefused
from raysplit.guards.account.ledger import Ledger
from raysplit.guards.account.totals import GIVEN_WEIGHTS, read_account, total_of


def charge(value: str = "z", key: str = "a", **more: Any) -> Charge:
    gaussian: dict[str, Any] = {"mechanism": "gaussian", "clip": 1.0, "sigma": 2.0, "mu2": 1.0, "uses": 1}
    return Charge(value=value, round=0, key=key, **{**gaussian, **more})


def written(path: Path) -> Ledger:
    ledger = Ledger("owner-0", 40, path)
    ledger.charge(charge(), charge("y", mechanism="rr", mu2=0.0, epsilon_pure=2.0))
    ledger.step("a", 0, "ff", {})
    ledger.step("a", 1, "fe", {"z": (160, 1)})
    ledger.sent("a", {"z": (160, 1)})
    return ledger


def test_a_key_is_charged_once(tmp_path: Path) -> None:
    with written(tmp_path / "owner-0.jsonl") as ledger:
        ledger.charge(charge(), charge(key="b"), charge(key="b"))
        assert len(ledger.charges) == 3


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with written(tmp_path / "owner-0.jsonl") as before:
        charges = before.charges
    with Ledger("owner-0", 40, tmp_path / "owner-0.jsonl") as after:
        assert after.charges == charges
        assert after.has(charge())
        assert after.known_step("a", 1) == "fe"
        assert after.known_step("a", 2) is None
    account = read_account(tmp_path / "owner-0.jsonl")
    assert (account.owner, account.samples, account.charges) == ("owner-0", 40, tuple(charges))
    assert account.sent == {"z": (320, 2)}


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line begun on a full disk would have been the beginning of the next one."""

    class AlmostFull(io.FileIO):
        left = 20

        def write(self, raw: Any, /) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= (written := super().write(memoryview(raw)[: self.left]))
            return written

    path = tmp_path / "owner-0.jsonl"
    with written(path) as ledger:
        before, charges = path.read_bytes(), list(ledger.charges)
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "_file", AlmostFull(path, "ab"))
            with pytest.raises(OSError, match="No space left"):
                ledger.charge(charge(key="c"))
        assert path.read_bytes() == before
        assert ledger.charges == charges
        ledger.charge(charge(key="d"))
    assert [c.key for c in read_account(path).charges] == ["a", "a", "d"]


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    """Its message had not left: lines are on the disk before."""
    path = tmp_path / "owner-0.jsonl"
    with written(path) as ledger:
        size = ledger.mark().size
    with path.open("ab") as file:
        file.write(b'{"value":"z","rou')
    with Ledger("owner-0", 40, path) as ledger:
        assert ledger.mark().size == size
        ledger.charge(charge(key="c"))
    assert len(read_account(path).charges) == 3


def test_a_ledger_that_is_shorter_or_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "owner-0.jsonl"
    with written(path) as ledger:
        mark = ledger.mark()
        ledger.require_since(mark)
    content = path.read_bytes()
    path.write_bytes(content[:-200])
    with Ledger("owner-0", 40, path) as ledger, pytest.raises(LedgerRefused, match=r"had .* when the checkpoint was"):
        ledger.require_since(mark)
    path.write_bytes(content.replace(b'"mu2":1.0', b'"mu2":0.5'))
    with Ledger("owner-0", 40, path) as ledger, pytest.raises(LedgerRefused, match="was changed since the checkpoint"):
        ledger.require_since(mark)
    path.unlink()
    with Ledger("owner-0", 40, path) as ledger, pytest.raises(LedgerRefused, match="has 0 bytes"):
        ledger.require_since(mark)


def test_one_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "owner-0.jsonl"
    with written(path), pytest.raises(LedgerRefused, match="another process writes"):
        Ledger("owner-0", 40, path)


def test_it_is_the_ledger_of_one_owner(tmp_path: Path) -> None:
    written(tmp_path / "owner-0.jsonl").close()
    with pytest.raises(LedgerRefused, match="is the ledger of owner-0, not of owner-1"):
        Ledger("owner-1", 40, tmp_path / "owner-0.jsonl")


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_ledger_is_read_or_refused(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "owner-0.jsonl"
    written(path).close()
    draws, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(draws.randint(1, 4)):
        content[draws.randrange(len(content))] = draws.choice(b'0-9.e{}[]":,\n\x00')
    path.write_bytes(content[: draws.randint(0, len(content))] if seed % 3 == 0 else content)
    account = read_or_refused(lambda: read_account(path), str(path), errors=(LedgerRefused,))
    assert account is None or account.total(1e-5).epsilon >= 0


def test_lines_hold_no_secret(tmp_path: Path) -> None:
    written(tmp_path / "owner-0.jsonl").close()
    lines = [json.loads(line) for line in (tmp_path / "owner-0.jsonl").read_text().splitlines()]
    assert {key for line in lines for key in line} <= {
        *("owner", "samples", "version", "step", "key", "at", "sent"),
        *Charge.__dataclass_fields__,
    }


OPEN: dict[str, Any] = {"mechanism": NONE, "mu2": 0.0}
CASES: list[tuple[list[Charge], str]] = [
    ([charge("z", **OPEN), charge("y", **OPEN), charge("weights", **OPEN)], "none"),
    ([charge("z", reason=GIVEN_WEIGHTS), charge("y", mechanism="rr"), charge("weights", **OPEN)], "conditional"),
    ([charge("z", reason=GIVEN_WEIGHTS), charge("y", mechanism="rr")], "conditional"),
    ([charge("z", **OPEN), charge("y", mechanism="rr"), charge("weights")], "none"),
    ([charge("z"), charge("y", mechanism="rr"), charge("weights"), charge("snapshot", mechanism=PAID)], "total"),
    ([charge("z"), charge("y", mechanism="rr"), charge("weights", mechanism=PAID)], "total"),
    ([charge("weights"), charge("report", mechanism="laplace", mu2=0.0, epsilon_pure=0.1)], "total"),
    ([charge("weights"), charge("report", **OPEN)], "none"),
    ([charge("weights", rehearsal=True)], "rehearsal"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_guarantee_by_what_is_guarded(case: int) -> None:
    charges, expected = CASES[case]
    total = total_of(charges, 1e-5)
    assert total.guarantee == expected
    assert (total.bound is None) == (expected != "total")
    assert bool(total.reason) == (expected != "total")


def test_parts_of_a_total_add_up() -> None:
    charges = [
        charge(key="1", mu2=3.0),
        charge(key="2", mu2=1.0),
        charge("y", mechanism="rr", mu2=0.0, epsilon_pure=2.0),
    ]
    assert total_of(charges, 1e-5).epsilon == pytest.approx(2.0 + 9.997256, abs=1e-6)
