"""What a round costs an owner, before it begins: a charge for each kind of value that it is going to send."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from raysplit.guards.account.accounting import keep_probability
from raysplit.guards.account.charges import NONE, OPAQUE, PAID, Charge
from raysplit.guards.account.totals import GIVEN_WEIGHTS
from raysplit.guards.rules import PrivacyRules, ReportNoise

Key = Callable[..., str]


@dataclass(frozen=True, kw_only=True)
class GuardRecipe:
    """What a run says of the guard of an owner, which builds it where it lives.

    Attributes:
        rules: the ``privacy`` section.
        seed: seed of the run.
        run: digest of the settings that the owner's values depend on; other settings get other noise.
        folder: folder of the ledgers; None keeps them in memory alone.
        num_classes: number of classes of the labels.
        sends_smashed, sends_labels, sends_gradients: what the owner sends in a step.
        num_trained: number of its parts that have weights to train.
        init_by_owners: whether the owners draw the initial weights of their parts from their secret.
    """

    rules: PrivacyRules
    seed: int = 0
    run: str = ""
    folder: str | None = None
    num_classes: int = 0
    sends_smashed: bool = True
    sends_labels: bool = True
    sends_gradients: bool = False
    num_trained: int = 1
    init_by_owners: bool = False

    @cached_property
    def digest(self) -> str:
        """Digest of what decides about the bits that leave, beside what is received."""
        rules = self.rules.model_dump(exclude={"secret_file", "ledger", "budget", "alarm"})
        said = repr((sorted(rules.items()), self.num_classes, self.init_by_owners))
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    @property
    def weights_are_private(self) -> bool:
        """Whether the weights of the owner's parts tell no more than is charged."""
        weights = self.rules.weights
        return self.num_trained == 0 or (weights is not None and weights.noise > 0)

    @property
    def messages_are_private(self) -> bool:
        """Whether what the node with the loss gets tells no more than is charged."""
        z, labels = self.rules.z, self.rules.labels
        return z is not None and z.promises and (labels is not None or not self.sends_labels)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an owner is going to do in a round.

    Attributes:
        num_steps: its mini-batches.
        uses: most uses of one sample.
        most_rows: largest number of samples of a batch.
        num_rows: number of samples of all batches together.
        per_epoch: number of batches of an epoch.
        to: the parties that it may call.
    """

    num_steps: int
    uses: int
    most_rows: int
    num_rows: int
    per_epoch: int = 1
    to: tuple[str, ...] = ()


def charges_of(recipe: GuardRecipe, plan: Plan, base: Charge, key: Key, once: Key) -> list[Charge]:
    """Return the charges of a round.

    Args:
        recipe: the guards, and what the owner sends.
        plan: what it is going to do.
        base: a charge with the round.
        key: returns the key of messages from what they are.
        once: the same for messages that are drawn once for all rounds.
    """

    def charge(value: str) -> Charge:
        last, uses = plan.num_steps - 1, plan.uses
        return replace(base, value=value, first_step=0, last_step=last, to=plan.to, uses=uses, key=key(value))

    found = [_weights(recipe, plan, charge("weights"))] if recipe.rules.weights is not None else []
    found += [_smashed(recipe, plan, charge("z"))] if recipe.sends_smashed else []
    found += [_labels(recipe, charge("y"), once)] if recipe.sends_labels else []
    found += [_gradients(recipe.rules, plan, charge("g"))] if recipe.sends_gradients else []
    return [*found, _report(recipe, plan, charge("report"))]


def _smashed(recipe: GuardRecipe, plan: Plan, charge: Charge) -> Charge:
    rules, z = recipe.rules, recipe.rules.z
    charge = replace(charge, reason="" if recipe.weights_are_private else GIVEN_WEIGHTS)
    if z is None or not z.promises:
        changed = z is not None or rules.project is not None or rules.dropout or rules.nopeek
        return replace(charge, mechanism=OPAQUE if changed else NONE)
    mu = 2 * (z.clip or 0.0) / z.sigma
    if z.mechanism == "laplace":
        return replace(charge, mechanism="laplace", clip=z.clip, sigma=z.sigma, epsilon_pure=mu)
    return replace(charge, mechanism="gaussian", clip=z.clip, sigma=z.sigma, mu2=plan.uses * mu**2)


def _labels(recipe: GuardRecipe, charge: Charge, once: Key) -> Charge:
    rules = recipe.rules.labels
    if rules is None:
        return charge
    keep = keep_probability(rules.epsilon, recipe.num_classes)
    reason = f"kept with probability {keep:.4g}, drawn once for all rounds"
    return replace(charge, mechanism="rr", epsilon_pure=rules.epsilon, uses=1, key=once("labels"), reason=reason)


def _gradients(rules: PrivacyRules, plan: Plan, charge: Charge) -> Charge:
    g = rules.g
    if g is None:
        return charge
    if not g.promises:
        return replace(charge, mechanism=OPAQUE, reason=g.mechanism)
    clip, noise = g.clip or 0.0, g.noise or 0.0
    return replace(charge, mechanism="gaussian", clip=clip, sigma=noise * clip, mu2=plan.uses * (2 / noise) ** 2)


def _weights(recipe: GuardRecipe, plan: Plan, charge: Charge) -> Charge:
    rules, charge = recipe.rules.weights, replace(charge, to=())
    assert rules is not None
    if not recipe.num_trained:
        return replace(charge, mechanism=PAID, reason="they are not trained")
    if not rules.noise:
        return replace(charge, mechanism=OPAQUE)
    releases = plan.uses * recipe.num_trained  # every part has a sum of its own
    mu2 = releases * (2 / rules.noise) ** 2
    return replace(charge, mechanism="gaussian", clip=rules.clip, sigma=rules.noise * rules.clip, mu2=mu2)


def _report(recipe: GuardRecipe, plan: Plan, charge: Charge) -> Charge:
    noise = recipe.rules.report_noise
    if recipe.rules.reports == "none":
        return replace(charge, mechanism=PAID, reason="the loss is left out; sizes are taken for public")
    if noise is not None:
        scale, epsilon = report_scale(noise, plan), noise.epsilon
        return replace(charge, mechanism="laplace", uses=1, clip=noise.clip, sigma=scale, epsilon_pure=epsilon)
    if recipe.sends_smashed and recipe.sends_labels and recipe.messages_are_private:
        return replace(charge, mechanism=PAID, reason="a node computed the losses from what it was sent")
    return charge


def report_scale(noise: ReportNoise, plan: Plan) -> float:
    """Return the scale of the noise on a report: a sample changes the clipped means of the batches that it is in."""
    share = min(1.0, plan.uses * plan.most_rows / max(1, plan.num_rows))
    return noise.clip * share / noise.epsilon


def open_mechanism(recipe: GuardRecipe, value: str) -> tuple[str, str]:
    """Return the mechanism, and the reason, of a value that no charge of a round is for."""
    if value in ("weights", "snapshot"):
        return (PAID, "follows from what is charged") if recipe.weights_are_private else (NONE, "")
    if value == "counts":
        return PAID, "sizes are taken for public"
    return NONE, ""
