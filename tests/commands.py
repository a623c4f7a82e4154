"""The command line as the shell sees it: exit code, output and errors."""

from __future__ import annotations

import sys

import pytest

from raysplit.cli.main import main


def shell(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; gives its exit code, output and errors."""
    capsys.readouterr()
    before = list(sys.path)
    try:
        code = main([str(argument) for argument in arguments]) or 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.path[:] = before
    captured = capsys.readouterr()
    return code, captured.out, captured.err
