"""The `raysplit` command: help without waiting, and every command within reach."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import raysplit
from raysplit.cli.main import COMMANDS, cli, main, summary


@pytest.mark.parametrize("target", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_in_a_line_what_it_does(target: str) -> None:
    assert len(summary(target)) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cli {command}")


def test_the_version() -> None:
    assert raysplit.__version__ in CliRunner().invoke(cli, ["--version"]).output


def test_help_lists_all_and_does_not_import_torch() -> None:
    code = (
        "import sys; from raysplit.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in COMMANDS if name not in result.stdout] == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`raysplit edge` on an installation without the extra ended in a bare ImportError."""
    for name in [
        name for name in sys.modules if name.startswith("raysplit.serving") or name == "raysplit.cli.serving.edge"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.setattr(sys, "path", [*sys.path])  # `main` puts the working folder in front
    with pytest.raises(SystemExit) as ended:
        main(["edge", "--help"])
    assert ended.value.code == 1
    assert "pip install 'raysplit[serve]' brings it" in " ".join(capsys.readouterr().err.split())
