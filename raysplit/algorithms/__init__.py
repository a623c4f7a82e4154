"""The algorithms by name; a new one is a file here and a line below, or an import path in the configuration."""

from __future__ import annotations

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.fedavg import FedAvg, FedProx
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
from raysplit.registry import imported_class, known

ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (
        Centralised,
        LocalOnly,
        FedAvg,
        FedProx,
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
    """An algorithm by name or by import path. Raises ``ValueError`` where there is none."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    return imported_class("algorithm", known("algorithm", name, ALGORITHMS), Algorithm)  # type: ignore[type-abstract]
