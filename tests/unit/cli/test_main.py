"""The `raysplit` command: help without waiting, and every command within reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import raysplit
from raysplit.cli.main import COMMANDS, COMPLETION, HEADINGS, cli, main, summary
from raysplit.config.run import RunConfig
from raysplit.models.classifier.heads import FEATURE_CUTS
from raysplit.schedulers.grouping.when import SEARCHES
from raysplit.serving.compression import Encoding


@pytest.mark.parametrize("target", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_in_a_line_what_it_does(target: str) -> None:
    """With the name of the command, the line fits a terminal of 80 columns."""
    text = summary(target)
    assert 10 < len(text) <= 64
    assert text[0].isupper()
    assert not text.endswith(".")


def test_help_groups_the_commands_by_purpose() -> None:
    lines = CliRunner().invoke(cli, ["--help"], terminal_width=80).output.splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[-6:] == ["Train:", "Look:", "Plan:", "Privacy:", "Serve:", "Machines:"]
    assert [line.split()[0] for line in lines[lines.index("Train:") :] if line.startswith("  ")] == list(COMMANDS)


def test_every_command_has_a_heading() -> None:
    assert {target.split(".")[2] for target in COMMANDS.values()} <= set(HEADINGS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cli {command}")


def commands() -> Iterator[click.Command]:
    """Every command, those of the group `cluster` among them."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield command
        yield from command.commands.values() if isinstance(command, click.Group) else ()


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: str(command.name))
def test_help_texts_are_sentences_on_a_line_each(command: click.Command) -> None:
    """In a terminal of 100 columns; where the option itself is too long, its text has a line of its own."""
    context = click.Context(command, info_name=command.name, terminal_width=100)
    assert command.get_short_help_str(200) == command.get_short_help_str(66), "the first paragraph is one line"
    options = [option for option in command.params if isinstance(option, click.Option)]
    for option in options:
        assert option.help
        assert option.help[0].isupper()
        assert option.help.endswith(".")
        assert "RANGE" not in option.make_metavar(context)
    text = command.get_help(context)
    wrapped = [option.name for option in options if str(option.help) not in text]
    assert not wrapped, text


def test_help_of_no_command_waits_for_large_packages() -> None:
    code = (
        "import sys; from raysplit.cli.main import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit: pass\n"
        "    found = {'torch', 'ray', 'matplotlib', 'pyarrow', 'numpy', 'pydantic', 'jinja2'} & set(sys.modules)\n"
        "    if found: sys.exit(f'{command}: {sorted(found)}')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_choices_are_those_of_the_modules_that_help_does_not_load() -> None:
    def choices(command: str, option: str) -> list[str]:
        found = cli.get_command(click.Context(cli), command)
        assert found is not None
        (kind,) = [parameter.type for parameter in found.params if parameter.name == option]
        assert isinstance(kind, click.Choice)
        return list(kind.choices)

    assert choices("affinity", "mode") == [*SEARCHES, "hoa"]
    assert choices("split-cost", "cut") == list(FEATURE_CUTS)
    assert set(choices("edge", "encoding")) <= {"trained", *(encoding.name.lower() for encoding in Encoding)}


def test_the_help_of_train_names_every_section() -> None:
    text = CliRunner().invoke(cli, ["train", "--help"]).output
    assert [key for key in RunConfig.model_fields if key != "seed" and key not in text] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["raysplit", "sho"], ["plain,show"]),
        (["raysplit", "show", "mi"], ["plain,mine"]),
        (["raysplit", "new", "x", "--template", "own-m"], ["plain,own-model"]),
    ],
)
def test_a_shell_completes_commands_runs_and_choices(words: list[str], expected: list[str], tmp_path: Path) -> None:
    """The answer was followed by an error: click ends the program by itself, which was taken for a user's code."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    (folder / "metrics.jsonl").write_text("")
    code = "import sys; sys.argv[0] = 'raysplit'; from raysplit.cli.main import main; main()"
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), COMPLETION: "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | asked
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, expected, "")


def test_h_is_short_for_help() -> None:
    """In processes of their own: a command keeps the names of the context in which its help was first asked for."""
    program = [sys.executable, "-m", "raysplit", "train"]
    short, long = (subprocess.run([*program, name], capture_output=True, text=True) for name in ("-h", "--help"))
    assert (short.returncode, short.stdout) == (0, long.stdout)


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


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`raysplit edge` on an installation without the extra ended in a bare ImportError."""
    for name in [
        name for name in sys.modules if name.startswith("raysplit.serving") or name == "raysplit.cli.serving.edge"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(SystemExit) as ended:
        main(["edge", str(tmp_path), "image.png", "--server", "http://127.0.0.1:8000"])
    assert ended.value.code == 1
    assert "run: pip install 'raysplit[serve]'" in " ".join(capsys.readouterr().err.split())
