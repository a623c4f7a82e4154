"""A traced model: the places where it can be cut, and the parts that cuts make of it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import fx, nn

from raysplit.models.crossing.places import near_names
from raysplit.models.crossing.tied import borrow
from raysplit.models.cutting.cut_names import PositionNames
from raysplit.models.cutting.cut_tensors import Crossings
from raysplit.models.cutting.dropout import SeededDropout
from raysplit.models.cutting.merging import other_names
from raysplit.models.cutting.part_graph import CutGraph
from raysplit.models.exporting.both_modes import objection_of_both, same_position

ALL_PLACES = "raysplit cuts lists all places"


@dataclass(frozen=True, kw_only=True)
class CutPoint:
    """A place where a model can be cut.

    Attributes:
        index: number of the place, from 1.
        name: module or function after which it lies, such as "layer1.0.bn1"; "#2" marks a second call.
        shapes: shapes of the tensors that cross, without the batch dimension.
        num_bytes_per_sample: bytes of all of these tensors for one sample.
        unit: number of whole units before the place, or None inside a unit.
    """

    index: int
    name: str
    shapes: tuple[tuple[int, ...], ...]
    num_bytes_per_sample: int
    unit: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedModel:
    """A traced model that can be cut; `trace` returns it.

    Attributes:
        root: module with the state of the graphs, which shares parameters and buffers with the traced model.
        training: the graph of the model, in training mode where it has two.
        evaluation: the graph in evaluation mode; None where one graph serves both.
        cut_points: places where the model can be cut, from input to output.
        units: names of the units, which are the children of an ``nn.Sequential``, the blocks of an exported model, or
            else the steps between two cut points.
        unit_ends: positions in the graph before the first unit and after each unit.
    """

    root: nn.Module
    training: CutGraph
    evaluation: CutGraph | None
    cut_points: tuple[CutPoint, ...]
    units: tuple[str, ...]
    unit_ends: tuple[int, ...]

    @property
    def graph(self) -> fx.Graph:
        return self.training.graph

    @property
    def crossings(self) -> Crossings:
        return self.training.crossings

    @property
    def names(self) -> PositionNames:
        return self.training.names

    @property
    def front_end(self) -> str:
        """The way in which the model was traced: ``fx``, ``export``, ``export_cpu`` or ``chain``."""
        return self.training.front_end

    def copy(self) -> TracedModel:
        """Return a copy with its own parameters and buffers."""
        return replace(self, root=copy.deepcopy(self.root))

    def resolve(self, cut: int | str) -> int:
        """Return the position of a cut in the graph, from 0 to `crossings.end`.

        Args:
            cut: an int k for "after k units", from 0 to ``len(units)``, or the name of a module, after its last call.

        Raises:
            ValueError: for a place that does not exist or where the model cannot be cut.
        """
        position = self._place(cut)
        if position > 0 and (reason := self.objection(position)):
            raise ValueError(f"cannot cut at {cut!r}: {reason}; {self._legal_cuts(position)}")
        return position

    def objection(self, position: int) -> str | None:
        """Return why the model cannot be cut at a position, or None if it can."""
        found = self.crossings.objection(position)
        if found is not None or self.evaluation is None or position == self.crossings.end:
            return found
        return objection_of_both(self.training, self.evaluation, position)

    def cut(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Cut the model into ``len(cuts) + 1`` parts.

        Args:
            cuts: places from input to output, see `resolve`; equal cuts have an empty part between them.

        Returns:
            The parts in order. A part takes the tensors that cross into it as positional arguments and returns those
            that leave it, a Tensor or a tuple; the last part returns the output of the model. Parts keep the names of
            the model in their state dicts, and share their parameters and buffers with `root`. Tied weights that may
            be in the first and in the last part are in the state of the first.

        Raises:
            ValueError: for a place where the model cannot be cut, and for cuts that are not in order.
        """
        places = [self._place(cut) for cut in cuts]
        if places != sorted(places):
            raise ValueError(f"cuts must go from input to output, got {list(cuts)}; {ALL_PLACES}")
        if in_two_parts := self.crossings.shared_state(places):
            name, first, last = in_two_parts
            why = f" ({self.crossings.objection_to_sharing(name)})" if name in other_names(self.root).values() else ""
            raise ValueError(f"{name!r} would be in part {first} and in part {last}{why}; {ALL_PLACES}")
        positions = [self.resolve(cut) for cut in cuts]
        shared = {id(tensor): tensor for tensor in [*self.root.parameters(), *self.root.buffers()]}
        root = copy.deepcopy(self.root, memo=dict(shared))
        parts: list[nn.Module] = []
        for lo, hi in pairwise([0, *positions, None]):
            assert lo is not None
            held = frozenset(key for part in parts for key in part.state_dict())
            parts.append(self._part(root, lo, hi, held))
        if len(parts) > 1:
            borrow(parts[-1], parts[0])
        return parts

    def _part(self, root: nn.Module, lo: int, hi: int | None, held: frozenset[str]) -> nn.Module:
        """Make the part between two positions; buffers that others have `held` before it are not in its state."""
        graph = self.training.part(lo, hi)
        if self.evaluation is not None:
            from raysplit.models.exporting.part import ExportedPart

            ends = (self._in_evaluation(lo), None if hi is None else self._in_evaluation(hi))
            return ExportedPart(root, graph, self.evaluation.part(*ends), held)
        module = fx.GraphModule(root, graph, class_name="Part")
        _leave_out_of_state(module, root.state_dict().keys() - held)
        module.training = root.training
        graph.owning_module = None  # this cycle would keep dropped weights in memory until the garbage collector runs
        return module

    def _in_evaluation(self, position: int) -> int:
        assert self.evaluation is not None
        return same_position(self.training, self.evaluation, position)

    def _place(self, cut: int | str) -> int:
        if isinstance(cut, str):
            position = self.names.find(cut)
        else:
            position = self.unit_ends[cut] if 0 <= cut < len(self.unit_ends) else None
        if position is None:
            near = self._inside(cut) or near_names(cut, self.names.all()) if isinstance(cut, str) else ""
            raise ValueError(
                f"no place to cut {cut!r}{near}; give 0..{len(self.units)}, the units before the cut, or the name of a "
                f"module; {ALL_PLACES}"
            )
        return position

    def _inside(self, name: str) -> str:
        """Return the module that is kept whole and has this one inside it; an empty text where there is none."""
        whole = [at for at in self.names.all() if name.startswith(f"{at}.")]
        if not whole or name not in dict(self.root.named_modules()):
            return ""
        return f", which is inside {whole[0]!r}, a leaf; cut after {whole[0]!r}"

    def _legal_cuts(self, position: int) -> str:
        """Name the nearest places before and after a position where the model can be cut."""
        legal = [p for p in range(1, self.crossings.end) if self.objection(p) is None]
        near = [*[p for p in legal if p < position][-1:], *[p for p in legal if p > position][:1]]
        if not near:
            return "there is no place inside this model to cut it"
        return f"the nearest places are {' and '.join(repr(self.names.names[p - 1]) for p in near)}; {ALL_PLACES}"


def _leave_out_of_state(part: nn.Module, kept: Collection[str]) -> None:
    """Keep all buffers but the `kept` ones out of the part's state dict."""
    for path, buffer in list(part.named_buffers(remove_duplicate=False)):
        if path not in kept:
            owner, _, name = path.rpartition(".")
            part.get_submodule(owner).register_buffer(name, buffer, persistent=False)


def train_alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether the second draws from every random stream of the first one and has its weights in the same order."""
    return _streams(first) <= _streams(second) and _order(first) == _order(second)


def _streams(module: nn.Module) -> set[str]:
    return {path for path, child in module.named_modules() if isinstance(child, SeededDropout)}


def _order(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]
