"""What the coordinator knows of the owners' data, as the plain record that `raysplit.data.record` makes of others."""

from __future__ import annotations

from collections.abc import Sequence

from raysplit.data.by_owner.agree import OwnData
from raysplit.data.by_owner.outline import Outline
from raysplit.data.record import MAX_OWNERS, Record
from raysplit.data.samples import DataSet


def own_record(data: DataSet, found: Sequence[OwnData], name: str) -> Record:
    """Return the record of data that each owner reads itself: types, shapes, classes and counts.

    Args:
        data: what all agree on.
        found: the source and the outline of each owner.
        name: the name of the data.
    """
    outlines = [own.outline for own in found]
    sides = {"train": [o.num_train for o in outlines], "test": [o.num_test for o in outlines]}
    sizes = {own.source.party: own.outline.num_train for own in found}
    owners: Record = {"num": len(found), "smallest": min(sizes.values()), "largest": max(sizes.values())}
    if len(found) <= MAX_OWNERS:
        owners |= {"samples": sizes, "sources": {own.source.party: _source(own) for own in found}}
        if all("train" in o.counts for o in outlines):
            owners["classes"] = {
                own.source.party: {str(c): n for c, n in enumerate(own.outline.counts["train"]) if n} for own in found
            }
    first = outlines[0]
    return {
        "name": name,
        "samples": {side: sum(counts) for side, counts in sides.items()},
        "inputs": {key: _input(data, first, key) for key in data.inputs},
        "done": list(data.done),
        "targets": {task: _target(data, outlines, task) for task in first.y},
        "owners": owners,
        "problems": _problems(data, outlines),
    }


def _source(own: OwnData) -> Record:
    return {
        "owner": own.source.owner,
        "source": own.source.place,
        "test": own.outline.num_test,
        "digest": own.outline.digest,
    }


def _input(data: DataSet, first: Outline, key: str) -> Record:
    entry, stored = data.inputs[key], first.x.get(key)
    there = {} if stored is None else {"stored": _type(stored.dtype), "shape": list(stored.shape), "range": None}
    return {**there, "to_model": {"type": _type(entry.dtype), "shape": list(entry.shape), "range": None}}


def _target(data: DataSet, outlines: Sequence[Outline], task: str) -> Record:
    stored = outlines[0].y[task]
    sides = [side for side in ("train", "test") if all(side in o.counts for o in outlines)]
    if not sides:
        return {"type": _type(stored.dtype), "shape": list(stored.shape), "range": {}}
    counts = {side: [0] * data.num_classes for side in sides}
    for outline in outlines:
        for side in sides:
            for number, count in enumerate(outline.counts[side]):
                counts[side][number] += count
    named: Record = {"names": list(data.label_names)} if data.label_names else {}
    return {"type": "class", "num_classes": data.num_classes, "counts": counts, **named}


def _problems(data: DataSet, outlines: Sequence[Outline]) -> list[str]:
    if not all("train" in outline.counts for outline in outlines):
        return []
    missing = [c for c in range(data.num_classes) if not any(sum(o.counts["train"][c : c + 1]) for o in outlines)]
    return [f"no owner has training samples of class {c}; see that all number their classes alike" for c in missing[:3]]


def _type(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
