"""The specification of a multi-task model with one decoder per task, or of its part for some of the tasks.

For merge-and-split training (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285), where groups of tasks train models of
their own. Equal seeds give a task the same initial decoder in every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from raysplit.models.cutting.places import Place
from raysplit.models.cutting.split import CutPoint
from raysplit.models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class MultiTaskSpec(ModelSpec):
    """A `ModelSpec` whose options have ``tasks``; the model is not cut."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict(self.options)["tasks"])

    def of(self, tasks: Iterable[str]) -> MultiTaskSpec:
        """Return the specification of the model for these tasks alone."""
        return replace(self, options={**dict(self.options), "tasks": tuple(tasks)})

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        if cuts:
            raise ValueError(
                f"a multi-task model stays whole and got cuts {tuple(cuts)}; take an algorithm without cuts"
            )
        return [self.build()]

    def places(self) -> list[Place]:
        """Raise ``ValueError``: this model is not cut."""
        raise ValueError("a multi-task model stays whole; take an algorithm without cuts")

    def check_cuttable(self) -> None:
        """Do nothing: this model is not cut."""

    def first_private_cut(self) -> int | None:
        return 1  # which `parts` refuses, as any cut

    def cut_points(self) -> tuple[CutPoint, ...]:
        return ()
