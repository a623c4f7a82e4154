"""What `raysplit leak` has measured of a run, in a sentence for each cut and the strongest attack of each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from raysplit.runs.records.damaged import Damaged, reading, text_of

LEAK = "leak/leak.json"


class _Measured(BaseModel):
    model_config = ConfigDict(strict=True)


class _Cheap(_Measured):
    dcor2_unbiased: FiniteFloat
    leak_fisher: FiniteFloat


class _Attack(_Measured):
    name: str
    kind: str
    cut: int | str | None
    observer: str
    knows: str
    data: str
    gain: FiniteFloat
    ssim: FiniteFloat | None = None
    ssim_chance: FiniteFloat | None = None
    label_accuracy: FiniteFloat | None = None
    label_accuracy_chance: FiniteFloat | None = None
    auc: FiniteFloat | None = None
    auc_chance: FiniteFloat | None = None
    nmse: FiniteFloat | None = None
    nmse_chance: FiniteFloat | None = None


class _Page(_Measured):
    owner: str
    cheap: dict[str, _Cheap]
    attacks: list[_Attack]


_FIGURES = {"ssim": "SSIM", "label_accuracy": "labels right", "auc": "AUC", "nmse": "nmse"}


def leak_sentences(folder: Path) -> list[str]:
    """Return what was measured in sentences; none where nothing was. Raises `Damaged`."""
    path = folder / LEAK
    try:
        text = text_of(path)
    except FileNotFoundError:
        return []
    with reading(path):
        content: Any = json.loads(text)
    try:
        page = _Page.model_validate(content)
    except ValidationError as error:
        raise Damaged(path, str(error.errors(include_url=False)[0]["msg"])) from error
    found = [
        f"Cut {cut}: leak by Fisher information {figures.leak_fisher:.2f}, unbiased distance correlation "
        f"{figures.dcor2_unbiased:.2f}."
        for cut, figures in page.cheap.items()
    ]
    kinds = dict.fromkeys(attack.kind for attack in page.attacks)
    return [*found, *(_strongest(page.owner, [a for a in page.attacks if a.kind == kind]) for kind in kinds)]


def _strongest(owner: str, attacks: Sequence[_Attack]) -> str:
    best = max(attacks, key=lambda attack: attack.gain)
    figure = next((name for name in _FIGURES if getattr(best, name) is not None), None)
    what = ""
    if figure is not None:
        value, chance = getattr(best, figure), getattr(best, f"{figure}_chance")
        beside = "" if chance is None else f" (chance {chance:.2f})"
        what = f": {_FIGURES[figure]} {value:.2f}{beside}"
    where = "" if best.cut is None else f" at cut {best.cut}"
    return (
        f"Strongest of {len(attacks)} by {best.kind}, on {owner}{where}: {best.name} of {best.observer} "
        f"({best.knows}/{best.data}){what}, {best.gain:.0%} of the way from chance."
    )
