"""Metrics and traffic of a run so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from raysplit.actors.records import RoundContext
from raysplit.algorithms.setting import AGGREGATOR, RoundReport
from raysplit.cluster.contract import KindTraffic, LinkTraffic, PartyLoad
from raysplit.cluster.links.traffic import merge_traffic
from raysplit.runs.folder import Row

TOLD_BY = "train_loss_told_by"
"""The column with the parties whose word the training loss is."""


class Ledger:
    """Metrics of every round and traffic of every link so far."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.traffic: list[LinkTraffic] = []

    def entry(
        self,
        context: RoundContext,
        report: RoundReport,
        seconds: float,
        moved: list[LinkTraffic],
        loads: Sequence[PartyLoad] = (),
    ) -> Row:
        """Return the row of the next round, without recording it."""
        before = self.rows[-1] if self.rows else {}
        num_bytes = sum(link.num_bytes for link in moved)
        raw_bytes = sum(link.raw_bytes for link in moved)
        coding_s = {"encode_s": sum(x.encode_s for x in loads), "decode_s": sum(x.decode_s for x in loads)}
        return {
            "round": context.round + 1,
            **({} if isnan(report.loss) else {"train_loss": report.loss}),
            **({TOLD_BY: ", ".join(report.told_by)} if report.told_by else {}),
            "num_owners": len(report.owners),
            "num_samples": report.num_samples,
            "server_steps": report.server_steps,
            "steps_total": before.get("steps_total", 0) + max(context.num_steps),
            "seconds": seconds,
            "train_seconds_total": before.get("train_seconds_total", 0.0) + seconds,
            "samples_per_s": report.num_samples / seconds,
            "bytes": num_bytes,
            "bytes_total": before.get("bytes_total", 0) + num_bytes,
            **({"raw_bytes": raw_bytes} if raw_bytes != num_bytes else {}),
            **(coding_s if any(coding_s.values()) else {}),
            **relative_errors(loads),
            **report.values,
        }

    def record(self, row: Row, moved: list[LinkTraffic]) -> None:
        self.rows.append(row)
        self.traffic = merge_traffic([self.traffic, moved])

    def go_back(self, rows: Sequence[Row], traffic: Sequence[LinkTraffic]) -> None:
        """Restore the metrics and the traffic of an earlier round."""
        self.rows, self.traffic = list(rows), list(traffic)


def relative_errors(loads: Sequence[PartyLoad]) -> dict[str, float]:
    """Return the squared error of codecs in proportion to the square of the values that they changed, by kind."""
    total: dict[str, tuple[float, float]] = {}
    for kind, error, square in (each for load in loads for each in load.errors):
        before = total.get(kind, (0.0, 0.0))
        total[kind] = before[0] + error, before[1] + square
    return {f"{kind}_rel_mse": error / square for kind, (error, square) in total.items() if square}


def with_statements(moved: list[LinkTraffic], round: int, about_data: Mapping[str, Any]) -> list[LinkTraffic]:
    """Add what owners have said of their samples before the first round, and the answers, to the traffic of round 0."""
    statements = about_data.get("statements", ()) if round == 0 else ()
    said = [_link(each["owner"], AGGREGATOR, each["bytes"]) for each in statements]
    answers = [_link(AGGREGATOR, each["owner"], each["received_bytes"]) for each in statements]
    return merge_traffic([moved, said, answers]) if statements else moved


def _link(source: str, destination: str, num_bytes: int) -> LinkTraffic:
    kinds = (KindTraffic("other", num_bytes, num_bytes),)
    return LinkTraffic(source=source, destination=destination, num_bytes=num_bytes, num_messages=1, kinds=kinds)
