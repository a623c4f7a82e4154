"""A protocol: the runs that decide a paper's claims, fixed before they were made, as a YAML file of this package.

A protocol has common settings, arms (the methods that are compared) and steps (groups of runs, most telling first). A
cell is one run: its arm, the settings in which it differs from others, and its seed.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raysplit.claims.claim import Claim, Condition
from raysplit.config.errors import ConfigError, explained
from raysplit.plain_yaml import read, text_of
from raysplit.schedulers.rules import Rules
from raysplit.sweeps.sweep import put_setting

FOLDER = Path(__file__).parent / "protocols"
ARM, SEED = "arm", "seed"


class Arm(Rules):
    """One of the methods that are compared: its settings, and the settings of a step that mean nothing to it."""

    title: str
    set: dict[str, Any]
    ignores: tuple[str, ...] = ()
    """Settings of steps that change nothing here, such as the cut of a model that is not cut: one run serves all."""


class Step(Rules):
    """A group of runs: every arm with every combination of the values, for every seed."""

    title: str
    arms: tuple[str, ...]
    set: dict[str, Any] = {}
    over: dict[str, tuple[Any, ...]] = {}
    seeds: tuple[int, ...]
    cost_s: float = Field(gt=0)
    """Seconds of one run on one quiet core."""


class Curves(Rules):
    """What a picture shows over rounds: a column, for some arms, in panels by condition."""

    column: str
    label: str
    arms: tuple[str, ...]
    where: tuple[Condition, ...]


class Protocol(Rules):
    """The runs that decide the claims of a paper."""

    name: str
    title: str
    paper: str
    about: str
    settings: dict[str, Any] = {}
    follow_seed: tuple[str, ...] = ()
    """Further settings that take the value of the seed, such as ``data.seed``."""
    arms: dict[str, Arm] = {}
    steps: tuple[Step, ...] = ()
    keep: tuple[str, ...] = ()
    """Columns of the metrics that a record keeps; a name that ends in ``*`` stands for all that begin so."""
    claims: tuple[Claim, ...]
    curves: Curves | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a protocol.

    Attributes:
        values: the arm, the settings of the step that mean something to it, and the seed.
        tree: the whole configuration, as settings by section.
        step: the step that needs it first.
        cost_s: seconds on one quiet core.
    """

    values: Mapping[str, Any]
    tree: Mapping[str, Any]
    step: str
    cost_s: float

    @property
    def key(self) -> str:
        """Key of the run: its values as JSON."""
        return json.dumps(self.values, sort_keys=True)

    @property
    def digest(self) -> str:
        """Digest of all its settings but the folder of the data: a record under other settings is another run."""
        tree = copy.deepcopy(dict(self.tree))
        tree.get("data", {}).pop("root", None)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return ", ".join(str(v) if k == ARM else f"{k} {v}" for k, v in self.values.items())


def protocol_names() -> list[str]:
    """Return the names of all protocols."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """Read a protocol of this package by its name."""
    tree = read(text_of(FOLDER / f"{name}.yaml"), f"the protocol {name}")
    try:
        return Protocol.model_validate(tree)
    except ValidationError as error:
        raise explained(error, Protocol, tree, "") from None


def cells(protocol: Protocol, overrides: Mapping[str, Any] | None = None) -> list[Cell]:
    """Return all runs in the order of the steps, and in a step seed by seed, so that what is cut short can be read.

    Args:
        protocol: the protocol.
        overrides: settings that take the place of those of the protocol, by key: a stand-in for a first look.
    """
    found: dict[str, Cell] = {}
    for step in protocol.steps:
        for seed, combination, arm in itertools.product(step.seeds, _combinations(step.over), step.arms):
            cell = _cell(protocol, step, arm, {**step.set, **combination}, seed, overrides or {})
            found.setdefault(cell.key, cell)
    return list(found.values())


def _combinations(over: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*over.values()):
        yield dict(zip(over, values, strict=True))


def _cell(
    protocol: Protocol, step: Step, arm: str, values: Mapping[str, Any], seed: int, overrides: Mapping[str, Any]
) -> Cell:
    if arm not in protocol.arms:
        raise ConfigError(f"the step {step.title!r} of {protocol.name} has the arm {arm!r}, which is not described")
    described = protocol.arms[arm]
    known = {key: value for key, value in values.items() if key not in described.ignores}
    tree = copy.deepcopy(protocol.settings)
    for key, value in {**known, **described.set, **dict.fromkeys((SEED, *protocol.follow_seed), seed)}.items():
        put_setting(tree, key, value)
    for key, value in overrides.items():
        put_setting(tree, key, value)
    return Cell(values={ARM: arm, **known, SEED: seed}, tree=tree, step=step.title, cost_s=step.cost_s)
