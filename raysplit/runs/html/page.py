"""Render the HTML page about runs.

Names, settings and reasons may be those of others: whatever is shown is escaped, and the page forbids itself scripts
and anything from a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import raysplit
from raysplit.registry import printable
from raysplit.runs.html.content import charts_of, naive_of, run_pages
from raysplit.runs.report import RunReport, common_metric, differing_settings
from raysplit.runs.report_page import (
    OWNER_HEAD,
    OWNERS_EXPLAINED,
    formatted,
    owner_cells,
    result_columns,
    target_text,
)

_HERE = Path(__file__).parent


def html_page(
    runs: Sequence[RunReport],
    *,
    title: str = "",
    target: float | None = None,
    left_out: Mapping[Path, str] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        runs: the reports.
        title: the heading; by default the labels of the runs.
        target: a value of the primary metric for which the page shows what it took to reach it.
        left_out: why further runs cannot be read, by folder.
        notes: lines below the heading.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    tested = result_columns(runs)
    owners = [(run.label, cells) for run in runs if (cells := owner_cells(run))]
    return environment.get_template("page.html.jinja").render(
        title=title or _title(runs),
        version=raysplit.__version__,
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
        notes=notes,
        runs=run_pages(runs),
        charts=charts_of(runs),
        tested=tested,
        target=None if target is None else target_text(runs, target),
        reached=[None if target is None else run.reached(target) for run in runs],
        owner_head=OWNER_HEAD,
        owners=owners,
        owners_explained=OWNERS_EXPLAINED.replace("`", ""),
        differing=_texts(differing_settings(runs)) if len(runs) > 1 else {},
        naive=_naive(runs),
        left_out=list(left_out.values()),
    )


def _title(runs: Sequence[RunReport]) -> str:
    return runs[0].label if len(runs) == 1 else f"{len(runs)} runs"


def _naive(runs: Sequence[RunReport]) -> str:
    metric, value = common_metric(runs), naive_of(runs)
    return "" if value is None else f"A model that ignores its inputs reaches {formatted(metric, value)} {metric.name}"


def _texts(differing: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    return {key: ["" if value is None else str(value) for value in values] for key, values in differing.items()}
