"""The costs of training groups of tasks: device time and energy by task, group and owner, measured and modeled.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, count the hours of all owners and groups, affinity passes included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raysplit.actors.records import OwnerReport
from raysplit.algorithms.mas.owner import AFFINITY_S, COMPUTE_S
from raysplit.algorithms.mas.phase import label_of, tasks_of
from raysplit.algorithms.mas.task_owners import TaskOwners
from raysplit.schedulers.cuts.profiles import node_kinds
from raysplit.schedulers.energy import (
    SECONDS_PER_HOUR,
    Charge,
    Spent,
    TaskCost,
    fit_task_cost,
    spent,
    spent_by_group,
    spent_by_owner,
    spent_by_task,
)

if TYPE_CHECKING:
    import pyarrow as pa

_CHARGES = {
    "round": "int64",
    "owner": "string",
    "group": "string",
    "num_tasks": "int64",
    "tasks": "string",
    "steps": "int64",
    "training_s": "float64",
    "affinity_s": "float64",
    "watts": "float64",
}
"""The columns of the table of charges, with the names of Arrow's types."""


def watts_of(owners: Sequence[str], devices: Sequence[str | float]) -> dict[str, float]:
    """Look up every owner's power draw while it computes, in W.

    Args:
        devices: kinds of device, or powers in W, which are assigned to the owners in turn.

    Raises:
        ValueError: for an unknown kind, or one whose power is not known.
    """
    return {owner: _watts(devices[number % len(devices)]) for number, owner in enumerate(owners)}


def _watts(device: str | float) -> float:
    if not isinstance(device, str):
        return device
    known = {name: kind.power_w for name, kind in node_kinds().items() if kind.power_w is not None}
    if device not in known:
        raise ValueError(
            f"the power of the device {device!r} is not known; give one of {', '.join(known)}, or a number of W"
        )
    return known[device]


class Ledger:
    """The charges of a run, by owner, group and round.

    Args:
        watts: the owners' power while they compute.
        having: who has which tasks; None if all have all.
        apart: tasks of the groups with models of their own, whose steps cost something else.
    """

    def __init__(
        self, watts: Mapping[str, float], having: TaskOwners | None = None, apart: Collection[tuple[str, ...]] = ()
    ) -> None:
        self._watts = watts
        self._having = having
        self._apart = {label_of(tasks) for tasks in apart}
        self._rows: list[dict[str, Any]] = []
        self.charges: list[Charge] = []

    def add(self, round: int, group: tuple[str, ...], reports: Sequence[OwnerReport]) -> dict[str, float]:
        """Add the charges of a group's round, and return their sums for the round's metrics."""
        before = len(self._rows)
        for report in reports:
            seconds, watts = dict(report.values), self._watts[report.owner]
            own = group if self._having is None else self._having.of(report.owner, group)
            row = {
                "round": round,
                "owner": report.owner,
                "group": label_of(group),
                "num_tasks": len(own),
                "steps": report.num_steps,
                "training_s": seconds[COMPUTE_S],
                "affinity_s": seconds[AFFINITY_S],
                "watts": watts,
            }
            self._charge(row if own == group else row | {"tasks": label_of(own)})
        charges, rows = self.charges[before:], self._rows[before:]
        return {
            "device_s": sum(charge.seconds for charge in charges),
            "affinity_s": sum(row["affinity_s"] for row in rows),
            "joules": sum(charge.joules for charge in charges),
        }

    def _charge(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self.charges.append(
            Charge(
                owner=row["owner"],
                group=tasks_of(row["group"]),
                tasks=_tasks(row),
                round=row["round"],
                seconds=row["training_s"] + row["affinity_s"],
                watts=row["watts"],
            )
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return all charges as plain values."""
        return list(self._rows)

    def load_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace all charges by those of `rows`."""
        self._rows, self.charges = [], []
        for row in rows:
            self._charge(row)

    def table(self) -> pa.Table:
        """Build a table with one row for each owner, group and round; ``tasks`` are those that the owner trained."""
        import pyarrow as pa

        rows = [row | {"tasks": label_of(_tasks(row))} for row in self._rows]
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in _CHARGES.items()])
        return pa.Table.from_pylist(rows, schema=schema)

    def task_cost(self) -> TaskCost | None:
        """Fit T(m), the hours of a step of the run's model with m tasks; None while all had equally many tasks."""
        steps: dict[int, int] = {}
        seconds: dict[int, float] = {}
        for row in self._common:
            size = row["num_tasks"]
            steps[size] = steps.get(size, 0) + row["steps"]
            seconds[size] = seconds.get(size, 0.0) + row["training_s"]
        if len(steps) < 2:
            return None
        return fit_task_cost({size: seconds[size] / steps[size] / SECONDS_PER_HOUR for size in steps})

    def modelled_hours(self, cost: TaskCost) -> float:
        """Compute the hours of all steps of the run's model by the two-parameter model, without affinities."""
        return float(sum(row["steps"] * cost.hours(row["num_tasks"]) for row in self._common))

    @property
    def _common(self) -> list[dict[str, Any]]:
        """The charges of groups that train the run's model."""
        return [row for row in self._rows if row["group"] not in self._apart]

    def summary(self) -> dict[str, Any]:
        """Summarize hours and kWh, in all and by task, group and owner, with the two-parameter model's hours."""
        total, cost = spent(self.charges), self.task_cost()
        content = _plain(total) | {
            "affinity_hours": sum(row["affinity_s"] for row in self._rows) / SECONDS_PER_HOUR,
            "by_task": {task: _plain(value) for task, value in spent_by_task(self.charges).items()},
            "by_group": {label_of(group): _plain(value) for group, value in spent_by_group(self.charges).items()},
            "by_owner": {owner: _plain(value) for owner, value in spent_by_owner(self.charges).items()},
        }
        if cost is None:
            return content
        return content | {
            "model": {
                "encoder_s_per_step": cost.encoder_hours * SECONDS_PER_HOUR,
                "decoder_s_per_step": cost.decoder_hours * SECONDS_PER_HOUR,
                "training_hours": self.modelled_hours(cost),
            }
        }


def _tasks(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tasks that an owner trained: those of the group, unless the row names some of them."""
    return tasks_of(row.get("tasks", row["group"]))


def _plain(value: Spent) -> dict[str, Any]:
    return {"hours": value.hours, "kwh": value.kwh}
