"""The guard of one owner in a run: it changes what leaves, keeps the ledger, and knows what the owner has received."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysplit.cluster.contract import COORDINATOR, current_samples
from raysplit.guards.account.ledger import Charge, Ledger, Mark, opened, path_in
from raysplit.guards.account.totals import total_of
from raysplit.guards.account.verbs import answer_of, sent_with
from raysplit.guards.alarm import Alarm
from raysplit.guards.costs import GuardRecipe, Plan, charges_of, open_mechanism, report_scale
from raysplit.guards.noise.gradients import averaged, with_marvell, with_max_norm
from raysplit.guards.noise.labels import flipped
from raysplit.guards.noise.mechanisms import Draws, joined, laplace_noise, parted, with_gaussian
from raysplit.guards.noise.smashed import released
from raysplit.guards.secret import Secret, Transcript, read_secret, rehearsal_secret

_END = 2**31 - 1
"""The number under which the end of a round is a step."""


class BudgetSpent(ValueError):
    """Raised where a round would cost an owner more than its budget; nothing of the round has left then."""


class OwnerGuard:
    """The guard of an owner; the link calls it for every value that leaves, and for every one that arrives.

    Args:
        recipe: what the run says.
        owner: the name of the owner.
        labels: the labels of its samples, [n] or by task.
    """

    def __init__(self, recipe: GuardRecipe, owner: str, labels: Any) -> None:
        self.rules = rules = recipe.rules
        self.owner = owner
        self._recipe = recipe
        self.true_labels = labels
        samples = len(labels if isinstance(labels, Tensor) else next(iter(labels.values())))
        self._require_delta(samples)
        self.secret = self._read_secret(recipe)
        self._identity = (self.secret.stream("tag").bytes(8), recipe.digest)
        self.ledger: Ledger = opened(
            owner, samples, None if recipe.folder is None else path_in(Path(recipe.folder), owner)
        )
        self._labels: Tensor | None = None
        if rules.labels is not None:
            self._labels = flipped(labels, recipe.num_classes, rules.labels.epsilon, self.secret.stream("labels"))
        self._kept = b""  # the transcript at the end of the last round
        self._transcript: Transcript | None = None
        self._round = self._attempt = -1
        self._branch = ""
        self._plan: Plan | None = None
        self._step: tuple[int, int] | None = None
        self._num_entered = self._num_noise = 0
        self._released: dict[str, tuple[Any, Any]] = {}
        self._alarm = Alarm() if rules.alarm else None
        self._sent: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def _read_secret(self, recipe: GuardRecipe) -> Secret:
        if recipe.rules.secret_file is not None and not recipe.rules.rehearsal:
            return read_secret(recipe.rules.secret_file, self.owner)
        return rehearsal_secret(recipe.seed, self.owner)

    def _require_delta(self, samples: int) -> None:
        delta, rules = self.rules.delta, self.rules
        if (rules.budget is not None or rules.weights is not None) and delta * samples >= 1:
            raise ValueError(
                f"delta is {delta:g} and {self.owner} has {samples} samples: with delta of 1/n or more a guard could "
                f"give one of them away; set it below {1 / samples:.2g}"
            )

    @property
    def init_seed(self) -> int | None:
        """Seed of the initial weights of the owners' parts; None takes that of the run."""
        return self.secret.shared_seed("init") if self._recipe.init_by_owners else None

    # -- a round -------------------------------------------------------------------------------------------------

    def begin(self, context: Any, state: Mapping[str, Tensor] | None, plan: Plan) -> None:
        """Begin a round: write what it will cost into the ledger, before anything of it leaves.

        Args:
            context: the instruction of the round.
            state: the weights that the owner received with it.
            plan: what the owner is going to do.

        Raises:
            BudgetSpent: it would cost more than the budget.
        """
        self.abort()
        self._round, self._attempt, self._plan = context.round, context.attempt, plan
        self._transcript = Transcript(self._kept)
        said = (
            context.round,
            context.cohort,
            context.weights,
            context.num_steps,
            context.row_weights,
            context.lr_scale,
        )
        self._transcript.add("round", *said, {} if state is None else dict(state))
        self._branch = self._key("round")
        self._pay(self._planned())

    def end(self) -> None:
        """End the round: what was received in it counts for the next one."""
        assert self._transcript is not None
        self._kept = self._transcript.digest
        self._close()

    def abort(self) -> None:
        """Give up the round that is under way."""
        if self._transcript is not None:
            self._close()

    def _close(self) -> None:
        self._flush()
        if self._alarm is not None:
            self._alarm.give_up()
        self._transcript = self._plan = self._step = None
        self._num_entered = self._num_noise = 0
        self._released.clear()

    def _pay(self, charges: Sequence[Charge]) -> None:
        fresh = [charge for charge in charges if not self.ledger.has(charge)]
        budget = self.rules.budget
        if budget is not None and any(charge.mu2 or charge.epsilon_pure for charge in fresh):
            after = total_of([*self.ledger.charges, *fresh], budget.delta).epsilon
            if after > budget.epsilon:
                before = total_of(self.ledger.charges, budget.delta).epsilon
                raise BudgetSpent(
                    f"its privacy budget is epsilon {budget.epsilon:g} at delta {budget.delta:g}; {before:.4g} is "
                    f"spent, and after this round it would be {after:.4g}. Nothing of the round has left; train fewer "
                    f"rounds, add noise, or raise privacy.budget"
                )
        self.ledger.charge(*fresh)

    def _planned(self) -> list[Charge]:
        assert self._plan is not None
        base = Charge(value="", round=self._round, attempt=self._attempt, rehearsal=self.rules.rehearsal)
        return charges_of(self._recipe, self._plan, base, self._key)

    def _key(self, *parts: Any, since: bytes | None = None) -> str:
        """Return the key of messages: of the secret, the rules, what the owner had received, and what they are."""
        digest = self._transcript.digest if self._transcript is not None else self._kept
        state = Transcript(digest if since is None else since)
        state.add(self._identity, *parts)
        return state.digest.hex()

    # -- what leaves ---------------------------------------------------------------------------------------------

    def leaves(self, value: str, content: Any, destination: str, step: Any = None) -> Any:
        """Return what is sent for a value of this kind, and note it in the ledger before.

        Args:
            value: its kind, such as ``"z"``.
            content: the value.
            destination: who receives it.
            step: the `StepId` of the call, or None.

        Raises:
            ValueError: it cannot be guarded as the rules say.
        """
        if step is not None and hasattr(step, "step") and self._transcript is not None:
            self._enter((step.step, step.micro))
        elif value == "weights" and self._transcript is not None:
            self._enter((_END, 0))
        if value == "z" and self.rules.guards_smashed:
            return self._once("z", content, step, lambda: released(self.rules, content, self._draws, self._recipe.seed))
        if value == "y" and self._labels is not None:
            return self._flipped(content)
        if value == "g" and self.rules.g is not None:
            return self._once("g", content, step, lambda: self._noisy_gradient(content))
        if value not in ("z", "y", "g", "report"):
            self._note_open(value, destination or COORDINATOR)
        return content

    def kind_of(self, verb: str, kind: str, destination: str) -> str:
        """Return the kind of value of an argument of a call, or of an answer; empty for one that tells nothing."""
        return sent_with(verb, kind) if destination else answer_of(verb)

    def count(self, value: str, num_bytes: int) -> None:
        """Count bytes of a kind of value that leave now."""
        self._sent[value][0] += num_bytes
        self._sent[value][1] += 1

    def _note_open(self, value: str, destination: str) -> None:
        mechanism, reason = open_mechanism(self._recipe, value)
        self.ledger.charge(
            Charge(
                value=value,
                round=self._round,
                attempt=max(0, self._attempt),
                to=(destination,),
                mechanism=mechanism,
                reason=reason,
                key=self._key(value, destination),
                rehearsal=self.rules.rehearsal,
            )
        )

    def _once(self, value: str, content: Any, step: Any, make: Any) -> Any:
        """Release a value once, whoever gets it, so that no one has two noises of it."""
        if self._step is None or step is None:
            raise ValueError(
                f"{self.owner} sends {value} outside of a step, for which the ledger has no charge; the method cannot "
                f"be guarded by privacy.{value}"
            )
        pieces = content if isinstance(content, tuple) else (content,)
        known = self._released.get(value)
        if known is not None:
            if len(known[0]) == len(pieces) and all(a is b for a, b in zip(known[0], pieces, strict=True)):
                return known[1]
            raise ValueError(
                f"{self.owner} sends {value} twice in a step, and the ledger has charged it once; the method cannot be "
                f"guarded by privacy.{value}"
            )
        made = make()
        self._released[value] = pieces, made
        return made

    def _enter(self, step: tuple[int, int]) -> None:
        """Note a step in the ledger; where it has come otherwise than in an earlier attempt, the round is paid
        again."""
        if step == self._step or self._transcript is None or self._plan is None:
            return
        self._step = step
        self._released.clear()
        at, number = self._transcript.digest.hex(), self._num_entered if step[0] != _END else _END
        before = self.ledger.known_step(self._branch, number)
        if before is not None and before != at:
            self._branch = self._key("round")
            self._pay(self._planned())
            before = self.ledger.known_step(self._branch, number)
        if before is None:
            self.ledger.step(self._branch, number, at, self._taken())
        self._num_entered += 1

    def _taken(self) -> dict[str, tuple[int, int]]:
        taken = {value: (size, count) for value, (size, count) in self._sent.items()}
        self._sent.clear()
        return taken

    def _flush(self) -> None:
        self.ledger.sent(self._branch, self._taken())

    def _draws(self, purpose: str) -> Draws:
        assert self._transcript is not None
        assert self._step is not None
        step, micro = self._step
        found: Draws = self.secret.stream(purpose, self._round, step, self._transcript.digest, micro)
        return found

    def _flipped(self, y: Any) -> Tensor:
        assert self._labels is not None
        return self._labels[self._samples(len(y))].to(y.dtype)

    def _samples(self, num_rows: int) -> Tensor:
        found: Tensor | None = current_samples.get()
        if found is None or len(found) != num_rows:
            raise ValueError(f"{self.owner} sends labels of {num_rows} samples, and does not know which they are")
        return found

    def _noisy_gradient(self, g: Any) -> Any:
        rules = self.rules.g
        assert rules is not None
        tensors = g if isinstance(g, tuple) else (g,)
        rows = joined(tensors)
        if rules.mechanism == "gaussian":
            rows = with_gaussian(
                rows, rules.clip or math.inf, (rules.noise or 0.0) * (rules.clip or 0.0), self._draws("g")
            )
        elif rules.mechanism == "max_norm":
            rows = with_max_norm(rows, self._draws("g"))
        elif rules.mechanism == "marvell":
            own = self.true_labels[self._samples(len(rows))]
            rows = with_marvell(rows, own, rules.error, self._draws("g"))
        else:
            rows = averaged(rows)
        made = parted(rows, tensors)
        return made if isinstance(g, tuple) else made[0]

    # -- what the owner asks -------------------------------------------------------------------------------------

    def weight_noise(self, sigma: float, size: int) -> Tensor:
        """Draw noise [size] for a step of a part, from what the owner has received so far."""
        assert self._transcript is not None
        draws = self.secret.stream("weights", self._round, self._num_noise, self._transcript.digest)
        self._num_noise += 1
        return torch.from_numpy(draws.normal(0.0, sigma, size))

    def loss(self, loss: float) -> float:
        """Return a batch's mean loss as it counts for the report."""
        noise = self.rules.report_noise
        return loss if noise is None else min(max(loss, 0.0), noise.clip)

    def watch(self, g: Any) -> None:
        """Look at a gradient that the owner got for its smashed data.

        Raises:
            AlarmRaised: the gradients of the first epochs do not depend on the owner's labels.
        """
        alarm, plan = self._alarm, self._plan
        if alarm is None or alarm.is_over or plan is None or not isinstance(self.true_labels, Tensor):
            return
        rows = joined(g if isinstance(g, tuple) else (g,))
        labels = self.true_labels if self._labels is None else self._labels
        alarm.add(rows, labels[self._samples(len(rows))])
        if self._num_entered % plan.per_epoch == 0:
            alarm.judge(self.owner, plan.to)

    def reported(self, loss: float) -> float | None:
        """Return the mean loss of a round as it is reported; None where it is not."""
        if self.rules.reports == "none":
            return None
        if self.rules.report_noise is None or self._plan is None:
            return loss
        assert self._transcript is not None
        draws = self.secret.stream("report", self._round, 0, self._transcript.digest)
        return loss + float(laplace_noise((1,), report_scale(self.rules.report_noise, self._plan), draws)[0])

    def received(self, value: Any) -> None:
        """Take in what another party has sent within a round."""
        if self._transcript is not None:
            self._transcript.add(value)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what has been received, as a hash, and how far the ledger is written."""
        self._flush()
        mark = self.ledger.mark()
        found: dict[str, Any] = {"received": self._kept.hex(), "size": mark.size, "digest": mark.digest}
        return found if self._alarm is None else {**found, "alarm": [list(pair) for pair in self._alarm.results]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the end of a round; the ledger stays as it is.

        Raises:
            LedgerRefused: the ledger is shorter than it was then, or changed.
        """
        self.abort()
        self.ledger.require_since(Mark(size=state["size"], digest=state["digest"]))
        self._kept = bytes.fromhex(state["received"])
        if self._alarm is not None:
            self._alarm.results = [(share, chance) for share, chance in state["alarm"]]
