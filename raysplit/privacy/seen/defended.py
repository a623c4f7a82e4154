"""What is done to smashed data before they leave: what attackers adapt to."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from raysplit.cluster.links.at_cut import CodecAtCut
from raysplit.cluster.links.kinds import Kind
from raysplit.experiment.experiment import Experiment
from raysplit.privacy.seen.views import Sight, View


def defends_of(experiment: Experiment, sight: Sight) -> tuple[Callable[[Tensor], Tensor] | None, ...]:
    """Return what each view's smashed data go through; None where they leave as the part made them."""
    return tuple(_coded(experiment, view) for view in sight.views)


def _coded(experiment: Experiment, view: View) -> Callable[[Tensor], Tensor] | None:
    codec = experiment.link_rules().codec(view.maker, "smashed")
    if codec is None or not codec.lossy:
        return None
    at_cut = CodecAtCut(codec=codec, seed=experiment.seed)
    return lambda z: at_cut(z, 0)


def changes_gradients(experiment: Experiment, owner: str) -> bool:
    """Return whether a codec changes the gradients that an owner sends."""
    codec = experiment.link_rules().codec(owner, "gradients")
    return codec is not None and codec.lossy


def described(experiment: Experiment) -> dict[str, object]:
    """Return the settings that change what leaves an owner, as plain data; empty where nothing does."""
    links = experiment.section("links")
    kinds: tuple[Kind, ...] = ("smashed", "gradients", "weights")
    found: dict[str, object] = {kind: links[kind] for kind in kinds if links.get(kind, "identity") != "identity"}
    if links.get("rules"):
        found["rules"] = links["rules"]
    return found
