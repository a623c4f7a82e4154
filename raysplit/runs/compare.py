"""Comparison of runs: a table, the settings that differ, and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysplit.registry import one_line
from raysplit.runs.report import RunReport, as_json, differing_settings
from raysplit.runs.report_page import formatted


@dataclass(frozen=True)
class RunComparison:
    """Comparison of runs, which `raysplit.compare` returns; print it, or take its `table`.

    Attributes:
        runs: a report of each run that can be read, in the order given.
        left_out: why the others cannot be read, by folder.
    """

    runs: tuple[RunReport, ...]
    left_out: Mapping[Path, str] = field(default_factory=dict)

    @property
    def table(self) -> pa.Table:
        """Table with one row per run: algorithm, rounds, best and last accuracy and loss, bytes, training seconds."""
        return pa.Table.from_pylist([as_json(run) for run in self.runs])

    @property
    def differing(self) -> Mapping[str, list[Any]]:
        """Settings in which the runs differ, with the value of each run; without algorithm, output, cluster and
        evaluation."""
        return differing_settings(self.runs)

    def reached(self, accuracy: float) -> pa.Table:
        """Return the ``rounds``, ``bytes`` and ``seconds`` that each run took to reach a value of its primary metric.

        The values are null for a run that never reached it.
        """
        rows = []
        for run in self.runs:
            at = as_json(run, accuracy)["to_target"]["reached"] or {"rounds": None, "bytes": None, "seconds": None}
            rows.append({"label": run.label, **at})
        return pa.Table.from_pylist(rows)

    def to_pandas(self) -> Any:
        """Return the table as a pandas ``DataFrame``; pandas must be installed, and raysplit does not require it."""
        return self.table.to_pandas()

    def __str__(self) -> str:
        width = max(len(run.label) for run in self.runs)
        lines = [f"{run.label:<{width}}  {_outcome(run)}, {run.rounds} rounds, {run.stopped}" for run in self.runs]
        lines += [f"{key} differs: {', '.join(map(str, values))}" for key, values in self.differing.items()]
        return "\n".join(map(one_line, [*lines, *(f"left out: {reason}" for reason in self.left_out.values())]))


def _outcome(run: RunReport) -> str:
    if run.task_metric is not None and run.last is not None:
        naive = "" if run.naive is None else f", naive {formatted(run.metric, run.naive)}"
        best = formatted(run.metric, run.best)
        return f"{run.metric.name} {formatted(run.metric, run.last)} (best {best}{naive})"
    if run.last_accuracy is not None:
        return f"accuracy {run.last_accuracy:.1%} (best {run.best_accuracy:.1%})"
    return f"loss {run.last_loss:.4g}" if run.last_loss is not None else "not evaluated"
