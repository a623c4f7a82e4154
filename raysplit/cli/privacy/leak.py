"""``raysplit leak``: measure what smashed data, gradients and weights tell of samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from raysplit.cli.options import found_run
from raysplit.cli.privacy.leak_tables import cuts_table, print_page
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_figure, print_table
from raysplit.paths import expanded

if TYPE_CHECKING:
    from raysplit.privacy.leak.run import Leak, LeakOptions

LAST = "last"


@click.command()
@click.argument("target")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting of a CONFIG.")
@click.option("--cuts", metavar="CUT,...", help="For a CONFIG: cuts to measure (default all).")
@click.option("--weights", metavar="RUN", help="For a CONFIG: take the weights of this run.")
@click.option("--attacks", metavar="NAME,...", help="Names of attacks, cheap or all (default: the usual).")
@click.option("--observer", metavar="PARTY", help="Only attacks of this party, such as node-2.")
@click.option("--owner", metavar="NAME", help="Whose samples are attacked (default: the first).")
@click.option(
    "--knows",
    type=click.Choice(["weights", "initial", "architecture"]),
    help="What attackers have of the owner's part.",
)
@click.option("--aux", default="same", show_default=True, metavar="NAME", help="Data set of the attacker.")
@click.option("--rows", default=256, show_default=True, metavar="N", help="Samples that are attacked.")
@click.option("--rounds", metavar="N,...", help="Rounds to attack, from 0, or last (default 0,last).")
@click.option(
    "--seconds",
    default=120.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Longest time of one attack.",
)
@click.option("--undefended", type=float, metavar="X", help="Accuracy without defences, for the score.")
@click.option("--trust", is_flag=True, help="Import and run the code that a run names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def leak(
    target: str,
    overrides: tuple[str, ...],
    cuts: str | None,
    weights: str | None,
    attacks: str | None,
    observer: str | None,
    owner: str | None,
    knows: Any,
    aux: str,
    rows: int,
    rounds: str | None,
    seconds: float,
    undefended: float | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Measure what leaves an owner tells of its samples.

    TARGET is a run: attacks are tried on its own weights and data, each beside what chance gives, and written to its
    folder leak. Or it is a configuration, before any training: the cheap measures of each cut of its model.

    \b
    Attacks: inverse, inverse_affine, unsplit, pseudo_client, sdar (samples from
    smashed data), labels (from gradients, U-shaped cuts), gradient (samples from
    updates), membership. docs/privacy.md says what each knows and means.

    \b
    Examples:
      raysplit leak digits
      raysplit leak digits --attacks sdar --knows architecture --seconds 300
      raysplit leak my.yaml --cuts all
    """
    if expanded(target).endswith((".yaml", ".yml")):
        given = {"--attacks": attacks, "--observer": observer, "--knows": knows, "--rounds": rounds}
        if named := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(f"{named[0]} is for a run; {target} is a configuration, whose cuts are measured")
        _show_cuts(Path(expanded(target)), overrides, cuts, weights, owner, rows, as_json=as_json)
        return
    if overrides or cuts or weights:
        raise click.UsageError("--set, --cuts and --weights are for a configuration; a run has its own")
    from raysplit.cli.trust import allowed
    from raysplit.privacy.leak.run import LeakOptions

    folder = found_run(target)
    allowed(folder, "the measurement of its leakage", trust=trust)
    options = LeakOptions(
        attacks=tuple(filter(None, (attacks or "").split(","))),
        observer=observer,
        owner=owner,
        knows=knows,
        aux=aux,
        rows=rows,
        rounds=_rounds(rounds),
        seconds=seconds,
        undefended=undefended,
    )
    found = _measured(folder, options, quiet=as_json)
    if as_json:
        echo(json.dumps(found.page))
    else:
        from raysplit.cli.pictures.leak import draw_leak

        print_page(found.page)
        for path in draw_leak(found.outcomes, found.mean, found.folder):
            print_figure(Console(), path)
        echo(f"written to {found.folder}: leak.json, samples.parquet")


def _rounds(text: str | None) -> tuple[int | str, ...]:
    if text is None:
        return ()
    found: list[int | str] = []
    for part in text.split(","):
        if part != LAST and not part.isdecimal():
            raise click.BadParameter(f"{part!r} is neither a round, counted from 0, nor last", param_hint="--rounds")
        found.append(LAST if part == LAST else int(part))
    return tuple(found)


def _measured(folder: Path, options: LeakOptions, *, quiet: bool) -> Leak:
    from raysplit.privacy.leak.run import measure_run

    if quiet:
        return measure_run(folder, options)
    with _progress() as progress:
        task = progress.add_task("loading the run", total=None)

        def tell(name: str, done: int, total: int) -> None:
            progress.update(task, description=name, completed=done, total=total)

        def began(name: str) -> None:
            progress.update(task, description=name, completed=0, total=None)

        return measure_run(folder, options, tell=tell, began=began)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _show_cuts(
    config: Path,
    overrides: tuple[str, ...],
    cuts: str | None,
    weights: str | None,
    owner: str | None,
    rows: int,
    *,
    as_json: bool,
) -> None:
    from raysplit.config.run import load_config
    from raysplit.privacy.leak.planned import measure_cuts

    wanted = None if cuts in (None, "all") else [int(c) if c.isdecimal() else c for c in str(cuts).split(",")]
    run = None if weights is None else found_run(weights)
    found = measure_cuts(load_config(config, overrides), cuts=wanted, owner=owner, rows=rows, weights=run)
    if as_json:
        echo(json.dumps({"config": str(config), "weights": weights, "cuts": [cut.as_json() for cut in found]}))
        return
    console = Console()
    when = "at initial weights" if weights is None else f"with the weights of {weights}"
    print_table(console, cuts_table(found, f"what each cut tells, {when}"))
    for line in (
        "leak (Fisher): share of a sample's variance that a linear attacker could explain, at a noise as large as z",
        "dCor2: unbiased dependence of samples and smashed data; 0 is chance, 1 is one the other's copy",
    ):
        console.print(Text(line))
    if weights is None:
        console.print(Text("measured before training; check with raysplit leak RUN"))
