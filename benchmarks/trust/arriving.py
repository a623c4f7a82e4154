"""Measure what the check of arriving values costs beside the computing of a batch.

    python benchmarks/trust/arriving.py --output arriving.jsonl

One step of SplitFed, with the model cut once, is timed in pieces: the computing of the owner and of the server, and the
check of the four values that it sends (smashed data and labels to the server, the loss and the gradient back), each as
its receiver makes it. Steps with the check and steps without it, in which the link hands over the same values, take
turns in one process on one thread; the check is what the link takes longer. Of each the processor time is taken, which
other programs on the machine disturb less than the time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.cluster.arriving.check import due_answer, due_arguments
from raysplit.cluster.arriving.verbs import VERBS
from raysplit.cluster.contract import current_samples
from raysplit.cluster.links.link import Link
from raysplit.data.batches import LocalTraining
from raysplit.data.samples import Samples
from raysplit.data.transforms import ToUnit
from raysplit.models.spec import ModelSpec

CASES: dict[str, tuple[dict[str, Any], int | str, int, int]] = {  # model, cut, batch size, measured steps
    "cnn (two layers), MNIST": ({"name": "cnn", "input_shape": (1, 28, 28), "num_classes": 10}, 1, 32, 300),
    "resnet18, CIFAR-10": ({"name": "resnet18_cifar", "input_shape": (3, 32, 32), "num_classes": 10}, 1, 32, 12),
}
OWNER, SERVER = "owner-0", "server"


class Step:
    """One step of an owner and its server, and the checks of what they send."""

    def __init__(self, model: dict[str, Any], cut: int | str, batch_size: int) -> None:
        spec, optimizer = ModelSpec(seed=0, **model), OptimizerSpec(name="sgd", lr=0.01)
        first, last = (PartRecipe(spec=spec, cuts=(cut,), index=i, optimizer=optimizer) for i in (0, 1))
        draw = torch.Generator().manual_seed(0)
        x = torch.rand(batch_size, *model["input_shape"], generator=draw)
        self.x, self.y = x, torch.arange(batch_size, dtype=torch.int32) % model["num_classes"]
        data = Samples(x=x, y=self.y.long())
        self.owner = DataOwner(
            name=OWNER, shard=data, transform=ToUnit(), recipes=(first,), training=LocalTraining(batch_size=batch_size)
        )
        self.server = ComputeNode(name=SERVER, recipe=last)
        self.server.begin(RoundContext(round=0, cohort=(OWNER,), weights=(1.0,), num_steps=(10**6,)))
        self.link = Link()
        self.link.parties = {OWNER: self.owner, SERVER: self.server}
        self.at = StepId(owner=OWNER, round=0, step=0)
        current_samples.set(torch.arange(batch_size))

    async def compute(self, check: Callable[..., None]) -> None:
        """Run a step; ``check`` is called with what arrives, when it does."""
        self.at = replace(self.at, step=self.at.step + 1)
        z = await self.owner.first.forward(self.at, self.x)
        check(self._arguments, z)
        answer = await self.server.loss_gradient(self.at, z, self.y)
        check(self._answer, answer)
        await self.owner.first_backward(self.at, answer[1])

    def _arguments(self, z: Any, *, checked: bool) -> None:
        args = self.at, z, self.y
        dues = due_arguments(VERBS["loss_gradient"] if checked else None, args, {})
        self.link.arriving(OWNER, SERVER, z, 0, due=dues[1] if dues else None)
        self.link.arriving(OWNER, SERVER, self.y, 0, due=dues[2] if dues else None)

    def _answer(self, answer: Any, *, checked: bool) -> None:
        due = due_answer(VERBS["loss_gradient"] if checked else None, (self.at,), {})
        self.link.arriving(SERVER, OWNER, answer, 0, due=due)


def measured(case: str) -> dict[str, Any]:
    """Return the processor time of steps and of checks, alternating."""
    step = Step(*CASES[case][:3])
    with step.owner._parts.busy():  # as in a round
        return _measured(case, step)


def _measured(case: str, step: Step) -> dict[str, Any]:
    cut, batch_size, repeats = CASES[case][1:]
    steps: list[float] = []
    links: dict[bool, list[float]] = {True: [], False: []}

    def run(*, checked: bool) -> None:
        spent = 0.0

        def receive(how: Callable[..., None], value: Any) -> None:
            nonlocal spent
            began = time.thread_time()
            how(value, checked=checked)
            spent += time.thread_time() - began

        began = time.thread_time()
        _drive(step.compute(receive))
        steps.append(time.thread_time() - began - spent)
        links[checked].append(spent)

    for measures in (3, repeats):  # the first to warm up
        steps.clear(), links[True].clear(), links[False].clear()
        for _ in range(measures):
            run(checked=False)
            run(checked=True)
    bare = statistics.median(links[False])
    checks = [spent - bare for spent in links[True]]
    shares = [check / step_s for check, step_s in zip(checks, steps[1::2], strict=True)]
    tenths = statistics.quantiles(shares, n=10)
    return {
        "case": case,
        "cut": cut,
        "batch_size": batch_size,
        "repeats": repeats,
        "link_us": round(1e6 * bare, 1),
        "step_ms": round(1e3 * statistics.median(steps), 3),
        "check_us": round(1e6 * statistics.median(checks), 1),
        "share_percent": round(100 * statistics.median(shares), 3),
        "share_percent_p10_p90": [round(100 * tenths[0], 3), round(100 * tenths[-1], 3)],
        "least_check_us": round(1e6 * min(checks), 1),
        "least_step_ms": round(1e3 * min(steps), 3),
        "least_share_percent": round(100 * min(checks) / min(steps), 3),
        "total_share_percent": round(100 * sum(checks) / sum(steps[1::2]), 3),
        "load": os.getloadavg()[0],
    }


def _drive(work: Any) -> None:
    """Run a coroutine that never waits, without the cost of an event loop."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("a step on an inline device waits for nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="file to which a line per measurement is appended")
    parser.add_argument("--code", default="", help="name of the measured code, which is written into each line")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case, the cases in turn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for _ in range(given.rounds):
        for case in CASES:
            found = {"code": given.code} | measured(case)
            print(json.dumps(found), flush=True)
            if given.output is not None:
                with given.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
