"""What a data set holds and what is done with it: shapes, types, ranges, classes, owners and problems, as plain data.

The record is what ``raysplit inspect`` shows and what the run folder keeps as ``data.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.failures import described
from raysplit.data.inputs import UNNAMED, Values
from raysplit.data.labels import NO_LABEL, has_target, listed, without_samples
from raysplit.data.reading import AS_FOUND
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.ragged import Ragged
from raysplit.data.tables.statistics import answer_bytes
from raysplit.data.transforms import Transform, transformed
from raysplit.tasks import KINDS

MAX_OWNERS = 1000
"""Number of owners up to which the record has a line for each; the partition of a run has all of them."""

_NUM_LOOKED_AT = 256  # samples that the evaluation transform is applied to
_LARGE = 100  # inputs beyond it hardly train
_WHITE_OF_16_BITS = 65535
_DEEP = f"pixels, divided by {_WHITE_OF_16_BITS}"
_DARK = 64  # largest byte of pictures that use a quarter of their range

Record = dict[str, Any]
Indices = npt.NDArray[np.int64]

_MAX_TWINS = 3


def data_record(
    data: DataSet,
    name: str,
    owners: Mapping[str, Indices] | None = None,
    kinds: Mapping[str, str] = MappingProxyType({}),
) -> Record:
    """Describe a data set and the samples of its owners.

    Args:
        data: the data set.
        name: its name.
        owners: indices of the training samples of each owner; None leaves owners out.
        kinds: kinds of the tasks of several targets, where a setting says them.

    Returns:
        The record, of plain data. ``problems`` are sentences that name the way out.

    Raises:
        ValueError: for a transform that does not return one row per sample.
    """
    seen = _as_the_model_gets_them(data)
    is_outline = data.train is data.test  # owners read their own files
    sides = {"train": data.train, "val": data.val, "test": data.test}
    there = {
        side: samples for side, samples in sides.items() if samples is not None and not (is_outline and side != "test")
    }
    targets = {task: _target(data, task, there, kinds.get(task)) for task in _by_name(data.test.y, "y")}
    record: Record = {
        "name": name,
        "samples": {side: len(samples) for side, samples in there.items()},
        "inputs": {key: _input(data, key, seen[key]) for key in seen},
        "done": list(data.done),
        "targets": targets,
    }
    if data.statements:
        record["statements"] = [each.plain(answer_bytes(data.statements)) for each in data.statements]
    if owners is not None:
        record["owners"] = _owners(data, owners, is_outline)
    return record | {
        "problems": [*_input_problems(data, record), *_label_problems(data, targets, record["samples"], is_outline)]
    }


def _by_name(values: Values, unnamed: str) -> dict[str, Tensor]:
    return {unnamed: values} if isinstance(values, Tensor) else dict(values)


def _as_the_model_gets_them(data: DataSet) -> dict[str, Tensor]:
    _checked(data.transform, data.train.take(range(min(2, len(data.train)))), "training")
    rows = range(min(_NUM_LOOKED_AT, len(data.test)))
    return _by_name(_checked(data.eval_transform, data.test.take(rows), "evaluation"), UNNAMED)


def _checked(transform: Transform, samples: Samples, which: str) -> Values:
    """Apply a transform, and raise ``ValueError`` unless it returns one row per sample."""
    try:
        made: Any = transformed(samples.x, transform, lambda: 0)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"the {which} transform of the data failed: {described(error)}; repair it") from error
    rule = "it must return a tensor [B, ...], or tensors by name, with a row for each sample"
    if not isinstance(made, Tensor) and not (
        isinstance(made, Mapping) and made and all(isinstance(value, Tensor) for value in made.values())
    ):
        raise ValueError(f"the {which} transform of the data returned {type(made).__name__}; {rule}")
    for name, value in _by_name(made, UNNAMED).items():
        if not value.ndim or len(value) != len(samples):
            raise ValueError(
                f"the {which} transform of the data made {name} of shape {tuple(value.shape)} from {len(samples)} "
                f"samples; {rule}"
            )
    return made


def _range(value: Tensor) -> list[float] | None:
    if not value.numel() or value.is_complex():
        return None
    low, high = (value.int() if value.dtype == torch.bool else value).aminmax()
    if low.isfinite() and high.isfinite():
        return [low.item(), high.item()]
    return _range(value[value.isfinite()])  # a copy, which the samples of a whole data set rarely need


def _input(data: DataSet, key: str, seen: Tensor) -> Record:
    found = _by_name(data.train.x, UNNAMED).get(key)
    stored: Record = {}
    if found is not None:
        stored = {"stored": _type(found), "shape": list(found.shape[1:]), "range": _range(found)}
    if key in data.train.ragged:
        stored["lengths"] = _lengths(data.train.ragged[key])
    to_model = {"type": _type(seen), "shape": list(seen.shape[1:])}
    return {
        **stored,
        "to_model": {
            **to_model,
            "range": _range(seen),
            "whole": _is_whole(seen),
            "finite": bool(seen.isfinite().all()),
        },
    }


def _lengths(ragged: Ragged) -> list[float]:
    """Return the smallest, the mean and the largest length."""
    lengths = ragged.lengths.double()
    return [lengths.min().item(), lengths.mean().item(), lengths.max().item()]


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() or bool((value % 1 == 0).all())


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _target(data: DataSet, task: str, sides: Mapping[str, Samples], kind: str | None) -> Record:
    found = {side: _by_name(samples.y, "y")[task] for side, samples in sides.items()}
    first = next(iter(found.values()))
    if any(task in samples.ragged for samples in sides.values()) or (
        first.ndim > 1 and first.dtype == torch.int64 and data.classes is None
    ):
        shape = [None] if task in data.train.ragged else []
        ranges = {side: _range(y[y != NO_LABEL]) for side, y in found.items()}
        return {"type": _type(first), "shape": [*shape, *first.shape[1:]], "range": ranges}
    missing = {side: int((~_has_any(y, data, kind)).sum()) for side, y in found.items()}
    unlabelled: Record = {"without_label": missing} if any(missing.values()) else {}
    is_number = first.is_floating_point() or kind not in (None, "classification")
    if first.ndim != 1 or is_number or (data.classes is not None and task not in data.classes):
        values = {side: _range(y[~y.isnan()] if y.is_floating_point() else y) for side, y in found.items()}
        return {"type": _type(first), "shape": list(first.shape[1:]), "range": values} | unlabelled
    names = data.label_names if data.classes is None else data.classes.get(task)
    count = data.num_classes if data.classes is None else len(names or ())
    counts = {side: torch.bincount(y[y >= 0], minlength=count).tolist() for side, y in found.items()}
    record: Record = {"type": "class", "num_classes": count, "counts": counts}
    if names:
        record["names"] = list(names)
    return record | unlabelled


def _has_any(y: Tensor, data: DataSet, kind: str | None) -> Tensor:
    """Return which samples [N] have a target: of several tasks as their losses see it, else anything that counts."""
    if kind is not None:
        ignored = KINDS[kind].usual_ignored
        known = ~y.isnan() if y.is_floating_point() or ignored is None else y.ne(ignored)
        return known.reshape(len(y), -1).any(1)
    if y.ndim == 1 or not isinstance(data.test.y, Tensor):
        return has_target(y)
    known = ~y.isnan() if y.is_floating_point() else (y != NO_LABEL) & (y != 255)
    return known.flatten(1).any(1)


def _owners(data: DataSet, owners: Mapping[str, Indices], is_outline: bool) -> Record:
    sizes = {name: len(rows) for name, rows in owners.items()}
    record: Record = {"num": len(owners), "smallest": min(sizes.values()), "largest": max(sizes.values())}
    if len(owners) > MAX_OWNERS:
        return record
    y = data.train.y
    if is_outline or not isinstance(y, Tensor) or y.ndim != 1 or y.is_floating_point() or "y" in data.train.ragged:
        return record | {"samples": sizes}
    classes = {}
    for name, rows in owners.items():
        labels, counts = np.unique(y.numpy()[rows], return_counts=True)
        classes[name] = dict(zip(map(str, labels.tolist()), counts.tolist(), strict=True))
    return record | {"samples": sizes, "classes": classes}


def _input_problems(data: DataSet, record: Record) -> list[str]:
    """Say what looks wrong with the inputs as the model gets them, and what to set."""
    problems = []
    ours = bool(data.done) and list(record["inputs"]) == [UNNAMED] and "Samples" not in data.done[0]
    is_said = data.reading.values is not None or data.reading.max_value is not None
    for key, entry in record["inputs"].items():
        low, high = entry["to_model"]["range"] or (0.0, 0.0)
        stored = entry.get("range")
        if entry["to_model"]["type"].startswith(("int", "bool")):
            continue
        if not entry["to_model"]["finite"]:
            problems.append(f"{key} reaches the model with NaN or infinity; look at the data and their transform")
        elif stored and stored[0] == stored[1] and len(data.train) > 1:
            problems.append(
                f"every value of {key} is {stored[0]:g}; look at the files, from which nothing can be learned"
            )
        elif entry.get("stored") == "uint8" and stored and stored[1] < _DARK and not is_said:
            way = f"set data.max_value: {stored[1]:g} if that is white, or data.values" if ours else "look at the data"
            problems.append(
                f"the largest pixel of {key} is {stored[1]:g} of 255, so that inputs are {high:.3g} at most; {way}"
            )
        elif ours and not is_said and stored and stored[0] >= 0 and stored[1] < 0.25 and _DEEP in data.done[0]:
            largest = stored[1] * _WHITE_OF_16_BITS
            problems.append(
                f"the largest pixel of {key} is {largest:.0f} of {_WHITE_OF_16_BITS}, so that inputs are {high:.3g} at "
                f"most; set data.max_value ({_white(largest):g} for {(int(_white(largest)) + 1).bit_length() - 1} bits)"
            )
        elif not is_said and (max(-low, high) > _LARGE or (max(-low, high) > 1 and entry["to_model"]["whole"])):
            whole = "whole numbers" if entry["to_model"]["whole"] else "numbers"
            way = (
                f"set data.max_value (such as {_white(high):g}) if they are pixels, data.values: ids if they are ids, "
                f"data.values: numbers to keep them"
                if ours
                else "scale them in the data set or its transform if that is not meant"
            )
            problems.append(f"{key} reaches the model as {whole} from {low:g} to {high:g}, not scaled; {way}")
    return problems


def _white(high: float) -> float:
    """Return the likeliest value of white for pixels up to ``high``."""
    return next((white for white in (1, 15, 16, 255, 1023, 4095, 65535) if high <= white), high)


def _label_problems(
    data: DataSet, targets: Mapping[str, Record], sizes: Mapping[str, int], is_outline: bool
) -> list[str]:
    problems = []
    for task, target in targets.items():
        of = "" if task == "y" else f" of task {task}"
        if missing := target.get("without_label"):
            some = ", ".join(f"{count} of {sizes[side]} {side}" for side, count in missing.items() if count)
            problems.append(f"{some} samples have no label{of}; its loss and metrics leave them out")
        if target["type"] != "class":
            continue
        test = target["counts"]["test"]
        train = target["counts"].get("train", test)
        dead = without_samples([a + b for a, b in zip(train, test, strict=True)])
        untrained = [label for label in without_samples(train) if label not in dead]
        if dead:
            way = (
                "set data.renumber_labels: true to number those that occur from 0"
                if _can_renumber(data)
                else "check it"
            )
            where = "the test samples have" if is_outline else "the data have"
            problems.append(
                f"{where} no sample of class {listed(dead)}{of}, so that {len(dead)} of {len(train)} outputs can never "
                f"be right; {way}"
            )
        problems += [f"{pair}{of} differ in blanks or capitals alone; give both one name" for pair in _twins(target)]
        if untrained:
            problems.append(f"class {listed(untrained)}{of} has test samples and no training sample; check the split")
        if len(train) - len(dead) < 2:
            problems.append(f"there is a single class{of}, from which nothing can be learned; check the labels")
    return problems


def _twins(target: Record) -> list[str]:
    """Return the pairs of labels that are likely one, written in two ways."""
    seen: dict[str, str] = {}
    for name in map(str, target.get("names", ())):
        seen.setdefault(" ".join(name.casefold().split()), name)
    others = [(seen[" ".join(name.casefold().split())], name) for name in map(str, target.get("names", ()))]
    return [f"labels {first!r} and {name!r}" for first, name in others if first != name][:_MAX_TWINS]


def _can_renumber(data: DataSet) -> bool:
    return data.classes is None and bool(data.done) and data.reading == AS_FOUND and data.train is not data.test
