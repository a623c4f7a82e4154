"""Names, reasons and paths of users are shown as they are, whatever brackets and colons they have."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.table import Table

import raysplit.cli
from raysplit.cli import main
from raysplit.cli.pictures.affinity import draw_matrix
from raysplit.cli.streams import Console
from raysplit.schedulers.grouping.scores import Affinity

NAMES = ["[/x]y", "[red]a[/red]", "[link=x", "a\\[b]", ":car:", "[bold]"]


@pytest.mark.parametrize("name", NAMES)
def test_text_is_shown_letter_by_letter(name: str) -> None:
    """A finished run named ``[/x]y`` ended in rich's MarkupError and exit code 1."""
    console = Console(file=io.StringIO(), width=200)
    console.print(f"run folder: {name}", soft_wrap=True)
    table = Table(name, title=name)
    table.add_row(name)
    console.print(table)
    assert console.file.getvalue().count(name) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_shown_letter_by_letter(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["inspect", f"{name}.yaml"])
    assert stopped.value.code == 2
    assert name in capsys.readouterr().err


def test_no_other_console_and_no_markup_is_used() -> None:
    """Text that is styled by brackets would have to be escaped at every place that has a name in it."""
    for path in Path(raysplit.cli.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "streams.py" or "rich.console" not in text, path
        assert not re.search(r"\[/?(bold|dim|red|green|yellow)\]|markup=True", text), path


@pytest.mark.parametrize("name", ["$x$", "$\\wrong$", "a $ b $"])
def test_a_name_in_a_picture_is_no_formula(name: str, tmp_path: Path) -> None:
    """A task named ``$\\wrong$`` ended in a ParseFatalException of matplotlib."""
    matrix = Affinity(tasks=(name, "b"), values=((0.0, 0.5), (0.25, 0.0)))
    draw_matrix(matrix, ((name,), ("b",)), tmp_path / "affinity.svg")
    assert (tmp_path / "affinity.svg").stat().st_size > 1_000
