"""What tables of runs need to know of the algorithms, without torch, which the algorithms themselves load."""

from __future__ import annotations

TITLES = {
    "centralised": "Centralized",
    "local": "Local only",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fednova": "FedNova",
    "fedem": "FedEM",
    "splitnn": "SplitNN",
    "splitfed_v1": "SplitFed V1",
    "splitfed_v2": "SplitFed V2",
    "minibatch_sfl": "MiniBatch-SFL",
    "mpsl": "MP-SL",
    "mtsl": "MTSL",
    "mtl_split": "MTL-Split",
    "all_in_one": "All in one",
    "one_by_one": "One by one",
    "tag": "TAG",
    "hoa": "HOA",
    "mas": "MAS",
}
"""The titles of `raysplit.algorithms.ALGORITHMS` by name."""

TRAININGS = {"tag": 2, "hoa": 2}
"""The algorithms that train ``training.rounds`` rounds several times."""


def title_of(algorithm: str) -> str:
    """Return the title of an algorithm, or its import path."""
    return TITLES.get(algorithm, algorithm)
