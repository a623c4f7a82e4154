"""The specification of a multi-task model with one decoder per task, or of its part for some of the tasks.

For merge-and-split training (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285), where groups of tasks train models of
their own. Equal seeds give a task the same initial decoder in every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from raysplit.models.adapters.tuning import Tuning
from raysplit.models.crossing.places import Place
from raysplit.models.cutting.split import CutPoint
from raysplit.models.dense.net import MultiTaskModel
from raysplit.models.spec import ModelSpec
from raysplit.models.zoo import checked_model_options, known_model

WITH_DECODERS = "mas"
"""The built-in network with a decoder for each task."""


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

    def changed(self, changes: Mapping[str, Any]) -> MultiTaskSpec:
        """Return the specification of another network for the same tasks, which begins from the seed.

        Args:
            changes: options in place of its own; with another ``name`` among them, all options of that network.

        Raises:
            ValueError: for an unknown name or option.
        """
        name = known_model(changes.get("name", self.name))
        if name != self.name and name != WITH_DECODERS and ":" not in name:
            raise ValueError(
                f"the network {name!r} has no decoder for each task; take {WITH_DECODERS} with other options, or one "
                f"of your own that returns a raysplit.models.dense.net.MultiTaskModel"
            )
        if "tasks" in changes:
            raise ValueError(f"tasks is {changes['tasks']}, and they are those of the group; leave tasks out")
        own = dict(self.options) if name == self.name else {}
        options = {key: value for key, value in {**own, **changes}.items() if key not in ("name", "tasks")}
        options = {**checked_model_options(name, options, section=""), "tasks": self.tasks}
        given = self.given if name == self.name else None
        return replace(self, name=name, options=options, given=given, tuning=Tuning())

    def require_decoders(self) -> None:
        """Raise ``ValueError`` unless the network is one with an encoder and a decoder for each task."""
        model = self.build()
        if not isinstance(model, MultiTaskModel):
            raise ValueError(
                f"the network {self.name!r} is a {type(model).__name__}, and groups of tasks train one with an encoder "
                f"and a decoder for each task; take {WITH_DECODERS}, or return a "
                f"raysplit.models.dense.net.MultiTaskModel"
            )
        if set(model.tasks) != set(self.tasks):
            raise ValueError(
                f"the network {self.name!r} has decoders for {', '.join(model.tasks)}, and the group's tasks are "
                f"{', '.join(self.tasks)}; make one for each of the tasks that it gets as tasks"
            )

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
