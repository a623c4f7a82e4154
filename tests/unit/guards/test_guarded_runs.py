"""Whole runs with guards: recovery, resume, and ledgers that are cut off anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from disturbed import Killed, Killer
from guarded import NOISY, TRAINING, accounts, guarded, secret_in
from support import same, settings

from raysplit.api import resume, train_config
from raysplit.cluster.faults import Fault
from raysplit.config.run import check_config
from raysplit.guards.account import ledger as ledgers

# -- whole runs --------------------------------------------------------------------------------------------------

METHODS: dict[str, dict[str, Any]] = {
    "splitnn": {"cut": 1},
    "splitfed_v1": {"cut": 1},
    "minibatch_sfl": {"cut": 1, "sync_every": 3},
    "mtsl": {"cut": 1},
}
MORE: dict[str, dict[str, Any]] = {"splitfed_v1": {"weights": {"clip": 1, "noise": 1}}, "mtsl": {"project": 4}}


def changes_of(name: str, folder: Path, ledger: str, **privacy: Any) -> dict[str, Any]:
    kept = {"secret_file": secret_in(folder), "ledger": str(folder / ledger)}
    section = {**NOISY, **MORE.get(name, {}), **kept, **privacy}
    return {"algorithm": {"name": name, **METHODS[name]}, "training": TRAINING, "privacy": section}


def totals(folder: Path) -> list[tuple[float, int]]:
    return [(account.total(1e-5).epsilon, account.samples) for account in accounts(folder)]


@pytest.mark.parametrize("name", METHODS)
def test_recovery_is_exact_and_free(name: str, tmp_path: Path) -> None:
    whole = guarded(**changes_of(name, tmp_path, "whole"))
    faults = [Fault(party="owner-0", verb="run_round", at_call=2, turns=4), Fault(party="server", at_call=12)]
    disturbed = guarded(faults=faults, **changes_of(name, tmp_path, "disturbed"))
    assert all(same(disturbed.states[label], whole.states[label]) for label in whole.states)
    assert totals(tmp_path / "disturbed") == totals(tmp_path / "whole")


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_is_exact_and_does_not_count_twice(name: str, tmp_path: Path) -> None:
    whole = train_config(check_config(settings(**changes_of(name, tmp_path, "whole"))), folder=tmp_path / "a")
    config = check_config(settings(**changes_of(name, tmp_path, "cut")))
    with pytest.raises(Killed):
        train_config(config, folder=tmp_path / "b", callbacks=[Killer(2)])
    resumed = resume(tmp_path / "b")
    assert all(same(resumed.states[label], whole.states[label]) for label in whole.states)
    assert totals(tmp_path / "cut") == totals(tmp_path / "whole")


def test_killed_at_every_line_of_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written before a message left stays, and the repeated run adds nothing to the total."""
    changes = changes_of("splitnn", tmp_path, "whole") | {"partition": {"num_owners": 2}}
    changes["training"] = {**TRAINING, "rounds": 1, "max_steps": 2}
    guarded(**changes)
    whole, append = totals(tmp_path / "whole"), ledgers.Ledger._append
    lines = sum(len(path.read_bytes().splitlines()) for path in (tmp_path / "whole").glob("*.jsonl"))
    assert lines > 15
    for number in range(0, lines, 2):
        left = [number]

        def failing(ledger: Any, line: Any, *, sync: bool, left: list[int] = left) -> None:
            append(ledger, line, sync=sync)
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        folder = tmp_path / f"killed-{number}"
        again = {**changes, "privacy": {**changes["privacy"], "ledger": str(folder)}}
        monkeypatch.setattr(ledgers.Ledger, "_append", failing)
        if number:
            with pytest.raises(Killed):
                guarded(**again)
        before = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
        monkeypatch.setattr(ledgers.Ledger, "_append", append)
        guarded(**again)
        assert totals(folder) == whole
        assert all((folder / name).read_bytes().startswith(content) for name, content in before.items())


def test_a_shortened_ledger_is_refused_at_resume(tmp_path: Path) -> None:
    config = check_config(settings(**changes_of("splitnn", tmp_path, "ledger")))
    with pytest.raises(Killed):
        train_config(config, folder=tmp_path / "run", callbacks=[Killer(2)])
    path = tmp_path / "ledger" / "owner-1.jsonl"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"the ledger .*owner-1.jsonl of owner-1 has .* put the file back"):
        resume(tmp_path / "run")
