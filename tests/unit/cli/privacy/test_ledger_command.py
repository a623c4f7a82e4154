"""``raysplit ledger`` shows what has left, and says plainly where nothing is promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guarded import secret_in
from support import settings

from raysplit.api import train_config
from raysplit.cli.main import cli
from raysplit.config.run import check_config


def trained(folder: Path, **privacy: Any) -> Path:
    changes: dict[str, Any] = {"algorithm": {"name": "splitnn", "cut": 1}, "privacy": privacy}
    train_config(check_config(settings(**changes)), folder=folder / "run")
    return folder / "run"


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["ledger", *arguments], env={"COLUMNS": "80"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_run_with_guards(tmp_path: Path) -> None:
    privacy = {"z": {"clip": 1, "noise": 2}, "labels": {"epsilon": 1}, "secret_file": secret_in(tmp_path)}
    run = trained(tmp_path, **privacy)
    text = shown(str(run))
    assert "what has left owner-0 (80 samples, 2 rounds)" in text
    assert "gaussian" in text
    assert "owner-2: epsilon" in text
    assert "conditional" in text
    assert "so nothing is credited for sampling" in " ".join(text.split())
    found = json.loads(shown(str(run), "--owner", "owner-1", "--json"))
    (owner,) = found["owners"]
    assert (owner["guarantee"], owner["epsilon"]) == ("conditional", None)
    assert {sent["value"]: sent["mechanisms"] for sent in owner["sent"]}["y"] == ["rr"]
    # two rounds with one use each: mu^2 = 2 (2 / 2)^2, and the labels' epsilon of 1
    assert owner["epsilon_of_mechanisms"] == pytest.approx(1 + 6.571, abs=0.01)
    assert json.loads(shown(str(run / "ledger"), "--json"))["owners"][1] == owner


def test_a_run_without_guards_is_unbounded(tmp_path: Path) -> None:
    text = shown(str(trained(tmp_path)))
    assert "the owners of this run kept no ledger" in text
    assert "owner-0: unbounded" in text


def test_an_unknown_owner_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no ledger of owner-7; there are those of owner-0, owner-1"):
        shown(str(trained(tmp_path, project=4)), "--owner", "owner-7")
