"""A multi-task classifier as a small value, cut between the backbone and its heads, and between heads.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the backbone is one part, the heads are one or several others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from raysplit.models.classifier.heads import Heads, MultiTaskClassifier
from raysplit.models.cutting.dropout import seed_dropouts
from raysplit.models.cutting.split import CutPoint
from raysplit.models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(ModelSpec):
    """A `ModelSpec` whose options are those of `multitask_zoo.multi_task`."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Class names by task."""
        return dict(dict(self.options)["classes"])

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @property
    def frozen(self) -> bool:
        """Whether the heads alone learn."""
        return bool(dict(self.options).get("frozen", False))

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """No cut leaves the whole. Otherwise cut k lies before head k: (0, 2) makes backbone, heads 0 and 1, the rest.

        Dropout masks depend on a module's place in the whole model, so they do not move with the cuts. Raises
        ValueError for cuts that do not begin at 0 and rise to fewer than the number of heads.
        """
        model = self.build()
        assert isinstance(model, MultiTaskClassifier)
        seed_dropouts(model)
        if not cuts:
            return [model]
        starts = [cut for cut in cuts if isinstance(cut, int)]
        ends = [*starts[1:], len(model.heads)]
        if starts[:1] != [0] or len(starts) < len(cuts) or any(a >= b for a, b in zip(starts, ends, strict=True)):
            raise ValueError(
                f"a model of {len(model.heads)} heads is cut at 0, after its backbone, and then between heads, rising; "
                f"got {tuple(cuts)}"
            )
        heads = list(model.heads.items())
        groups = [nn.ModuleDict(dict(heads[a:b])) for a, b in zip(starts, ends, strict=True)]
        return [model.trunk(), *(Heads(group) for group in groups)]

    def cut_points(self) -> tuple[CutPoint, ...]:
        return ()
