"""Whether the data of all owners fit together, found by comparing their outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysplit.data.by_owner.outline import Outline, blank_samples
from raysplit.data.by_owner.source import OwnSource
from raysplit.data.samples import DataSet
from raysplit.data.transforms import Compose
from raysplit.registry import shown

UNCHANGED = Compose(steps=())
"""Transform in the place of those that the owners have."""


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """One owner's source with its outline."""

    source: OwnSource
    outline: Outline


def agreed(owners: Sequence[OwnData]) -> DataSet:
    """Return a data set of one blank sample with the types, shapes, names and sizes that all owners agree on.

    The number of classes is the largest of any owner, as an owner need not have samples of each; of several targets,
    that of each.

    Raises:
        ValueError: two owners differ; the message has both, with what differs and both values.
    """
    first = owners[0]
    for other in owners[1:]:
        _compare(first, other)
    outlines = [owner.outline for owner in owners]
    num_classes = max(outline.num_classes for outline in outlines)
    num_outputs = {name: max(each.num_outputs[name] for each in outlines) for name in first.outline.num_outputs}
    blank = blank_samples(first.outline)
    return DataSet(
        train=blank,
        test=blank,
        num_classes=num_classes,
        transform=UNCHANGED,
        eval_transform=UNCHANGED,
        classes=_joined_classes(outlines),
        num_outputs=num_outputs,
        inputs=first.outline.inputs,
        label_names=first.outline.label_names,
        sizes=first.outline.sizes,
        done=tuple(dict.fromkeys(line for outline in outlines for line in outline.done)),
    )


def _joined_classes(outlines: Sequence[Outline]) -> dict[str, tuple[str, ...]] | None:
    """Return the class names of each task, which are alike but for the number of those that are numbers."""
    if outlines[0].classes is None:
        return None
    counts = {task: max(each.numbered.get(task, 0) for each in outlines) for task in outlines[0].classes}
    return {task: tuple(map(str, range(counts[task]))) or names for task, names in outlines[0].classes.items()}


def _compare(first: OwnData, other: OwnData) -> None:
    for what, way_out in _RULES:
        one, two = (what(owner.outline) for owner in (first, other))
        for name in [*one, *(name for name in two if name not in one)]:
            if one.get(name) != two.get(name):
                raise ValueError(
                    f"owners disagree about {name}: {first.source} has {_said(one.get(name))} and {other.source} has "
                    f"{_said(two.get(name))}; {way_out}"
                )


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value) if len(value) <= 10 else shown(value)
    return str(value)


def _input_names(outline: Outline) -> Mapping[str, Any]:
    return {"the inputs": tuple(outline.x)}


def _stored(outline: Outline) -> Mapping[str, Any]:
    return {f"input {name} as it is stored": str(stored) for name, stored in outline.x.items()}


def _to_model(outline: Outline) -> Mapping[str, Any]:
    return {
        f"input {name} as the model gets it": f"{str(entry.dtype).removeprefix('torch.')} {list(entry.shape)}, "
        f"{entry.role}, padded with {entry.pad:g}"
        for name, entry in outline.inputs.items()
    }


def _targets(outline: Outline) -> Mapping[str, Any]:
    return {"the targets": tuple(outline.y), **{f"target {n}": str(s) for n, s in outline.y.items()}}


def _classes(outline: Outline) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        f"the classes of {task}": "numbers" if task in outline.numbered else names
        for task, names in (outline.classes or {}).items()
    }
    return found | ({} if outline.label_names is None else {"the names of the classes": outline.label_names})


def _sizes(outline: Outline) -> Mapping[str, Any]:
    found = {f"the size {name}": size for name, size in outline.sizes.items()}
    floating = not outline.has_names[1] and any(stored.dtype.is_floating_point for stored in outline.y.values())
    return found | ({"the number of outputs": outline.num_classes} if floating else {})


_RULES = (
    (_input_names, "give all the same inputs"),
    (_stored, "store them in one type and shape, or convert one of them"),
    (_to_model, "give all the same settings (such as image_size, layout or values)"),
    (_targets, "give all the same targets"),
    (_classes, "number the classes of all alike, in one order"),
    (_sizes, "agree on one, such as one tokenizer or vocabulary"),
)


def with_padding(owners: Sequence[OwnData], padding: Any) -> list[OwnData]:
    """Return the owners with the rule for the length of their batches."""
    return [replace(owner, source=replace(owner.source, padding=padding)) for owner in owners]
