"""The guard of one owner in a run: it changes what leaves, and has it written down first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from raysplit.cluster.contract import COORDINATOR, current_samples
from raysplit.guards.account.verbs import answer_of, sent_with
from raysplit.guards.alarm import Alarm
from raysplit.guards.costs import GuardRecipe, Plan, report_scale
from raysplit.guards.noise.gradients import averaged, with_marvell, with_max_norm
from raysplit.guards.noise.labels import flipped
from raysplit.guards.noise.mechanisms import Draws, joined, laplace_noise, parted, with_gaussian
from raysplit.guards.noise.smashed import Back, released
from raysplit.guards.secret import Secret, read_secret, rehearsal_secret
from raysplit.guards.spending import END, Spending


class OwnerGuard:
    """The guard of an owner; the link calls it for every value that leaves, and for every one that arrives.

    Args:
        recipe: what the run says.
        owner: the name of the owner.
        labels: the labels of its samples, [n] or by task.

    Raises:
        ValueError: the secret or the ledger cannot be read, or delta is too large for the owner.
    """

    def __init__(self, recipe: GuardRecipe, owner: str, labels: Any) -> None:
        self.rules = rules = recipe.rules
        self.owner = owner
        self._recipe = recipe
        self._true_labels = labels
        samples = len(labels if isinstance(labels, Tensor) else next(iter(labels.values())))
        self._require_delta(samples)
        self.secret = self._read_secret()
        self.spending = Spending(recipe, owner, samples, self.secret)
        self._labels: Tensor | None = None
        if rules.labels is not None:
            draws = self.secret.stream("labels", transcript=self.spending.start)
            self._labels = flipped(labels, recipe.num_classes, rules.labels.epsilon, draws)
        self._alarm = Alarm() if rules.alarm else None
        self._released: dict[str, tuple[Any, Any]] = {}
        self._back: dict[tuple[int, int], Back] = {}
        self._num_noise = 0

    def _read_secret(self) -> Secret:
        if self.rules.secret_file is not None:
            return read_secret(self.rules.secret_file, self.owner)
        return rehearsal_secret(self._recipe.seed, self.owner)

    def _require_delta(self, samples: int) -> None:
        delta, rules = self.rules.delta, self.rules
        if (rules.budget is not None or rules.weights is not None) and delta * samples >= 1:
            raise ValueError(
                f"delta is {delta:g} and {self.owner} has {samples} samples: with a delta of 1/n or more a guard could "
                f"give one of them away; set it below {1 / samples:.2g}"
            )

    @property
    def init_seed(self) -> int | None:
        """Seed of the initial weights of the owners' parts; None takes that of the run."""
        return self.secret.shared_seed("init") if self._recipe.init_by_owners else None

    # -- a round -------------------------------------------------------------------------------------------------

    def begin(self, context: Any, state: Mapping[str, Tensor] | None, plan: Plan) -> None:
        """Begin a round.

        Args:
            context: the instruction of the round.
            state: the weights that the owner received with it.
            plan: what the owner is going to do.

        Raises:
            BudgetSpent: it would cost more than the budget.
        """
        self._forget()
        self.spending.begin(context, state, plan)

    def end(self) -> None:
        """End the round."""
        self.spending.end()
        self._forget()

    def abort(self) -> None:
        """Give up the round that is under way."""
        self.spending.abort()
        self._forget()

    def _forget(self) -> None:
        self._released.clear()
        self._back.clear()
        self._num_noise = 0
        if self._alarm is not None:
            self._alarm.give_up()

    # -- what leaves and what arrives ----------------------------------------------------------------------------

    def kind_of(self, verb: str, kind: str, destination: str) -> str:
        """Return the kind of value of an argument of a call, or of an answer; empty for one that tells nothing."""
        return sent_with(verb, kind) if destination else answer_of(verb)

    def leaves(self, value: str, content: Any, destination: str, step: Any = None) -> Any:
        """Return what is sent for a value of this kind, and have it in the ledger before.

        Args:
            value: its kind, such as ``"z"``.
            content: the value.
            destination: who receives it.
            step: the `StepId` of the call, or None.

        Raises:
            ValueError: it cannot be guarded as the rules say.
        """
        spending, rules = self.spending, self.rules
        at = (step.step, step.micro) if hasattr(step, "micro") else END if value == "weights" else None
        if at is not None and spending.enter(at):
            self._released.clear()
        if value == "z" and rules.guards_smashed:
            return self._once(value, content, lambda: self._noisy_smashed(content))
        if value == "y" and self._labels is not None:
            return self._labels[self._samples(len(content))].to(content.dtype)
        if value == "g" and rules.g is not None:
            return self._once(value, content, lambda: self._noisy_gradient(content))
        if value not in ("z", "y", "g", "report"):
            spending.note(value, destination or COORDINATOR)
        return content

    def count(self, value: str, num_bytes: int) -> None:
        """Count the bytes of a value as it leaves."""
        self.spending.count(value, num_bytes)

    def received(self, value: Any) -> None:
        """Take in what another party has sent within a round."""
        self.spending.received(value)

    def _once(self, value: str, content: Any, make: Callable[[], Any]) -> Any:
        """Release a value once, whoever gets it, so that nobody has it with two noises."""
        if self.spending.step in (None, END):
            raise ValueError(
                f"{self.owner} sends {value} outside of a step, for which the ledger has no charge; the method cannot "
                f"be guarded by privacy.{value}"
            )
        pieces = content if isinstance(content, tuple) else (content,)
        known = self._released.get(value)
        if known is None:
            known = self._released[value] = pieces, make()
        elif len(known[0]) != len(pieces) or any(a is not b for a, b in zip(known[0], pieces, strict=True)):
            raise ValueError(
                f"{self.owner} sends {value} twice in a step, and the ledger has charged it once; the method cannot be "
                f"guarded by privacy.{value}"
            )
        return known[1]

    def _draws(self, purpose: str) -> Draws:
        spending = self.spending
        assert spending.step is not None
        step, micro = spending.step
        found: Draws = self.secret.stream(purpose, spending.round, step, spending.transcript, micro)
        return found

    def _samples(self, num_rows: int) -> Tensor:
        found: Tensor | None = current_samples.get()
        if found is None or len(found) != num_rows:
            raise ValueError(f"{self.owner} sends {num_rows} rows, and does not know of which samples they are")
        return found

    def _noisy_smashed(self, z: Any) -> Any:
        made, back = released(self.rules, z, self._draws, self._recipe.seed)
        if back is not None and self.spending.step is not None:
            self._back[self.spending.step] = back
        return made

    def _noisy_gradient(self, g: Any) -> Any:
        rules = self.rules.g
        assert rules is not None
        tensors = g if isinstance(g, tuple) else (g,)
        rows = joined(tensors)
        if rules.mechanism == "gaussian":
            clip = rules.clip or math.inf
            rows = with_gaussian(rows, clip, (rules.noise or 0.0) * clip, self._draws("g"))
        elif rules.mechanism == "max_norm":
            rows = with_max_norm(rows, self._draws("g"))
        elif rules.mechanism == "marvell":
            own = self._true_labels[self._samples(len(rows))]
            rows = with_marvell(rows, own, rules.error, self._draws("g"))
        else:
            rows = averaged(rows)
        made = parted(rows, tensors)
        return made if isinstance(g, tuple) else made[0]

    # -- what the owner asks -------------------------------------------------------------------------------------

    def weight_noise(self, sigma: float, size: int) -> Tensor:
        """Draw noise [size] for a step of a part, from what the owner has received so far."""
        draws = self.secret.stream("weights", self.spending.round, self._num_noise, self.spending.transcript)
        self._num_noise += 1
        return torch.from_numpy(draws.normal(0.0, sigma, size))

    def loss(self, loss: float) -> float:
        """Return a batch's mean loss as it counts for the report."""
        noise = self.rules.report_noise
        return loss if noise is None else min(max(loss, 0.0), noise.clip)

    def reported(self, loss: float) -> float | None:
        """Return the mean loss of a round as it is reported; None where it is not."""
        spending, noise = self.spending, self.rules.report_noise
        if self.rules.reports == "none":
            return None
        if noise is None or spending.plan is None:
            return loss
        draws = self.secret.stream("report", spending.round, 0, spending.transcript)
        return loss + float(laplace_noise((1,), report_scale(noise, spending.plan), draws)[0])

    def through(self, step: Any, g: Any) -> Any:
        """Return the gradient of what the first part computed, from that of what left in this step (a `StepId`)."""
        back = self._back.pop((step.step, step.micro), None)
        return g if back is None else back(g)

    def watch(self, g: Any) -> None:
        """Look at a gradient that the owner got for its smashed data.

        Raises:
            AlarmRaised: the gradients of the first epochs do not depend on the owner's labels.
        """
        alarm, plan = self._alarm, self.spending.plan
        if alarm is None or alarm.is_over or plan is None or not isinstance(self._true_labels, Tensor):
            return
        rows = joined(g if isinstance(g, tuple) else (g,))
        labels = self._true_labels if self._labels is None else self._labels
        alarm.add(rows, labels[self._samples(len(rows))])
        if self.spending.num_steps % plan.per_epoch == 0:
            alarm.judge(self.owner, plan.to)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what has been received, as a hash, how far the ledger is written, and what the alarm has seen."""
        found = self.spending.state_dict()
        return found if self._alarm is None else {**found, "alarm": [list(pair) for pair in self._alarm.results]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the end of a round; the ledger stays as it is.

        Raises:
            LedgerRefused: the ledger is shorter than it was then, or changed.
        """
        self.abort()
        self.spending.load_state_dict(state)
        if self._alarm is not None:
            self._alarm.results = [(share, chance) for share, chance in state["alarm"]]
