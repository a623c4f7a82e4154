"""The specification of a multi-task classifier, which is cut after its backbone and between its heads.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the backbone is one part, the heads are one or several others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from raysplit.models.classifier.heads import Heads, MultiTaskClassifier
from raysplit.models.crossing.places import Place
from raysplit.models.crossing.raw_inputs import example_pair, passes_inputs_on
from raysplit.models.cutting.dropout import seed_dropouts
from raysplit.models.cutting.split import CutPoint
from raysplit.models.spec import DTYPES, ModelSpec


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(ModelSpec):
    """A `ModelSpec` whose options are those of `raysplit.models.classifier.build.multi_task`."""

    __hash__ = ModelSpec.__hash__

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Class names by task; where its kind is another, names of the outputs."""
        return dict(dict(self.options)["classes"])

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kinds of the tasks that are no classifications."""
        return dict(dict(self.options).get("kinds", ()))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @property
    def frozen(self) -> bool:
        """Whether the backbone is fixed and the heads alone learn."""
        return bool(dict(self.options).get("frozen", False))

    def parts(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Build the parts, where cut k lies before head k: (0, 2) gives the backbone, heads 0 and 1, and the others.

        Without cuts there is one part. Dropout masks depend on the place of a module in the whole model, so they do not
        change with the cuts. Raises ValueError for cuts that do not rise from 0 to less than the number of heads.
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
                f"got the cuts {tuple(cuts)} for a model of {len(model.heads)} heads; give 0, after its backbone, and "
                f"then rising numbers below {len(model.heads)}: set algorithm.cut to 0, or algorithm.name to one that "
                f"does not cut, such as mtl_split or fedavg"
            )
        heads = list(model.heads.items())
        groups = [nn.ModuleDict(dict(heads[a:b])) for a, b in zip(starts, ends, strict=True)]
        return [model.trunk(), *(Heads(group) for group in groups)]

    def check_cuttable(self) -> None:
        """Do nothing: the parts are modules of the model, which is not traced."""

    def places(self, length: int | None = None) -> list[Place]:
        """Raise ``ValueError``: this model has no graph to list."""
        raise ValueError(
            f"a multi-task classifier is cut after its backbone, at 0, and in front of the heads 1 to "
            f"{len(self.tasks) - 1}; it has no other places"
        )

    def sent_inputs(self, cut: int | str) -> tuple[str, ...]:
        """Name what a cut would send as it is: nothing, unless the backbone passes its inputs on."""
        trunk = self.parts((0,))[0]
        return ("features",) if passes_inputs_on(trunk, example_pair(self.example_inputs(), DTYPES[self.dtype])) else ()

    def first_private_cut(self) -> int | None:
        """Return 0, the cut after the backbone, unless the backbone passes its inputs on."""
        return None if self.sent_inputs(0) else 0

    def cut_points(self) -> tuple[CutPoint, ...]:
        return ()
