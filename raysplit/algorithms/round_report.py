"""What the coordinator knows after a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysplit.actors.records import OwnerReport


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """What the coordinator knows after a round."""

    owners: tuple[OwnerReport, ...]
    server_steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        return sum(report.num_samples for report in self.owners)

    @property
    def loss(self) -> float:
        """Mean over the samples that were trained on."""
        return sum(r.loss * r.num_samples for r in self.owners) / max(1, self.num_samples)
