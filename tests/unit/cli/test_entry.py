"""The entry of the command: it can be stopped before the command line is loaded."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STOPPED_WHILE_LOADING = """
import builtins, os, signal
from raysplit.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with another

load = builtins.__import__

def stopped(name, *rest):
    if name == "raysplit.cli.main":
        os.kill(os.getpid(), {number})
    return load(name, *rest)

builtins.__import__ = stopped
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_is_loaded_ends_it_with_a_line(number: signal.Signals) -> None:
    """Ctrl-C within the first tenth of a second printed a traceback out of an import."""
    code = STOPPED_WHILE_LOADING.format(number=int(number))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "stopped\n")
