"""``raysplit inspect``: show what data hold and what will be done with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raysplit.cli.options import ROOT
from raysplit.cli.streams import Console, echo
from raysplit.paths import expanded
from raysplit.registry import number_of

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig

_MAX_ROWS = 20


@click.command("inspect")
@click.argument("source", metavar="DATA")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON only.")
def inspect(source: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what data hold and what will be done with them.

    DATA is what data.name takes (a name, a file, module:function), a folder of pictures or of shards, or a
    configuration file or a run folder. With a configuration or a partition, the owners are shown as well. Nothing is
    trained.

    \b
    Examples:
      raysplit inspect mine.npz
      raysplit inspect pictures/ --set data.image_size=32
      raysplit inspect digits --set partition.name=dirichlet --set partition.alpha=0.3
      raysplit inspect examples/mtsl_mnist.yaml --json
    """
    from raysplit.config.load_data import inspect_data

    config, with_owners = _config(source, overrides)
    if config.data.by_owner is not None:
        from raysplit.config.build import outlined  # asks the owners

        record = outlined(config).record()
    else:
        record = inspect_data(config, with_owners=with_owners)
    if as_json:
        echo(json.dumps(record, indent=2))
    else:
        _print(record)


def _config(source: str, overrides: tuple[str, ...]) -> tuple[RunConfig, bool]:
    """Return the configuration whose data are meant, and whether it says who the owners are."""
    from raysplit.config.overrides import read_tree
    from raysplit.config.run import check_config, load_config

    source = expanded(source)
    path = Path(source)
    for folder in (path, Path(ROOT) / path):  # a run by its folder or its name
        if folder.is_dir() and (folder / "config.yaml").is_file():
            path = folder / "config.yaml"
            break
    if path.suffix in (".yaml", ".yml"):
        return load_config(path, overrides), True
    tree = read_tree(None, overrides)
    section: dict[str, Any] = tree.setdefault("data", {})
    if path.is_dir():
        kind = "shards" if (path / "test.parquet").exists() and (path / "train").is_dir() else "ImageFolder"
        section |= {"name": kind, "root": source}
        if kind == "shards" and "partition" not in tree:
            num_owners = max(1, len(list((path / "train").glob("*.parquet"))))
            tree["partition"] = {"name": "natural_id", "num_owners": num_owners}
    else:
        section["name"] = source
    return check_config(tree), "partition" in tree


def _print(record: dict[str, Any]) -> None:
    console = Console()
    sides = ", ".join(f"{count:,} {side}" for side, count in record["samples"].items())
    noun = "sample" if set(record["samples"].values()) == {1} else "samples"
    console.print(Text(f"{record['name']}: {sides} {noun}"))
    console.print(_inputs(record["inputs"]))
    for line in record["done"]:
        console.print(Padding(Text(line), (0, 0, 0, 1)))
    for task, target in record["targets"].items():
        console.print(_classes(task, target) if target["type"] == "class" else Text(f"target {task}: {_shown(target)}"))
    if "owners" in record:
        console.print(_owners(record["owners"]))
    for problem in record["problems"]:
        console.print(Text(f"problem: {problem}", style="yellow"))
    if not record["problems"]:
        console.print("no problems found")


def _inputs(inputs: dict[str, Any]) -> Table:
    table = Table("input", "stored", "range", "to the model", "range", title="inputs", title_justify="left")
    for name, entry in inputs.items():
        there = entry["to_model"]
        stored = f"{entry['stored']} {entry['shape']}" if "stored" in entry else "made by the transform"
        if "lengths" in entry:
            least, mean, most = entry["lengths"]
            stored += f", {least:.0f} to {most:.0f} long, {mean:.1f} on average"
        table.add_row(
            Text(name),
            stored,
            _between(entry.get("range")),
            f"{there['type']} {there['shape']}",
            _between(there["range"]),
        )
    return table


def _classes(task: str, target: dict[str, Any]) -> Table:
    counts = target["counts"]
    title = number_of(target["num_classes"], "class", "classes")
    title = title if task == "y" else f"task {task}: {title}"
    table = Table("class", title=title, title_justify="left")
    names = target.get("names")
    if names:
        table.add_column("label")
    for side in counts:
        table.add_column(side, justify="right")
    for number in range(min(target["num_classes"], _MAX_ROWS)):
        label = [Text(names[number])] if names else []
        table.add_row(str(number), *label, *(f"{of_side[number]:,}" for of_side in counts.values()))
    if target["num_classes"] > _MAX_ROWS:
        table.add_row(f"... {target['num_classes'] - _MAX_ROWS} more")
    if "without_label" in target:
        missing = (f"{count:,}" for count in target["without_label"].values())
        table.add_row("none", *([""] if names else []), *missing)
    return table


def _owners(owners: dict[str, Any]) -> Table:
    smallest, largest = owners["smallest"], owners["largest"]
    sizes = f"{smallest:,} to {largest:,} samples"
    if smallest == largest:
        sizes = number_of(largest, "sample") + " each" * (owners["num"] > 1)
    title = f"{number_of(owners['num'], 'owner')} of {sizes}"
    table = Table("owner", title=title, title_justify="left")
    table.add_column("samples", justify="right")
    classes = owners.get("classes", {})
    if classes:
        table.add_column("samples by class")
    sources = owners.get("sources", {})
    if sources:
        table.add_column("test", justify="right")
        table.add_column("its own source")
    for name, count in list(owners.get("samples", {}).items())[:_MAX_ROWS]:
        of_class = [" ".join(f"{label}:{num}" for label, num in classes[name].items())] if classes else []
        own = [f"{sources[name]['test']:,}", f"{sources[name]['owner']}: {sources[name]['source']}"] if sources else []
        table.add_row(name, f"{count:,}", *of_class, *map(Text, own))
    if owners["num"] > _MAX_ROWS:
        table.add_row(f"... {owners['num'] - _MAX_ROWS:,} more")
    return table


def _shown(target: dict[str, Any]) -> str:
    ranges = ", ".join(f"{side} {_between(found)}" for side, found in target["range"].items())
    return f"{target['type']} {target['shape']}" + (f", {ranges}" if ranges else "")


def _between(found: list[float] | None) -> str:
    return "-" if found is None else f"{found[0]:.4g} to {found[1]:.4g}"
