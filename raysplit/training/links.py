"""The codecs with which a run is evaluated."""

from __future__ import annotations

from raysplit.actors.parts.at_cuts import AtCuts
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.links.at_cut import CodecAtCut
from raysplit.experiment.experiment import Experiment


def codecs_at_cuts(experiment: Experiment, algorithm: Algorithm) -> AtCuts | None:
    """Return the codecs at the cuts of the evaluated model; None where none of them changes values."""
    cuts = algorithm.cuts
    if not cuts or experiment.evaluation.links == "none":
        return None
    rules = experiment.link_rules()
    codecs = [rules.codec(maker, "smashed") for maker in _makers(algorithm)]
    seed = experiment.seed
    used = tuple(CodecAtCut(codec=codec, seed=seed) if codec is not None and codec.lossy else None for codec in codecs)
    return AtCuts(cuts=cuts, codecs=used, batch_size=experiment.batch_size) if any(used) else None


def _makers(algorithm: Algorithm) -> list[str]:
    """Return the party that makes the smashed data at each cut."""
    owner = next(iter(algorithm.setting.owners))
    nodes = algorithm.routes[0].node_names if algorithm.routes else ()
    return [owner, *nodes, *[owner] * len(algorithm.cuts)][: len(algorithm.cuts)]
