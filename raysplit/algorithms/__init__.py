"""Training methods, and the table of their names: `ALGORITHMS`, `resolve_algorithm`.

* ``base``: `Algorithm`, the base class of all methods, on ``deployment`` (parties and handles) and ``resumable``
  (state for checkpoints).
* ``setting``: what a method receives and returns (`Options`, `Setting`, `Team`, `RoundReport`).
* ``unused``: the settings that a method does not use, which are refused (`RunOutline`).
* ``route``: cuts and compute nodes of methods whose parts form a chain (`Route`, `RouteOptions`).
* ``splitnn``, ``splitfed``, ``minibatch_sfl``: split learning with one server part.
* ``fedavg``, ``fedem``, ``mpsl``, ``mtsl``, ``mtl_split``, ``mas``: folders of one method each, with its own parties.

A new method is a file here and a line in the table below, or a class elsewhere that the configuration names by its
import path (``algorithm.name: my_package.my_module:MyMethod``).
"""

from __future__ import annotations

from typing import Any

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.fedavg import FedAvg, FedProx
from raysplit.algorithms.fedavg.fednova import FedNova
from raysplit.algorithms.fedavg.references import Centralised, LocalOnly
from raysplit.algorithms.fedem.fedem import FedEM
from raysplit.algorithms.mas.baselines import HOA, TAG, AllInOne, OneByOne
from raysplit.algorithms.mas.mas import MAS
from raysplit.algorithms.minibatch_sfl import MiniBatchSFL
from raysplit.algorithms.mpsl.mpsl import MPSL
from raysplit.algorithms.mtl_split.mtl_split import MTLSplit
from raysplit.algorithms.mtsl.mtsl import MTSL
from raysplit.algorithms.splitfed import SplitFedV1, SplitFedV2
from raysplit.algorithms.splitnn import SplitNN
from raysplit.algorithms.unused import RunOutline, refuse_unused
from raysplit.guards.checks import refuse_together
from raysplit.registry import imported_class, known

ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (
        Centralised,
        LocalOnly,
        FedAvg,
        FedProx,
        FedNova,
        FedEM,
        SplitNN,
        SplitFedV1,
        SplitFedV2,
        MiniBatchSFL,
        MPSL,
        MTSL,
        MTLSplit,
        AllInOne,
        OneByOne,
        TAG,
        HOA,
        MAS,
    )
}


def resolve_algorithm(name: str) -> type[Algorithm]:
    """Return the class of an algorithm by its name or import path. Raises ``ValueError`` if there is none."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    return imported_class("algorithm", known("algorithm", name, ALGORITHMS), Algorithm)  # type: ignore[type-abstract]


def check_run(method: type[Algorithm], options: Any, outline: RunOutline) -> None:
    """Raise ``ValueError`` for a run that a method cannot train, or that sets what the method does not use."""
    refuse_unused(method, outline, ALGORITHMS)
    refuse_together(outline.given)
    method.check(options, outline)
