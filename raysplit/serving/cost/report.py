"""The costs of all deployments as one plain record, for JSON, tables and a figure.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982); the formulas are in `raysplit.serving.cost.deployments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysplit.models.classifier.heads import backbone_kind
from raysplit.serving.compression import Encoding, payload_bytes
from raysplit.serving.cost.deployments import (
    FLOAT_BYTES,
    Deployment,
    Sizes,
    Times,
    activation_bytes,
    break_even,
    compute_s,
    deployments,
)
from raysplit.serving.cost.requests import Requests, Transfer, percentiles, transfer
from raysplit.serving.links import EdgeLink

SENT_AS = (Encoding.FLOAT32, Encoding.FLOAT16, Encoding.INT8)


TRACE = "trace"
"""The name of a link whose rate changes over time."""


def cost_report(
    sizes: Sizes,
    links: Sequence[EdgeLink],
    *,
    input_bytes: int | None = None,
    times: Times | None = None,
    requests: Requests | None = None,
) -> dict[str, Any]:
    """Return all sizes as exact integers and the expected transfer seconds per link.

    The keys of `transfer_s` and `latency_s` are rates in bit/s, or `TRACE`. The features are sent as float32. Where a
    link varies, `percentiles_s` has those of drawn requests, with compute if `times` are given; over a trace the
    expected seconds are the mean of the drawn ones.

    Args:
        sizes: counts of the model.
        links: links to report on.
        input_bytes: bytes of the raw image as sent; None takes float32 pixels.
        times: seconds of compute; if given, the report has latencies and break-even rates.
        requests: requests to draw where a link varies; by default `Requests()`.
    """
    drawn = requests or Requests()
    options = deployments(sizes, input_bytes=input_bytes)
    z_bytes = {encoding.name.lower(): payload_bytes(encoding, sizes.features) for encoding in SENT_AS}
    raw_bytes = {"float32": FLOAT_BYTES * sizes.pixels, "uint8": sizes.pixels}
    with torch.device("meta"):
        trunk = backbone_kind(sizes.backbone).build()
    report: dict[str, Any] = {
        **asdict(sizes),
        "separate_parameters": sizes.separate_parameters,
        "shared_parameters": sizes.shared_parameters,
        "z_bytes": z_bytes,
        "input_bytes": {**raw_bytes, "sent": options[2].up_bytes},
        "z_of_input": {name: FLOAT_BYTES * sizes.features / size for name, size in raw_bytes.items()},
        "edge_activation_bytes": asdict(activation_bytes(trunk, (3, sizes.image_size, sizes.image_size))),
        "deployments": [asdict(option) for option in options],
    }
    for row, option in zip(report["deployments"], options, strict=True):
        row |= _over_links(option, links, times, drawn)
    if any(link.varies for link in links):
        report["requests"] = asdict(drawn)
    if times is not None:
        report["times"] = asdict(times)
        report["break_even"] = {o.paradigm: asdict(break_even(o, options[3], times)) for o in options[1:3]}
    return report


def _over_links(
    option: Deployment, links: Sequence[EdgeLink], times: Times | None, requests: Requests
) -> dict[str, dict[str, Any]]:
    """Return the seconds of one deployment by kind of time and link, with percentiles where the link varies.

    The few bytes of the answer count as traffic, not as time, as in the paper.
    """
    computing_s = 0.0 if times is None else compute_s(option.paradigm, times)
    kinds = {"transfer_s": 0.0} | ({} if times is None else {"latency_s": computing_s})
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for link in links:
        sent = transfer(option.up_bytes, link, requests) if option.up_bytes else Transfer(0.0, np.zeros(1))
        name = _link_name(link)
        for kind, before_s in kinds.items():
            found[kind][name] = before_s + sent.expected_s
        if link.varies:
            found.setdefault("percentiles_s", {})[name] = percentiles(computing_s + sent.drawn_s)
    return found


def _link_name(link: EdgeLink) -> str:
    if link.trace is None:
        return f"{link.rate_bit_per_s:g}"
    rates = set(link.trace.up_bytes_per_s)
    return TRACE if len(rates) > 1 else f"{8 * rates.pop():g}"


def draw_costs(report: dict[str, Any], path: Path) -> None:
    """Draw bar charts of the edge weights, the bytes sent, and the milliseconds per link rate, to a file."""
    from matplotlib.figure import Figure

    from raysplit.figure_style import COLORS, quiet, save, titled  # matplotlib takes a second

    rows = report["deployments"]
    names = [row["paradigm"] for row in rows]
    figure = Figure(figsize=(12, 4), layout="constrained")
    weights, traffic, latency = figure.subplots(1, 3)
    weights.bar(names, [row["edge_weight_bytes"] / 2**20 for row in rows], color=COLORS[0])
    weights.set(title="weights at the edge", ylabel="MiB")
    traffic.bar(names, [row["up_bytes"] / 2**10 for row in rows], color=COLORS[0])
    traffic.set(title="sent per image", ylabel="KiB")
    kind = "latency_s" if "times" in report else "transfer_s"
    rates = list(rows[0][kind])
    for place, rate in enumerate(rates):
        at = [k + (place - (len(rates) - 1) / 2) * 0.8 / len(rates) for k in range(len(rows))]
        times = [1e3 * row[kind][rate] for row in rows]
        color, label = COLORS[place % len(COLORS)], link_text(rate)
        latency.bar(at, times, width=0.8 / len(rates), label=label, color=color)
    latency.set_xticks(range(len(rows)), names)
    latency.set(title="latency" if kind == "latency_s" else "transfer alone", ylabel="ms")
    latency.legend(frameon=False)
    for axes in (weights, traffic, latency):
        quiet(axes)
        axes.xaxis.grid(visible=False)
    titled(figure, f"{report['backbone']}, {report['image_size']} x {report['image_size']}, one image")
    save(figure, path)


def link_text(name: str) -> str:
    """Format the name of a link in a report: 10 Mb/s, or trace."""
    return name if name == TRACE else rate_text(float(name))


def rate_text(rate_bit_per_s: float) -> str:
    """Format a rate with its unit: 10 Mb/s, 1 Gb/s."""
    for unit, name in ((1e9, "Gb/s"), (1e6, "Mb/s"), (1e3, "kb/s")):
        if rate_bit_per_s >= unit:
            return f"{rate_bit_per_s / unit:.4g} {name}"
    return f"{rate_bit_per_s:.4g} b/s"
