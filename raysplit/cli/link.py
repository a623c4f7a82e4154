"""The options of commands that emulate the link between an edge and a server."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysplit.cli.options import FilePath

if TYPE_CHECKING:
    from raysplit.serving.links import EdgeLink

_OPTIONS = (
    click.option(
        "--latency", "latency_s", default=0.0, show_default=True, metavar="SECONDS", help="Latency per message."
    ),
    click.option(
        "--jitter",
        "jitter_s",
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Mean of an exponential time on top of the latency.",
    ),
    click.option(
        "--loss", "loss_probability", default=0.0, show_default=True, metavar="P", help="Share of lost messages."
    ),
    click.option("--trace", type=FilePath(exists=True), help="CSV file of bandwidth and latency over time."),
    click.option(
        "--trace-repeat",
        "repeat_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="When the trace begins anew; by default its last row holds.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """What a user said of a link, apart from its rate.

    Raises:
        ValueError: for a repetition without a trace.
    """

    latency_s: float
    jitter_s: float
    loss_probability: float
    trace: Path | None
    repeat_s: float | None

    def __post_init__(self) -> None:
        if self.trace is None and self.repeat_s is not None:
            raise ValueError("--trace-repeat is of a trace, and there is none; give --trace FILE.csv as well")

    @property
    def given(self) -> bool:
        """Whether anything was said."""
        return bool(self.latency_s or self.jitter_s or self.loss_probability) or self.trace is not None

    def link(self, rate_bit_per_s: float = math.inf) -> EdgeLink:
        """Return the link, of a rate that a trace without bandwidths needs as well.

        Raises:
            ValueError: for values that are no link, and for a file that is no trace.
        """
        from raysplit.cluster.emulation.trace import State, read_trace
        from raysplit.serving.links import EdgeLink

        constant = EdgeLink(
            rate_bit_per_s=rate_bit_per_s,
            latency_s=self.latency_s,
            loss_probability=self.loss_probability,
            jitter_s=self.jitter_s,
        )
        if self.trace is None:
            return constant
        state = State(rate_bit_per_s / 8, rate_bit_per_s / 8, self.latency_s, math.inf)
        trace = read_trace(self.trace, state, self.repeat_s)
        return replace(constant, rate_bit_per_s=math.inf, latency_s=0.0, trace=trace)


def link_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a link, which it takes as the argument `link`."""

    @functools.wraps(command)
    def with_link(**values: Any) -> Any:
        names = LinkOptions.__dataclass_fields__
        try:
            link = LinkOptions(**{name: values.pop(name) for name in names})
        except ValueError as mistake:
            raise click.UsageError(str(mistake)) from mistake
        return command(link=link, **values)

    return functools.reduce(lambda found, option: option(found), reversed(_OPTIONS), with_link)
