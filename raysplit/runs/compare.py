"""Runs side by side as one object: a table, the settings that differ, and the whole as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raysplit.runs.report import RunReport, as_json, differing_settings


@dataclass(frozen=True)
class RunComparison:
    """What `raysplit.compare` gives: print it, or take its `table`.

    Attributes:
        runs: what each run reached and what it took, in the order they were given.
    """

    runs: tuple[RunReport, ...]

    @property
    def table(self) -> pa.Table:
        """One row per run: algorithm, rounds, best and last accuracy and loss, bytes, seconds of training."""
        return pa.Table.from_pylist([as_json(run) for run in self.runs])

    @property
    def differing(self) -> Mapping[str, list[Any]]:
        """The settings, beside algorithm and places, in which the runs differ, with the value of each run."""
        return differing_settings(self.runs)

    def reached(self, accuracy: float) -> pa.Table:
        """What each run took to reach a test accuracy (0 to 1): ``rounds``, ``bytes``, ``seconds``; null if never."""
        rows = []
        for run in self.runs:
            at = as_json(run, accuracy)["to_target"]["reached"] or {"rounds": None, "bytes": None, "seconds": None}
            rows.append({"label": run.label, **at})
        return pa.Table.from_pylist(rows)

    def to_pandas(self) -> Any:
        """The table as a pandas ``DataFrame``; needs pandas, which raysplit does not bring."""
        return self.table.to_pandas()

    def __str__(self) -> str:
        width = max(len(run.label) for run in self.runs)
        lines = [f"{run.label:<{width}}  {_outcome(run)}, {run.rounds} rounds, {run.stopped}" for run in self.runs]
        lines += [f"{key} differs: {', '.join(map(str, values))}" for key, values in self.differing.items()]
        return "\n".join(lines)


def _outcome(run: RunReport) -> str:
    if run.last_accuracy is not None:
        return f"accuracy {run.last_accuracy:.1%} (best {run.best_accuracy:.1%})"
    return f"loss {run.last_loss:.4g}" if run.last_loss is not None else "not evaluated"
