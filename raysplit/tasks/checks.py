"""Checks of targets: their type and shape, and their values, with the owner, the row and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

if TYPE_CHECKING:
    from raysplit.tasks.task import ElementTask


def require_whole(targets: Tensor, task: ElementTask, ndim: int, whose: str) -> None:
    """Raise ``ValueError`` unless the targets are whole numbers with so many dimensions."""
    if targets.ndim != ndim or targets.is_floating_point() or targets.is_complex():
        refuse_kind(targets, task, whose)


def refuse_kind(targets: Tensor, task: ElementTask, whose: str) -> NoReturn:
    """Raise ``ValueError`` for targets of another task, naming the one that would fit."""
    fitting = likely_kinds(targets)
    way = f"task: {' or '.join(fitting)} would fit" if fitting else "give targets of that form"
    raise ValueError(f"{whose} is {described(targets)}, and {task.kind} takes {task.wanted}; {way}")


def likely_kinds(targets: Tensor) -> tuple[str, ...]:
    """Return the kinds of task that take targets of this type and shape, the likeliest first."""
    if targets.is_complex():
        return ()
    if targets.ndim == 1:
        return ("regression",) if targets.is_floating_point() else ("classification",)
    if targets.ndim == 2:
        known = targets[~targets.isnan()] if targets.is_floating_point() else targets
        if bool(((known == 0) | (known == 1)).all()):
            return ("multi_label",)
        return ("regression",) if targets.is_floating_point() else ("token_classification", "language_model")
    return ("segmentation",) if targets.ndim == 3 and not targets.is_floating_point() else ()


def described(targets: Tensor) -> str:
    """Return the type and the shape of targets in words."""
    return f"{str(targets.dtype).removeprefix('torch.')} of shape {list(targets.shape)}"


def require_classes(targets: Tensor, num_classes: int, ignored: int | None, whose: str, first_row: int = 0) -> None:
    """Raise ``ValueError`` for a class that there is not, other than the one that is not counted."""
    bad = (targets < 0) | (targets >= num_classes)
    if ignored is not None:
        bad &= targets != ignored
    rule = f"classes are 0..{num_classes - 1}" + ("" if ignored is None else f", and {ignored} where there is none")
    refuse(bad, targets, whose, rule, first_row)


def refuse(bad: Tensor, targets: Tensor, whose: str, rule: str, first_row: int = 0) -> None:
    """Raise ``ValueError`` for the first of the targets that are marked [N, ...], with its row, its place and value.

    ``first_row`` is the number of the first of these rows.
    """
    if not bool(bad.any()):
        return
    row, *place = bad.nonzero()[0].tolist()
    inside = f", position {place[0] if len(place) == 1 else tuple(place)}" if place else ""
    count = int(bad.sum()) - 1
    others = f", and {count} more like it" if count else ""
    value = targets[(row, *place)].item()
    raise ValueError(f"{whose}, row {first_row + row}{inside}: {value:g}{others}; {rule}")
