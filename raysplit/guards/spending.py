"""What an owner spends: rounds, steps and messages are written into its ledger before they leave.

The ledger knows a message by its key: what the owner had received before it, and what it is. So a round that is
repeated with the same inputs costs nothing, and one that goes another way is paid again from the step on where it does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.guards.account.charges import Charge
from raysplit.guards.account.ledger import Ledger, Mark, opened, path_in
from raysplit.guards.account.totals import total_of
from raysplit.guards.costs import GuardRecipe, Plan, charges_of, open_mechanism
from raysplit.guards.secret import Secret, Transcript

END = (2**31 - 1, 0)
"""The step that stands for weights, which leave after steps."""


class BudgetSpent(ValueError):
    """Raised where a round would cost an owner more than its budget; nothing of the round has left then."""


class Spending:
    """The account of an owner in a run.

    Args:
        recipe: what the run says.
        owner: the name of the owner.
        samples: the number of its samples.
        secret: of the owner, which is known by a tag that does not tell it.

    Attributes:
        plan: what the owner does in the round that is under way; None between rounds.
        round: the latest round.
        step: the step that is under way and its micro-batch; None before the first.
        num_steps: the number of steps of the round so far.
        start: the hash of the settings, with which all that is received begins.
    """

    def __init__(self, recipe: GuardRecipe, owner: str, samples: int, secret: Secret) -> None:
        self._recipe = recipe
        self._owner = owner
        self._tag = secret.stream("tag").bytes(8)
        start = Transcript()
        start.add("run", recipe.run, recipe.digest)  # what the owner has received first
        self.start = start.digest
        if recipe.rules.budget is not None and recipe.folder is None:
            raise ValueError(
                f"privacy.budget is for all that leaves {owner}, and this run keeps its ledger in memory alone; train "
                f"into a run folder, or set privacy.ledger"
            )
        path = None if recipe.folder is None else path_in(Path(recipe.folder), owner)
        self.ledger: Ledger = opened(owner, samples, path)
        self.plan: Plan | None = None
        self.round = self._attempt = -1
        self.step: tuple[int, int] | None = None
        self.num_steps = self._num_ends = 0
        self._kept = self.start  # the transcript at the end of the last round
        self._transcript: Transcript | None = None
        self._branch = ""
        self._sent: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    @property
    def transcript(self) -> bytes:
        """The hash of what the owner has received up to now."""
        return self._kept if self._transcript is None else self._transcript.digest

    # -- a round -------------------------------------------------------------------------------------------------

    def begin(self, context: Any, state: Mapping[str, Tensor] | None, plan: Plan) -> None:
        """Begin a round, and charge it. Raises `BudgetSpent` where it would cost more than the budget."""
        self.abort()
        self.round, self._attempt, self.plan = context.round, context.attempt, plan
        self._transcript = Transcript(self._kept)
        said = (context.cohort, context.weights, context.num_steps, context.row_weights, context.lr_scale)
        self._transcript.add("round", context.round, *said, {} if state is None else dict(state))
        self._branch = self._key("round")
        self._pay(self._planned(plan))

    def end(self) -> None:
        """End the round: what was received in it counts for the next one."""
        assert self._transcript is not None
        self._kept = self._transcript.digest
        self.abort()

    def abort(self) -> None:
        """Give up the round that is under way."""
        self.ledger.sent(self._branch, self._taken())
        self._transcript = self.plan = self.step = None
        self.num_steps = self._num_ends = 0

    def received(self, value: Any) -> None:
        """Take in what another party has sent within a round."""
        if self._transcript is not None:
            self._transcript.add(value)

    def enter(self, step: tuple[int, int]) -> bool:
        """Note that a step begins; return whether it does, and was not under way."""
        if step == self.step or self._transcript is None or self.plan is None:
            return False
        self.step = step
        at, number = self._transcript.digest.hex(), self.num_steps
        if step == END:
            self._num_ends += 1
            number = -1 - self._num_ends  # that of a step is 0 or more, and -1 stands for none
        before = self.ledger.known_step(self._branch, number)
        if before is not None and before != at:  # in another way than in the attempt that was paid
            self._branch = self._key("round")
            self._pay(self._planned(self.plan))
            before = self.ledger.known_step(self._branch, number)
        if before is None:
            self.ledger.step(self._branch, number, at, self._taken())
        self.num_steps += step != END
        return True

    def note(self, value: str, destination: str) -> None:
        """Write down that a value leaves which no charge of the round is for."""
        mechanism, reason = open_mechanism(self._recipe, value)
        charge = Charge(
            value=value,
            round=self.round,
            attempt=max(0, self._attempt),
            to=(destination,),
            mechanism=mechanism,
            reason=reason,
            key=self._key(value, destination),
            rehearsal=self._recipe.rules.rehearsal,
        )
        self.ledger.charge(charge)

    def count(self, value: str, num_bytes: int) -> None:
        """Count bytes of a kind of value that leave now."""
        self._sent[value][0] += num_bytes
        self._sent[value][1] += 1

    def _taken(self) -> dict[str, tuple[int, int]]:
        taken = {value: (size, count) for value, (size, count) in self._sent.items()}
        self._sent.clear()
        return taken

    # -- charges -------------------------------------------------------------------------------------------------

    def _planned(self, plan: Plan) -> list[Charge]:
        base = Charge(value="", round=self.round, attempt=self._attempt, rehearsal=self._recipe.rules.rehearsal)
        return charges_of(self._recipe, plan, base, self._key, self._once)

    def _key(self, *parts: Any) -> str:
        """Return the key of messages: of the secret, what the owner had received, and what they are."""
        return self._keyed(self.transcript, parts)

    def _once(self, *parts: Any) -> str:
        """Return the key of messages that are the same in all rounds of a run."""
        return self._keyed(self.start, parts)

    def _keyed(self, received: bytes, parts: Any) -> str:
        state = Transcript(received)
        state.add(self._tag, *parts)
        return state.digest.hex()

    def _pay(self, charges: Sequence[Charge]) -> None:
        fresh = [charge for charge in charges if not self.ledger.has(charge)]
        budget = self._recipe.rules.budget
        if budget is not None and any(charge.mu2 or charge.epsilon_pure for charge in fresh):
            after = total_of([*self.ledger.charges, *fresh], budget.delta).epsilon
            if after > budget.epsilon:
                before = total_of(self.ledger.charges, budget.delta).epsilon
                raise BudgetSpent(
                    f"its privacy budget is epsilon {budget.epsilon:g} at delta {budget.delta:g}; {before:.4g} is "
                    f"spent, and after this round it would be {after:.4g}. Nothing of it has left; train fewer "
                    f"rounds, add noise, or raise privacy.budget"
                )
        self.ledger.charge(*fresh)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what has been received, as a hash, and how far the ledger is written."""
        self.ledger.sent(self._branch, self._taken())
        mark = self.ledger.mark()
        return {"received": self._kept.hex(), "size": mark.size, "digest": mark.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the end of a round; the ledger stays as it is. Raises `LedgerRefused` where it is shorter now."""
        self.abort()
        self.ledger.require_since(Mark(size=state["size"], digest=state["digest"]))
        self._kept = bytes.fromhex(state["received"])
