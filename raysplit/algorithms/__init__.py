"""The algorithms by name; a new one is a file here and a line below, or an import path in the configuration."""

from __future__ import annotations

import difflib

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
from raysplit.registry import imported

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
    """An algorithm by name or by import path ``package.module:Class``."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" in name:
        found = imported(name)
        if not (isinstance(found, type) and issubclass(found, Algorithm)):
            raise ValueError(f"{name} is no algorithm; it must be a subclass of raysplit.algorithms.base.Algorithm")
        return found
    near = difflib.get_close_matches(name, ALGORITHMS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown algorithm {name!r}{hint} (one of {', '.join(ALGORITHMS)})")
