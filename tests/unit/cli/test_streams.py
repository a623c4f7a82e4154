"""Output survives streams that cannot encode all of it."""

from __future__ import annotations

import io
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from raysplit.cli.main import COMMANDS, cli, main
from raysplit.cli.streams import show_any_text

OLD = Path(__file__).parents[2] / "data" / "runs_0_1"


def shown(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> tuple[str, str]:
    """Run a command with streams of an encoding; gives what they show."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") for _ in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", streams[0])
        patched.setattr(sys, "stderr", streams[1])
        patched.setattr(sys, "path", list(sys.path))
        with suppress(SystemExit):
            main(list(arguments))
        for stream in streams:
            stream.flush()
    texts = [stream.buffer.getvalue().decode(encoding) for stream in streams]  # type: ignore[attr-defined]
    return texts[0], texts[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "größe"),
        (["show", "größe"], "größe: mtsl, all rounds done"),
        (["compare", "größe", "mas"], "4.153"),
        (
            ["plan", "--profile", "vgg19_mpsl_vm", "--units", "3:21", "--owners", "1", "--node", "64GiB:1"],
            "cuts [3, 22]",
        ),
        (["show", "–\ud83d→"], ""),
        (["train", "--set", "data.name=größe±"], ""),
    ],
)
def test_every_command_ends_as_it_would(
    encoding: str, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``PYTHONIOENCODING=ascii`` or ``cp1252`` tables ended in UnicodeEncodeError."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD / "mtsl", tmp_path / "runs" / "größe")
    shutil.copytree(OLD / "mas", tmp_path / "runs" / "mas")
    out, err = shown(monkeypatch, encoding, *arguments)
    wanted = words if encoding != "ascii" else words.replace("ö", "\\xf6").replace("ß", "\\xdf")
    assert wanted in out
    assert "UnicodeEncodeError" not in out + err
    assert (words == "") == any(line.startswith("error: ") for line in err.splitlines())


def test_a_plain_character_stands_for_one_that_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    show_any_text()
    stream.write("95.7 ± 0.2 – a × b … ü \ud83d")
    stream.flush()
    assert stream.buffer.getvalue() == rb"95.7 +- 0.2 - a x b ... \xfc \ud83d"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_ascii(name: str) -> None:
    """click writes help in UTF-8 where the encoding is ASCII."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    assert all(one.get_help(click.Context(one)).isascii() for one in commands)
