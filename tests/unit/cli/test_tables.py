"""Tables on a terminal that is too narrow for their words."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from raysplit.cli.streams import Console
from raysplit.cli.tables import print_table


def printed(table: Table, width: int, *, is_terminal: bool) -> list[str]:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, force_terminal=is_terminal, color_system=None), table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def results() -> Table:
    table = Table("algorithm", "accuracy", "forward\nback", "stopped", title="iid over 10 owners")
    table.add_row("MiniBatch-SFL", "95.5%", "1,634\n817", "")
    table.add_row(Text("[/x] of others"), "10.0%", "88", "stopped by a callback: it is enough")
    return table


def test_rows_are_lines_where_words_would_be_cut() -> None:
    """At 40 columns a comparison had columns of four letters: "Min", "iBa", "tch", "-SF", "L"."""
    assert printed(results(), 40, is_terminal=True) == [
        "iid over 10 owners",
        "algorithm: MiniBatch-SFL",
        "  accuracy: 95.5%",
        "  forward, back: 1,634, 817",
        "algorithm: [/x] of others",
        "  accuracy: 10.0%",
        "  forward, back: 88",
        "  stopped: stopped by a callback: it is",
        "  enough",
    ]


@pytest.mark.parametrize(("width", "is_terminal"), [(80, True), (40, False)])
def test_a_table_stays_one_where_there_is_room_and_in_a_pipe(width: int, is_terminal: bool) -> None:
    lines = printed(results(), width, is_terminal=is_terminal)
    assert any("MiniBatch-SFL" in line and "1,634" in line for line in lines)
