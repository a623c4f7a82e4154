"""`raysplit split-cost`: compute weights, traffic and latency of split inference.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from raysplit.cli.link import LinkOptions, link_options
from raysplit.cli.options import NewFile
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from raysplit.models.classifier.heads import FeatureCut
    from raysplit.serving.links import EdgeLink


def _whole_numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in value.split(","))
    except ValueError as wrong:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 3,2,6") from wrong


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(item) for item in value.split(","))
    except ValueError as wrong:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 10e6,1e9") from wrong


RATES_BIT_PER_S = (10e6, 100e6, 1e9)


@click.command(name="split-cost")
@click.option("--backbone", required=True, metavar="NAME", help="Backbone at the edge, such as efficientnet_b0.")
@click.option("--heads", callback=_whole_numbers, required=True, metavar="A,B,C", help="Classes of each task.")
@click.option(
    "--image", "image_size", default=224, show_default=True, metavar="PIXELS", help="Side of the square image."
)
@click.option("--hidden", default=256, show_default=True, metavar="N", help="Width of a head's hidden layer.")
@click.option(
    "--cut", type=click.Choice(["flat", "pooled"]), default="flat", show_default=True, help="Form of the features."
)
@click.option(
    "--input-bytes", type=click.IntRange(min=1), metavar="N", help="Bytes of an image; by default as float32."
)
@click.option(
    "--rates",
    "rates_bit_per_s",
    callback=_numbers,
    metavar="A,B,C",
    help="Link rates in bit/s; by default 10e6,100e6,1e9, or those of the trace.",
)
@link_options
@click.option(
    "--requests",
    "num_requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Messages drawn for percentiles over a link that varies; by default 1000.",
)
@click.option("--seed", type=int, metavar="N", help="Seed of these draws; by default 0.")
@click.option("--measure", is_flag=True, help="Time the model here, for break-even rates.")
@click.option(
    "--server-speedup",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="With --measure: speed of the server relative to this machine.",
)
@click.option("--picture", type=NewFile(), help="Figure to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only, with exact integers.")
def split_cost(
    backbone: str,
    heads: tuple[int, ...],
    image_size: int,
    hidden: int,
    cut: FeatureCut,
    input_bytes: int | None,
    rates_bit_per_s: tuple[float, ...] | None,
    link: LinkOptions,
    num_requests: int | None,
    seed: int | None,
    measure: bool,
    server_speedup: float,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Compute weights, traffic and latency of split inference.

    Local, remote and split inference are compared for a shared backbone with one head per task.

    \b
    Example:
      raysplit split-cost --backbone efficientnet_b0 --heads 3,2,6 --measure
    """
    from raysplit.serving.cost.deployments import model_sizes
    from raysplit.serving.cost.report import cost_report
    from raysplit.serving.cost.requests import Requests

    times = None
    try:
        sizes = model_sizes(backbone, heads, image_size, hidden, cut)
        links = _links(link, rates_bit_per_s)
        if not any(each.varies for each in links) and (num_requests, seed) != (None, None):
            raise ValueError("--requests and --seed are of draws, and nothing varies; give --jitter, --loss or --trace")
    except ValueError as mistake:
        raise click.UsageError(str(mistake)) from mistake
    if measure:
        import torch

        from raysplit.models.classifier.heads import build_classifier
        from raysplit.serving.cost.measure import measure_times

        torch.set_num_threads(1)
        classes = {f"task{j}": count for j, count in enumerate(heads)}
        model = build_classifier(backbone, classes, image_size=image_size, seed=0, hidden=hidden, cut=cut)
        times = measure_times(model, image_size, server_speedup=server_speedup)
    requests = Requests(count=1000 if num_requests is None else num_requests, seed=seed or 0)
    report = cost_report(sizes, links, input_bytes=input_bytes, times=times, requests=requests)
    if picture is not None:
        from raysplit.serving.cost.report import draw_costs

        draw_costs(report, picture)
    if as_json:
        echo(json.dumps(report, indent=2))
    else:
        _print(report)


def _links(options: LinkOptions, rates_bit_per_s: tuple[float, ...] | None) -> list[EdgeLink]:
    """Return a link for each rate, or the one of a trace that has bandwidths."""
    if rates_bit_per_s is not None:
        return [options.link(rate) for rate in rates_bit_per_s]
    unlimited = options.link()
    if (
        unlimited.trace is not None
        and min(*unlimited.trace.up_bytes_per_s, *unlimited.trace.down_bytes_per_s) < math.inf
    ):
        return [unlimited]
    return [options.link(rate) for rate in RATES_BIT_PER_S]


def _print(report: dict[str, Any]) -> None:
    from raysplit.serving.cost.report import link_text, rate_text

    console = Console()
    size = report["image_size"]
    heads = ", ".join(f"{count:,}" for count in report["head_parameters"])
    console.print(f"{report['backbone']}: {report['backbone_parameters']:,} parameters; heads: {heads}")
    z, ratios = report["z_bytes"], report["z_of_input"]
    console.print(
        f"Z_b: {report['features']:,} numbers, {z['float32']:,} bytes as float32, {z['float16']:,} as float16, "
        f"{z['int8']:,} as int8; {ratios['float32']:.4f} of the {size} x {size} image in float32, "
        f"{ratios['uint8']:.3f} of it in bytes"
    )
    activations = report["edge_activation_bytes"]
    console.print(
        f"Activations of the backbone: {activations['peak']:,} bytes at the peak (one layer's input and output), "
        f"{activations['total']:,} over all layers"
    )
    measured = "times" in report
    table = Table(title="latency in ms" if measured else "transfer in ms (compute comes with --measure)")
    for column in ("bytes", "weights at edge", "up", "down"):
        table.add_column(column, justify="left" if column == "bytes" else "right")
    kind = "latency_s" if measured else "transfer_s"
    for rate in report["deployments"][0][kind]:
        table.add_column(link_text(rate), justify="right")
    for row in report["deployments"]:
        counts = [f"{row[count]:,}" for count in ("edge_weight_bytes", "up_bytes", "down_bytes")]
        table.add_row(row["paradigm"], *counts, *[f"{1e3 * seconds:.3f}" for seconds in row[kind].values()])
    print_table(console, table)
    if "requests" in report:
        _print_percentiles(console, report)
    for other, even in report.get("break_even", {}).items():
        rate = "" if even["rate_bit_per_s"] is None else f" {rate_text(even['rate_bit_per_s'])}"
        console.print(f"SC answers sooner than {other}: {even['wins']}{rate}")


def _print_percentiles(console: Console, report: dict[str, Any]) -> None:
    from raysplit.serving.cost.report import link_text

    count, kind = report["requests"]["count"], "latency" if "times" in report else "transfer"
    table = Table("bytes", "link", title=f"{kind} in ms of {count:,} requests")
    sent = [row for row in report["deployments"] if row["up_bytes"]]
    for percent in next(iter(sent[0]["percentiles_s"].values())):
        table.add_column(percent, justify="right")
    for row in sent:
        for name, percents in row["percentiles_s"].items():
            seconds = [f"{1e3 * value:.3f}" for value in percents.values()]
            table.add_row(row["paradigm"], link_text(name), *seconds)
    print_table(console, table)
