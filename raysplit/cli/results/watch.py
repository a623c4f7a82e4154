"""``raysplit watch``: follow a run that goes on elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live
from rich.text import Text

from raysplit.cli.figures import tested_texts, trained_text
from raysplit.cli.options import ROOT, complete_runs
from raysplit.cli.progress import clock_text, human_bytes
from raysplit.cli.streams import Console, echo
from raysplit.paths import expanded, is_uri
from raysplit.registry import few, one_line

if TYPE_CHECKING:
    from raysplit.runs.records.following import View

_BAR = 24


@click.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per change.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for a run that has not begun or was cut short.",
)
def watch(run: str, once: bool, as_json: bool, every: float, wait: float) -> None:
    """Follow a run that goes on elsewhere.

    RUN is a folder, or a name below runs/, which may not be there yet. Its files alone are read: rounds, losses,
    owners, and who is missing. It ends when the run ends, with exit code 1 where the run was cut short or never began.

    \b
    Examples:
      raysplit watch digits
      raysplit watch digits --once
    """
    if is_uri(run):
        raise click.BadParameter(f"{run} is a URI, which is not followed; raysplit list --root shows how far it is")
    folder = _folder(run)
    from raysplit.runs.records.following import look

    if once:
        found = look(folder)
        echo(json.dumps(found.as_json()) if as_json else _text(found, Console().width).plain)
        return
    shown = _Json() if as_json else _Shown()
    with shown:
        last = _followed(lambda: look(folder), shown, every=every, wait=wait)
    if not as_json:
        Console().print(_end(last), soft_wrap=True)
    if last.state != "ended":
        raise click.exceptions.Exit(1)


def _folder(run: str) -> Path:
    """Return the folder that a run has or will have."""
    path = Path(expanded(run))
    return path if path.is_absolute() or len(path.parts) > 1 or path.is_dir() else Path(ROOT) / path


def _followed(
    look: Callable[[], View],
    show: Callable[[View], None],
    *,
    every: float,
    wait: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> View:
    """Look at a run and show it until it has ended, or nobody has written it for ``wait`` seconds."""
    quiet_since: float | None = None
    while True:
        found = look()
        show(found)
        if found.state == "ended":
            return found
        if found.state == "running":
            quiet_since = None
        else:
            quiet_since = clock() if quiet_since is None else quiet_since
            if clock() - quiet_since >= wait:
                return found
        sleep(every)


class _Shown:
    """The view on a terminal, drawn over itself; elsewhere a line for each change."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._before = ""

    def __enter__(self) -> _Shown:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, found: View) -> None:
        if self._live:
            self._live.update(_text(found, self._console.width), refresh=True)
            return
        line = f"{_progress(found)}{_last(found)}"
        if line != self._before:
            self._before = line
            self._console.print(line, soft_wrap=True, highlight=False)


class _Json(_Shown):
    def __init__(self) -> None:
        self._live = None
        self._before = ""

    def __call__(self, found: View) -> None:
        record = found.as_json()
        record.pop("quiet_s")
        line = json.dumps(record)
        if line != self._before:
            self._before = line
            echo(line)


def _text(found: View, width: int) -> Text:
    """Return all about a run in lines of at most ``width`` columns where possible."""
    lines: list[tuple[str, str]] = [(f"{one_line(found.folder)}: {one_line(found.title or 'not begun')}", "bold")]
    lines.append((_progress(found), "" if found.state in ("running", "ended") else "yellow"))
    if found.row:
        if found.rounds_planned and width >= 60:
            full = round(_BAR * min(1.0, found.rounds / found.rounds_planned))
            lines.append(("━" * full + "┈" * (_BAR - full), "cyan"))
        lines += [(line, "") for line in _details(found)]
    for row in found.last_rows:
        lines.append((f"  round {row['round']}: {trained_text(row, 3)}{_tested(row)}", "dim"))
    return Text.assemble(*[(f"{line}\n", style) for line, style in lines[:-1]], (lines[-1][0], lines[-1][1]))


def _progress(found: View) -> str:
    count = f"round {found.rounds} of {found.rounds_planned or '?'}"
    if found.state == "waiting":
        return "no round yet" if found.title else "waiting for the run to begin"
    if found.state == "running" and not found.rounds:
        return f"no round of {found.rounds_planned} yet, running" if found.title else "starting"
    if found.state == "running":
        left = f", about {clock_text(found.left_s)} left" if found.left_s is not None else ""
        return f"{count}, running{left}"
    if found.state == "stopped":
        return f"{count}, {one_line(found.stopped)}; nobody writes it"
    return f"{count}, {one_line(found.stopped)}"


def _last(found: View) -> str:
    row = found.row
    return f": {trained_text(row, 3)}{_tested(row)}" if row else ""


def _tested(row: dict[str, Any]) -> str:
    shown = {key: value for key, value in row.items() if not key.startswith("owner_") and key != "majority_accuracy"}
    return "".join(f", {text}" for text in tested_texts(shown, 3))


def _details(found: View) -> list[str]:
    row = found.row
    speed = (
        f"{row['samples_per_s']:,.0f} samples/s, {row['seconds']:.1f} s a round, {human_bytes(row['bytes_total'])} sent"
    )
    members = f" of {found.members}" if found.members and found.members != row["num_owners"] else ""
    owners = [f"owners in the last round: {row['num_owners']}{members}"]
    if found.missing:
        owners.append(f"missing: {one_line(few(found.missing, 5))}")
    if found.came:
        owners.append(f"came: {one_line(few(found.came, 5))}")
    if found.quiet_s is not None and found.state == "running" and found.quiet_s > 3 * max(1.0, row["seconds"]):
        owners.append(f"the last round ended {clock_text(found.quiet_s)} ago")
    return [speed, *owners]


def _end(found: View) -> str:
    if found.state == "ended":
        return f"{one_line(found.folder)} has ended: {one_line(found.stopped)}"
    if found.state == "waiting":
        return f"{one_line(found.folder)} has not begun; is it the folder that the run was given?"
    return (
        f"{one_line(found.folder)} is {one_line(found.stopped)}; go on with: raysplit resume {one_line(found.folder)}"
    )
