"""A multi-task model as a small value: `ModelSpec` with one decoder per task, and the same for some of the tasks.

For merge-and-split training (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285), where groups of tasks train models of
their own. Equal seeds give a task the same initial decoder in whatever group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from raysplit.models.cutting.split import CutPoint
from raysplit.models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class MultiTaskSpec(ModelSpec):
    """A `ModelSpec` whose options have ``tasks``. The model is kept whole: its parts are encoder and decoders."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict(self.options)["tasks"])

    def of(self, tasks: Iterable[str]) -> MultiTaskSpec:
        """The model of these tasks alone."""
        return replace(self, options={**dict(self.options), "tasks": tuple(tasks)})

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        if cuts:
            raise ValueError(f"a multi-task model stays whole and got cuts {tuple(cuts)}; take a method without cuts")
        return [self.build()]

    def cut_points(self) -> tuple[CutPoint, ...]:
        return ()
