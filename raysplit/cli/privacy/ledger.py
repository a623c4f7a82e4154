"""``raysplit ledger``: show what has left each owner, and what it promises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from raysplit.cli.options import NamedRun, whole_run
from raysplit.cli.progress import human_bytes
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.registry import one_line

if TYPE_CHECKING:
    from raysplit.guards.account.totals import Account, Sent

COVERS = (
    "Epsilon is for one sample of the owner in place of another, over all that is listed, resumed and repeated rounds "
    "included. It does not cover numbers of samples and steps, sizes and times of messages, who takes part, nor test "
    "samples. Batches are shuffled with a seed that everybody knows, so nothing is credited for sampling."
)
_MOST_OWNERS = 12


@click.command()
@click.argument("run", callback=whole_run)
@click.option("--owner", metavar="NAME", help="Owner to show; by default the one that has given away most.")
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="DELTA",
    help="Delta of the account, above 0 and below 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def ledger(run: NamedRun, owner: str | None, delta: float | None, as_json: bool) -> None:
    """Show what has left each owner of RUN, and what it promises.

    RUN is a folder, a name below runs/, or a URI. Each owner keeps its ledger itself: where they are elsewhere
    (privacy.ledger), RUN may also be the folder of the ledgers.

    \b
    Examples:
      raysplit ledger digits
      raysplit ledger digits --owner owner-3 --json
    """
    folder, settings = _ledgers_of(run)
    delta = _delta(settings) if delta is None else delta
    accounts = _accounts(folder, run.folder)
    if owner is not None and owner not in {account.owner for account in accounts}:
        known = ", ".join(account.owner for account in accounts)
        raise ValueError(f"there is no ledger of {owner}; there are those of {known}")
    if as_json:
        shown = [account for account in accounts if owner in (None, account.owner)]
        echo(json.dumps({"delta": delta, "owners": [_plain(account, delta) for account in shown]}, indent=2))
        return
    most = max(accounts, key=lambda account: account.total(delta).epsilon)
    chosen = next((account for account in accounts if account.owner == owner), most)
    _print(Console(), accounts, chosen, delta)


def _ledgers_of(run: NamedRun) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder of the ledgers of a run, and its ``privacy`` section."""
    from raysplit.guards.account.ledger import FOLDER, SUFFIX
    from raysplit.runs.records.files import CONFIG
    from raysplit.runs.records.origin import is_own
    from raysplit.runs.records.read import read_settings

    if not (run.folder / CONFIG).exists() and any(run.folder.glob(f"*{SUFFIX}")):
        return run.folder, {}
    privacy = read_settings(run.folder).get("privacy") or {}
    elsewhere = privacy.get("ledger")
    if elsewhere is None:
        return run.folder / FOLDER, privacy
    if not is_own(run.folder):
        raise ValueError(
            f"the ledgers of this run are in {elsewhere!r}, which was not looked at, because this user has not written "
            f"{run.folder}; name that folder instead: raysplit ledger FOLDER"
        )
    return Path(elsewhere), privacy


def _delta(privacy: Mapping[str, Any]) -> float:
    from raysplit.guards.account.accounting import DELTA

    for section in ("budget", "weights", "z"):
        found = (privacy.get(section) or {}).get("delta")
        if isinstance(found, float) and 0 < found < 1:
            return found
    return DELTA


def _accounts(folder: Path, run: Path) -> list[Account]:
    from raysplit.guards.account.totals import accounts_in

    found = accounts_in(folder)
    if found:
        return found
    return _from_traffic(run)


def _from_traffic(folder: Path) -> list[Account]:
    """Return accounts of a run whose owners kept none: from the bytes that were counted, with nothing promised."""
    from raysplit.guards.account.charges import Charge
    from raysplit.guards.account.totals import Account
    from raysplit.guards.account.verbs import value_of
    from raysplit.runs.records.read import read_traffic

    sent: dict[str, dict[str, tuple[int, int]]] = {}
    to: dict[tuple[str, str], dict[str, None]] = {}
    for link in read_traffic(folder):
        if not link.source.startswith("owner-"):
            continue
        for kind in link.kinds:
            value = value_of(kind.kind)
            size, count = sent.setdefault(link.source, {}).get(value, (0, 0))
            sent[link.source][value] = size + kind.num_bytes, count + link.num_messages
            to.setdefault((link.source, value), {})[link.destination] = None
    if not sent:
        raise ValueError(
            f"{folder} has no ledgers, and no traffic of owners in traffic.parquet; train with a guard "
            f"(--set privacy.z=...), or with privacy.ledger, and each owner keeps one"
        )
    echo("the owners of this run kept no ledger: these are the bytes of traffic.parquet", err=True)
    names = sorted(sent, key=lambda name: (len(name), name))
    return [
        Account(
            owner=name,
            samples=0,
            charges=tuple(Charge(value=v, round=-1, to=tuple(to[name, v])) for v in sent[name]),
            sent=sent[name],
        )
        for name in names
    ]


def _print(console: Console, accounts: Sequence[Account], chosen: Account, delta: float) -> None:
    of = f"{chosen.samples} samples, {chosen.rounds} rounds" if chosen.samples else "no ledger"
    table = Table(title=f"what has left {one_line(chosen.owner)} ({of}), delta {delta:g}", title_justify="left")
    for name in ("value", "bytes", "messages", "mechanism"):
        table.add_column(name, justify="right" if name in ("bytes", "messages") else "left")
    table.add_column("epsilon", justify="right")
    table.add_column("to")
    for sent in chosen.by_value(delta):
        to = sent.to if len(sent.to) < 3 else (*sent.to[:2], "...")
        told = (human_bytes(sent.num_bytes), str(sent.num_messages)) if sent.num_messages else ("", "")
        table.add_row(sent.value, *told, " + ".join(sent.mechanisms), _epsilon(sent), one_line(", ".join(to)))
    print_table(console, table)
    shown = [account for account in accounts[:_MOST_OWNERS] if account is not chosen]
    for account in [chosen, *shown]:
        total = account.total(delta)
        bound = f"epsilon {total.epsilon:.4g} at delta {delta:g}"
        what = {"total": bound, "conditional": f"{bound}, conditional", "rehearsal": f"{bound}, rehearsed"}
        echo(one_line(f"{account.owner}: {what.get(total.guarantee, 'unbounded')}"))
        if account is chosen and total.reason:
            echo(one_line(f"  {total.reason}"))
    if len(accounts) > len(shown) + 1:
        echo(f"... and {len(accounts) - len(shown) - 1} more owners; --json has all")
    small = min((account.samples for account in accounts if account.samples), default=0)
    if small and delta * small >= 1:
        echo(f"delta {delta:g} is 1/n or more for an owner of {small} samples, and promises it nothing", err=True)
    echo(fill(COVERS, console.width))


def _epsilon(sent: Sent) -> str:
    if sent.epsilon is None:
        return "unbounded"
    return f"{sent.epsilon:.4g}" if sent.epsilon else "no more"


def _plain(account: Account, delta: float) -> dict[str, Any]:
    total = account.total(delta)
    return {
        "owner": account.owner,
        "samples": account.samples,
        "rounds": account.rounds,
        "guarantee": total.guarantee,
        "epsilon": total.bound,
        "reason": total.reason,
        "epsilon_of_mechanisms": total.epsilon,
        "sent": [asdict(sent) for sent in account.by_value(delta)],
    }
