"""Pacing of a run with a topology, and the comparison of its predicted and measured times.

The same topology paces the run (with ``pace: false``, the run is only observed) and is simulated.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from raysplit.cluster.clock import WallClock
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.layout import Layout
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.machines import emulation, expected_work, observation
from raysplit.prediction.simulate import simulate
from raysplit.prediction.timeline import Comparison, Timeline, compare, timeline_of

logger = logging.getLogger(__name__)

LayOut = Callable[[Sequence[PartySpec]], Layout]


class Pacing:
    """Pace or observe a run with a topology, and predict it."""

    def __init__(self, experiment: Experiment, lay_out: LayOut | None = None) -> None:
        self._experiment = experiment
        self._topology = experiment.required_topology
        self._lay_out = lay_out
        self._places: Mapping[str, str] | None = None

    @property
    def predicts(self) -> bool:
        """Whether the run can be simulated, to compare it with; a topology without profiles only places parties."""
        has_profile = any(device.measured is not None for device in self._topology.devices.values())
        return has_profile and self._experiment.algorithm.can_be_simulated

    def emulate(self, parties: Sequence[PartySpec]) -> Emulation:
        """Build the emulation of a run that starts now."""
        scale = self._topology.time_scale if self._topology.pace else 1.0
        clock = WallClock(started_s=time.time(), time_scale=scale)
        if self._topology.pace:
            batch_size, rules = self._experiment.batch_size, self._experiment.link_rules()
            return emulation(parties, topology=self._topology, clock=clock, batch_size=batch_size, rules=rules)
        self._places = self._lay_out(parties).place_of if self._lay_out else {p.name: "this process" for p in parties}
        return observation(parties, clock=clock)

    def compared(self, rows: Sequence[Mapping[str, Any]], log: EventLog) -> tuple[Comparison, Timeline]:
        """Predict the finished rounds, and return the comparison and the measured timeline.

        The first of several rounds is left out, because processes build their parts in it.
        """
        predicted = simulate(self._experiment, rounds=len(rows), places=self._places)
        scale = self._topology.time_scale if self._topology.pace else 1.0
        measured_s = [row["seconds"] / scale for row in rows]
        first = min(1, len(rows) - 1)
        timelines = [timeline_of(predicted.log), timeline_of(log).from_zero()]
        before, after = (timeline.since_round(first) for timeline in timelines)
        comparison = compare(before, after, predicted_s=predicted.round_s[first:], measured_s=measured_s[first:])
        if self._topology.pace:
            comparison = replace(comparison, lateness=log.lateness_since(first))
        if comparison.pace is not None:
            logger.warning(comparison.pace)
        return comparison, timelines[1]


def known_work(experiment: Experiment, parties: Sequence[PartySpec]) -> dict[str, float] | None:
    """Return the work of each party by the profiles of the topology; None where they do not have it."""
    if experiment.topology is None or not experiment.algorithm.can_be_simulated:
        return None
    return expected_work(parties, experiment.topology, experiment.batch_size)


def write_timeline(folder: Path, comparison: Comparison, measured: Timeline) -> None:
    """Write ``timeline.parquet``, ``timeline.json`` (for Perfetto), ``timeline.png`` and ``prediction.json``."""
    from raysplit.prediction.timeline_picture import draw_timeline  # loads matplotlib

    measured.write_parquet(folder / "timeline.parquet")
    measured.write_trace(folder / "timeline.json")
    draw_timeline(measured, folder / "timeline.png", title=f"measured, a round takes {comparison.round_s[1]:.4g} s")
    record = asdict(comparison) | {"error": comparison.error, "pace": comparison.pace}
    (folder / "prediction.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
