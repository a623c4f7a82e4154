"""Data sets of arrays with names of their own: several inputs and targets, a test side, samples of different lengths.

Beside an array NAME there may be ``NAME_test``, its test side, and ``NAME_offsets``: then NAME holds all samples one
after the other, and the offsets [N + 1] say where each begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.inputs import UNNAMED
from raysplit.data.labels import NO_LABEL
from raysplit.data.partition.stratify import TEST_FRACTION
from raysplit.data.reading import AS_FOUND, Reading, as_int64, read_inputs
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.masks import IDS, MASK, check_masks, with_mask
from raysplit.data.sequences.ragged import Ragged
from raysplit.data.sequences.tokens import next_tokens, stored_ids
from raysplit.data.sources.arrays import check_owners, split_by_class, split_sides
from raysplit.data.targets.arrays import num_outputs, read_targets
from raysplit.data.transforms import KeepIds
from raysplit.registry import shown

Array = npt.NDArray[Any]
TEST, OFFSETS = "_test", "_offsets"
_KEPT_ASIDE = ("owner", "split")


@dataclass(frozen=True, kw_only=True)
class ArrayRules:
    """What the arrays of a file are.

    Attributes:
        inputs: names of the inputs; None takes ``x``, or where there is none all arrays that are nothing else.
        targets: names of the targets; None takes ``y``.
        next_token: whether the target is the token that follows each token of the input, as language models learn.
        vocabulary: number of tokens; None takes the largest token plus one.
        pad: token that fills up shorter samples.
        mask: whether samples of different lengths get the input ``attention_mask``, true for what is no padding.
        test_fraction: share of every class that is held out where the file has no test side.
    """

    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    next_token: bool = False
    vocabulary: int | None = None
    pad: int = 0
    mask: bool = True
    test_fraction: float = TEST_FRACTION


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """The arrays of one side: those of samples, and where those of different lengths begin."""

    arrays: Mapping[str, Array]
    ragged: Mapping[str, Ragged]
    owner: Array | None

    def num_samples(self, name: str) -> int:
        return len(self.ragged.get(name, self.arrays[name]))


def is_named(columns: Mapping[str, Array], rules: ArrayRules) -> bool:
    """Return whether a file has more than one input ``x`` and one target ``y`` of samples of one length."""
    other = any(name.endswith((TEST, OFFSETS)) and name.rpartition("_")[0] in columns for name in columns)
    return "x" not in columns or other or rules != ArrayRules(test_fraction=rules.test_fraction)


def data_set_from_named(
    columns: Mapping[str, Array], source: str, rules: ArrayRules, reading: Reading = AS_FOUND
) -> DataSet:
    """Make a data set of the arrays of a file. Raises ``ValueError`` for arrays that do not fit together."""
    train = _side({name: value for name, value in columns.items() if not name.endswith(TEST)}, source)
    test = _side({name.removesuffix(TEST): v for name, v in columns.items() if name.endswith(TEST)}, source)
    inputs, targets = _roles(train, rules, source, reading)
    if inputs != [UNNAMED] and (set_too := reading.named()):
        key, value = next(iter(set_too.items()))
        raise ValueError(
            f"{source}: {key} is {value} and the inputs are {', '.join(inputs)}, which say by their types what they "
            f"are; leave it out"
        )
    if test.arrays:
        if missing := [name for name in (*inputs, *targets) if name not in test.arrays]:
            raise ValueError(
                f"{source} has the test side {shown(sorted(test.arrays))} and no {missing[0] + TEST!r}; give every "
                f"input and target a test side, or none"
            )
        if "split" in columns:
            raise ValueError(f"{source} has a column split and arrays {TEST}; give one of the two")
    given = [train, test] if test.arrays else [train]
    y, names = _targets(given, targets, source, reading)
    made = [_samples(side, inputs, own, rules, source, reading) for side, own in zip(given, y, strict=True)]
    samples, done = made[0]
    if test.arrays:
        both, owners = (samples, made[1][0]), (train.owner, test.owner)
    else:
        sides = _divided(samples, columns.get("split"), rules, source)
        both = samples.subset(sides[0]), samples.subset(sides[1])
        owners = (None, None) if train.owner is None else (train.owner[sides[0]], train.owner[sides[1]])
    ids = tuple(name for name in inputs if _is_ids(train.arrays[name], name, rules, reading))
    vocabulary = rules.vocabulary or max((_largest(side, ids) for side in both), default=-1) + 1
    return DataSet(
        train=both[0],
        test=both[1],
        num_classes=vocabulary if rules.next_token or reading.task == "language_model" else _num_outputs(both, reading),
        transform=KeepIds(names=ids),
        eval_transform=KeepIds(names=ids),
        natural_owner=owners[0],
        test_owner=owners[1],
        classes=_classes(both, reading),
        label_names=names,
        sizes={"vocab_size": vocabulary} if ids else {},
        done=done,
        reading=reading,
    )


def _side(arrays: Mapping[str, Array], source: str) -> _Side:
    values = dict(arrays)
    ragged = {}
    for name in [name for name in arrays if name.endswith(OFFSETS)]:
        of, offsets = name.removesuffix(OFFSETS), values.pop(name)
        if of not in arrays:
            raise ValueError(f"{source} has {name!r} and no {of!r}; give the samples that begin there")
        if offsets.dtype.kind not in "ui" or offsets.ndim != 1:
            raise ValueError(
                f"{source}: {name} is {offsets.dtype} of shape {offsets.shape}; give whole numbers [N + 1], the first "
                f"row of each sample and the number of all rows"
            )
        rows = torch.from_numpy(as_int64(offsets, source, name))
        try:
            ragged[of] = Ragged(offsets=rows)
        except ValueError as error:
            raise ValueError(f"{source}: {name}: {error}") from error
        if int(ragged[of].offsets[-1]) != len(values[of]):
            raise ValueError(
                f"{source}: {name} ends with {int(offsets[-1])} and {of} has {len(values[of])} rows; the last offset "
                f"is the number of rows"
            )
        if not ragged[of].lengths.all():
            row = int((ragged[of].lengths == 0).int().argmax())
            raise ValueError(f"{source}: {of} of row {row} is empty, by {name}; drop it")
    owner = values.pop("owner", None)
    values.pop("split", None)
    return _Side(arrays=values, ragged=ragged, owner=owner)


def _roles(side: _Side, rules: ArrayRules, source: str, reading: Reading) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and of the targets."""
    told = tuple(name for name, _ in reading.tasks)
    targets = list(rules.targets or ([] if rules.next_token else told or ["y"]))
    rest = [name for name in side.arrays if name not in targets and name != "y"]
    inputs = list(rules.inputs or (["x"] if "x" in side.arrays else rest))
    if missing := [name for name in (*inputs, *targets) if name not in side.arrays]:
        way = (
            "give y, or name the targets with data.targets; for a language model, set data.next_token: true"
            if missing == ["y"]
            else "name arrays that are there"
        )
        raise ValueError(f"{source} has {shown(sorted(side.arrays))} and no {missing[0]!r}; {way}")
    if not inputs:
        raise ValueError(f"{source} has {shown(sorted(side.arrays))} and no 'x'; give x, or inputs of other names")
    if rules.next_token and rules.targets:
        raise ValueError(f"data.next_token is true and data.targets is {', '.join(targets)}; give one of the two")
    return inputs, targets


def _samples(
    side: _Side, inputs: Sequence[str], y: Mapping[str, Tensor], rules: ArrayRules, source: str, reading: Reading
) -> tuple[Samples, tuple[str, ...]]:
    size = side.num_samples(inputs[0])
    for name in (*inputs, *y):
        if not side.arrays[name].ndim or side.num_samples(name) != size:
            raise ValueError(
                f"{source}: {name} has {side.num_samples(name) if side.arrays[name].ndim else 'no'} samples and "
                f"{inputs[0]} has {size}; give one entry per sample"
            )
    if not size:
        raise ValueError(f"{source}: {inputs[0]} has no samples; give some")
    if side.owner is not None:
        check_owners(side.owner, size, source)
    x, ragged, done = {}, {}, []
    for name in inputs:
        x[name], told = _input(side, name, rules, source, reading)
        done.append(told)
        if name in side.ragged:
            is_ids = _is_ids(side.arrays[name], name, rules, reading)
            ragged[name] = replace(side.ragged[name], pad=rules.pad if is_ids else 0)
    if rules.next_token:
        ids = next((name for name in (*IDS, *inputs) if name in inputs), inputs[0])
        y = {"y": next_tokens(x[ids], ragged.get(ids))}
        if ids in ragged:
            ragged["y"] = replace(ragged[ids], pad=NO_LABEL)
        done.append(f"y: the token that follows each token of {ids}, {NO_LABEL} after the last")
    else:
        ragged |= {name: replace(side.ragged[name], pad=NO_LABEL) for name in y if name in side.ragged}
    target = y["y"] if list(y) == ["y"] else y
    if list(x) == [UNNAMED]:
        return Samples(x=x[UNNAMED], y=target, ragged=ragged), tuple(done)
    if rules.mask and (names := [name for name in (*IDS, *inputs) if name in inputs and name in ragged]):
        x, ragged = with_mask(x, ragged, names[0])
    check_masks(x, ragged, "row", side.owner)
    return Samples(x=x, y=target, ragged=ragged), tuple(done)


def _is_ids(array: Array, name: str, rules: ArrayRules, reading: Reading) -> bool:
    is_predicted = rules.next_token and name in (*IDS, UNNAMED)
    if name == MASK or array.dtype.kind not in "ui":
        return is_predicted  # so that numbers with fractions are refused as tokens
    return name in IDS or reading.values == "ids" or is_predicted


def _input(side: _Side, name: str, rules: ArrayRules, source: str, reading: Reading) -> tuple[Tensor, str]:
    array, ragged = side.arrays[name], side.ragged.get(name)
    shape = f"{name}: {array.dtype} {list(array.shape[1:])}" + (" of different lengths" if ragged is not None else "")
    if _is_ids(array, name, rules, reading):
        ids = stored_ids(array, source, name=name, vocabulary=rules.vocabulary, ragged=ragged, owner=side.owner)
        return ids, f"{shape}, tokens, kept as whole numbers"
    if array.dtype.kind == "b" and name != UNNAMED:
        return torch.from_numpy(array.copy()), f"{shape}, a mask, kept as it is"
    if array.dtype.kind in "ui" and array.dtype != np.uint8 and name != UNNAMED:
        return torch.from_numpy(as_int64(array, source, name)), f"{shape}, whole numbers, kept as int64"
    if array.ndim == 1:  # numbers, one for each sample or row
        array = array[:, None]
        found = read_inputs(array, source, replace(reading, values=reading.values or "numbers"), name=name)
        return found.values[:, 0], found.done
    found = read_inputs(array, source, reading, name=name)
    return found.values, found.done


def _targets(
    sides: Sequence[_Side], names: Sequence[str], source: str, reading: Reading
) -> tuple[list[dict[str, Tensor]], tuple[str, ...] | None]:
    """Return the targets of each side by name, and the names of the classes where labels were renumbered."""
    found: list[dict[str, Tensor]] = [{} for _ in sides]
    labels = None
    for name in names:
        arrays = [side.arrays[name] for side in sides]
        if name in sides[0].ragged:
            values = tuple(_target_of_rows(array, name, source) for array in arrays)
        else:
            owner = sides[0].owner if len(sides) == 1 else None
            sizes, is_one_of_several = [len(array) for array in arrays], len(names) > 1
            read = read_targets(
                arrays, sizes, source, reading.of(name), owner, name=name, is_one_of_several=is_one_of_several
            )
            values, labels = read.sides, read.names
        for own, value in zip(found, values, strict=True):
            own[name] = value
    return found, labels if len(names) == 1 else None


def _target_of_rows(array: Array, name: str, source: str) -> Tensor:
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype.kind not in "uib":
        raise ValueError(f"{source}: {name} holds {array.dtype} values; targets are numbers")
    return torch.from_numpy(as_int64(array, source, name))


def _divided(samples: Samples, split: Array | None, rules: ArrayRules, source: str) -> tuple[Array, Array]:
    if split is not None:
        return split_sides(split, len(samples), source)
    named = [("y", samples.y)] if isinstance(samples.y, Tensor) else list(samples.y.items())
    by_row = [y for name, y in named if name not in samples.ragged]
    classes = [y for y in by_row if y.ndim == 1 and not y.is_floating_point()]
    labels = next(iter(classes or by_row), torch.zeros(len(samples), dtype=torch.int64))
    return split_by_class(labels, rules.test_fraction)


def _largest(samples: Samples, ids: Sequence[str]) -> int:
    values = [samples.x] if isinstance(samples.x, Tensor) else [samples.x[name] for name in ids if name in samples.x]
    return max((int(value.max()) for value in values if value.numel()), default=-1)


def _num_outputs(sides: Sequence[Samples], reading: Reading) -> int:
    named = [{"y": side.y} if isinstance(side.y, Tensor) else side.y for side in sides]
    return max(
        num_outputs([side[name] for side in named], own.task, ignore_index=own.ignore_index)
        for name, own in ((name, reading.of(name)) for name in named[0])
    )


def _classes(sides: Sequence[Samples], reading: Reading) -> dict[str, tuple[str, ...]] | None:
    """Name by their numbers the classes of those of several targets that have some; None where none has."""
    found: dict[str, tuple[str, ...]] = {}
    for name, y in {} if isinstance(sides[0].y, Tensor) else sides[0].y.items():
        is_label = y.ndim == 1 and not y.is_floating_point() and name not in sides[0].ragged
        if is_label and reading.of(name).task in (None, "classification"):
            top = max(int(side.y[name].max()) for side in sides if not isinstance(side.y, Tensor))
            found[name] = tuple(map(str, range(top + 1)))
    return found or None
