"""The specification of a multi-task model with one decoder per task, or of its part for some of the tasks.

For merge-and-split training (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285), where groups of tasks train models of
their own. Equal seeds give a task the same initial decoder in every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from raysplit.models.crossing.places import Place
from raysplit.models.cutting.split import CutPoint
from raysplit.models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class MultiTaskSpec(ModelSpec):
    """A `ModelSpec` whose options have ``tasks``; the model is not cut."""

    __hash__ = ModelSpec.__hash__

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict(self.options)["tasks"])

    def of(self, tasks: Iterable[str]) -> MultiTaskSpec:
        """Return the specification of the model for these tasks alone."""
        return replace(self, options={**dict(self.options), "tasks": tuple(tasks)})

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the whole model. Raises ``ValueError`` for any cut."""
        if cuts:
            raise self._stays_whole(cuts)
        return [self.build()]

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Raise ``ValueError``: this model is not cut."""
        raise self._stays_whole((cut,))

    def _stays_whole(self, cuts: Sequence[int | str]) -> ValueError:
        return ValueError(
            f"model.name {self.name} has a decoder for each dense task and stays whole, and the algorithm cuts it at "
            f"{', '.join(map(str, cuts))}; set algorithm.name to one that does not cut, such as mas or fedavg"
        )

    def places(self, length: int | None = None) -> list[Place]:
        """Raise ``ValueError``: this model is not cut."""
        raise ValueError("a multi-task model stays whole; take an algorithm without cuts")

    def check_cuttable(self) -> None:
        """Do nothing: this model is not cut."""

    def first_private_cut(self) -> int | None:
        return 1  # which `parts` refuses, as any cut

    def cut_points(self) -> tuple[CutPoint, ...]:
        return ()
