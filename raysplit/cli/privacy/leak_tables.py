"""The tables of `raysplit leak`: what cuts tell, and what attacks get beside chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from raysplit.cli.streams import Console
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from raysplit.privacy.leak.planned import CutLeak


_ABOUT = ("attack", "cut", "observer", "knows")


def cuts_table(cuts: Sequence[CutLeak], title: str) -> Table:
    """Return the table of the cheap measures of cuts."""
    table = Table(title=title)
    table.add_column("cut", justify="right")
    table.add_column("after")
    for column in ("bytes a sample", "leak (Fisher)", "dCor2", "p"):
        table.add_column(column, justify="right")
    for cut in cuts:
        figures = cut.figures
        table.add_row(
            str(cut.cut),
            cut.name,
            "" if cut.num_bytes is None else f"{cut.num_bytes:,}",
            f"{figures['leak_fisher']:.3f}",
            f"{figures['dcor2_unbiased']:.3f}",
            f"{figures['p_value']:.2f}",
        )
    return table


def print_page(page: Mapping[str, Any]) -> None:
    """Print what was measured of a run."""
    console = Console()
    samples = page["samples"]
    console.print(
        Text(
            f"{page['run']}: {page['algorithm']}, {page['owner']}; {samples['attacked']} of its samples attacked with "
            f"{samples['aux']:,} of the attacker ({samples['aux_from']})"
        )
    )
    console.print(Text(f"defence: {json.dumps(page['defence']) if page['defence'] else 'none'}"))
    for cut, figures in page["cheap"].items():
        console.print(
            Text(
                f"cut {cut}: leak (Fisher) {figures['leak_fisher']:.2f}, dCor2 {figures['dcor2_unbiased']:.2f} "
                f"(p {figures['p_value']:.2f}, {figures['rows']} samples)"
            )
        )
    for kind, make in _TABLES.items():
        rows = [row for row in page["attacks"] if row["kind"] == kind]
        if rows:
            print_table(console, make(rows))
    for name, reason in page["left_out"].items():
        console.print(Text(f"{name}: not tried: {reason}"))
    found = page["score"]
    if found is not None:
        console.print(
            Text(
                f"score {found['value']:.3f} of 1: the strongest attacks get {found['AP']:.0%} of the way from chance, "
                f"the task keeps {found['MP']:.0%}"
            )
        )
    elif page["attacks"]:
        console.print(Text("no score: give the accuracy of the same run without defences with --undefended"))
    console.print(Text(f"guarantee: {page['ledger']['guarantee']} ({page['ledger']['reason']})"))
    if any(row.get("truncated") for row in page["attacks"]):
        console.print(Text("* stopped by --seconds before its last step", style="yellow"))


def _name(row: Mapping[str, Any]) -> str:
    batch = f" b={row['batch']}" if "batch" in row else ""
    return f"{row['name']}{batch}{'*' if row.get('truncated') else ''}"


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in texts:
        table.add_column(column, no_wrap=column == texts[0])
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _inversions(rows: Sequence[Mapping[str, Any]]) -> Table:
    has_ssim = any("ssim" in row for row in rows)
    figures = ["SSIM", "nmse"] if has_ssim else ["nmse", "PSNR"]
    table = _table("samples reconstructed (chance: the mean sample)", _ABOUT, [*figures, "gain"])
    for row in rows:
        about = (_name(row), "" if row["cut"] is None else str(row["cut"]), row["observer"], _knows(row))
        first = _beside(row, "ssim", 2) if has_ssim else f"{row['nmse']:.2f}"
        second = f"{row['nmse']:.2f}" if has_ssim else _beside(row, "psnr", 1)
        table.add_row(*about, first, second, f"{row['gain']:.0%}")
    return table


def _labels(rows: Sequence[Mapping[str, Any]]) -> Table:
    title = f"labels guessed by {rows[0]['observer']}, cut {rows[0]['cut']} (chance)"
    table = _table(title, ("attack", "knows", "round"), ("right", "gain"))
    for row in rows:
        right = f"AUC {_beside(row, 'auc', 2)}" if "auc" in row else _beside(row, "label_accuracy", 2)
        table.add_row(_name(row), _knows(row), str(row["round"]), right, f"{row['gain']:.0%}")
    return table


def _membership(rows: Sequence[Mapping[str, Any]]) -> Table:
    title = "members of the training set told from others (chance)"
    table = _table(title, ("attack", "observer", "knows"), ("AUC", "advantage", "TPR at 1% FPR", "gain"))
    for row in rows:
        advantage = f"{row['advantage']:.2f} ({row['advantage_by_luck']:.2f})"
        about = (f"{_name(row)} ({row['score']})", row["observer"], _knows(row))
        table.add_row(*about, _beside(row, "auc", 2), advantage, f"{row['tpr_at_1']:.2f}", f"{row['gain']:.0%}")
    return table


def _knows(row: Mapping[str, Any]) -> str:
    return f"{row['knows']}/{row['data']}"


def _beside(row: Mapping[str, Any], key: str, digits: int) -> str:
    if row.get(key) is None:
        return ""
    chance = row.get(f"{key}_chance")
    return f"{row[key]:.{digits}f}" + ("" if chance is None else f" ({chance:.{digits}f})")


_TABLES = {"inversion": _inversions, "labels": _labels, "membership": _membership}
