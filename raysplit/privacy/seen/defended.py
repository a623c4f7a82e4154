"""What is done to smashed data before they leave: what attackers adapt to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from torch import Tensor

from raysplit.cluster.links.at_cut import CodecAtCut
from raysplit.cluster.links.kinds import Kind
from raysplit.experiment.experiment import Experiment
from raysplit.guards.noise.mechanisms import clipped
from raysplit.guards.noise.smashed import defend
from raysplit.guards.rules import PrivacyRules
from raysplit.privacy.seen.views import View

Defend = Callable[[Tensor], Tensor]
"""What smashed data [n, ...] go through, drawn anew with every call."""


def defence_at(experiment: Experiment, view: View) -> Defend | None:
    """Return what the smashed data of a view go through, guards and then a codec; None where they leave as made.

    Every function that is returned draws the same numbers; a batch that it is called with later draws others.
    """
    codec = experiment.link_rules().codec(view.maker, "smashed")
    at_cut = None if codec is None or not codec.lossy else CodecAtCut(codec=codec, seed=experiment.seed)
    rules = experiment.setting.privacy
    is_guarded = view.number == 0 and rules.guards_smashed
    if at_cut is None and not is_guarded:
        return None
    numbers = count()

    def released(z: Tensor) -> Tensor:
        if is_guarded:
            guarded = defend(rules, z, seed=experiment.seed, number=next(numbers))
            assert isinstance(guarded, Tensor)
            z = guarded.to(z.dtype)
        return z if at_cut is None else at_cut(z, 0)

    return released


@dataclass(frozen=True, kw_only=True)
class KnownNoise:
    """Normal noise that a guard adds to smashed data.

    Attributes:
        clip: norm to which each row is clipped before; None does not clip.
        sigma: its standard deviation; None where it is in proportion to that of the batch.
        rho: that proportion.
    """

    clip: float | None
    sigma: float | None
    rho: float = 1.0

    def clipped(self, z: Tensor) -> Tensor:
        """Return the rows [n, ...] as they are before the noise."""
        return z if self.clip is None else clipped(z.flatten(1), self.clip).reshape(z.shape)


def noise_at(experiment: Experiment, view: View) -> KnownNoise | None:
    """Return the noise on the smashed data of a view; None without noise of a known derivative.

    Laplace noise, and noise behind a projection or dropout, have no bound of this kind.
    """
    rules = experiment.setting.privacy
    z = rules.z
    if view.number != 0 or z is None or z.mechanism != "gaussian" or rules.project or rules.dropout:
        return None
    if z.clip is None:
        return KnownNoise(clip=None, sigma=None, rho=z.noise) if z.noise else None
    return KnownNoise(clip=z.clip, sigma=z.sigma) if z.sigma > 0 else None


def changes_gradients(experiment: Experiment, owner: str) -> bool:
    """Return whether a codec or a guard changes the gradients that an owner sends."""
    codec = experiment.link_rules().codec(owner, "gradients")
    return experiment.setting.privacy.g is not None or (codec is not None and codec.lossy)


def described(experiment: Experiment) -> dict[str, object]:
    """Return the settings that change what leaves an owner, as plain data; empty where nothing does."""
    links = experiment.section("links")
    kinds: tuple[Kind, ...] = ("smashed", "gradients", "weights")
    found: dict[str, object] = {kind: links[kind] for kind in kinds if links.get(kind, "identity") != "identity"}
    if links.get("rules"):
        found["rules"] = links["rules"]
    rules, usual = experiment.setting.privacy, PrivacyRules()
    not_guards = ("secret_file", "ledger", "budget", "rehearsal", "alarm")
    changed = {key: value for key, value in rules if value != getattr(usual, key) and key not in not_guards}
    if changed:
        plain = rules.model_dump(mode="json")
        found["privacy"] = {key: plain[key] for key in changed}
    return found


def without_ledger(experiment: Experiment) -> Experiment:
    """Return the experiment for a replay, which charges nothing to the owners' ledgers."""
    privacy = experiment.setting.privacy
    if privacy.ledger is None:
        return experiment
    privacy = privacy.model_copy(update={"ledger": None})
    return replace(experiment, setting=replace(experiment.setting, privacy=privacy))
