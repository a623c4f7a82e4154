"""Seconds of the cheap measures, the tap, noise on smashed data and the ledger, beside what they come on top of.

    python benchmarks/privacy/overheads.py

CPU time, medians of interleaved repetitions: seconds of the measures for each cut, and ratios for the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from leakage import attackable

import raysplit
from raysplit.cluster.links.tap import Recorder
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.guards.account.ledger import Ledger
from raysplit.guards.noise.smashed import defend
from raysplit.guards.rules import PrivacyRules
from raysplit.privacy.leak.cheap import cheap
from raysplit.privacy.leak.run import one_thread
from raysplit.privacy.leak.trials import Material
from raysplit.training.loop import run

ROUNDS, OWNERS, LEDGER_ROUNDS = 2, 4, 10


def settings(**changes: Any) -> dict[str, Any]:
    """The settings of a short run: digits, cnn8, cut 2."""
    return {
        "model": {"name": "cnn8"},
        "data": {"name": "digits"},
        "partition": {"num_owners": OWNERS},
        "algorithm": {"name": "minibatch_sfl", "cut": 2},
        "training": {"rounds": ROUNDS, "batch_size": 32, "optimizer": {"lr": 0.02, "momentum": 0.9}},
        "evaluation": {"every": ROUNDS},
        "reliability": {"checkpoint_every": None},
        "cluster": {"kind": "local"},
        **changes,
    }


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def with_tap(is_tapped: bool) -> None:
    """Train, with or without a tap that keeps what the server gets."""
    experiment = build(check_config(settings()))
    recorder = Recorder(lambda source, destination, kind, step: destination == "server")
    rules = experiment.link_rules()
    cluster = LocalCluster(links=replace(rules, taps=(recorder,)) if is_tapped else rules)
    asyncio.run(run(experiment, cluster))


def measures(given: Material) -> None:
    """Print the seconds of the cheap measures of each cut."""
    for cut in (1, 2, 3, 4):
        seconds = median(timed(partial(cheap, given.subject, cut, "present")) for _ in range(3))
        print(f"cheap measures, cut {cut}: {seconds:.2f} s")


def noise(given: Material) -> None:
    """Print the time of noise beside the forward pass of the owner's part."""
    part = given.subject.part(2, "present")
    x = given.subject.samples.victims.x[:32]
    rules = PrivacyRules(z={"clip": 4, "noise": 0.2}, rehearsal=True)
    with torch.no_grad():
        z = part(x)
        pairs = [(timed(lambda: defend(rules, z)), timed(lambda: part(x))) for _ in range(300)]
    noisy, forward = (median(column) for column in zip(*pairs, strict=True))
    print(f"clipping and noise: {noisy * 1e3:.2f} ms, forward pass {forward * 1e3:.2f} ms, {noisy / forward:.2f} times")


def ledger() -> None:
    """Print the time that owners spend in their ledgers in a round, and to open them, which is once a run."""
    spent, depth, opening = 0.0, 0, 0.0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal spent, depth
            began, depth = time.thread_time(), depth + 1
            try:
                return method(*arguments, **more)
            finally:
                depth -= 1
                if not depth:  # one of them may call another
                    spent += time.thread_time() - began

        return call

    def opened(self: Ledger) -> None:
        nonlocal spent, opening
        began = time.thread_time()
        methods["_open"](self)
        opening += (took := time.thread_time() - began)
        spent -= took

    names = ("charge", "step", "sent", "has", "known_step", "mark", "_open")
    methods = {name: getattr(Ledger, name) for name in names}
    try:
        for name, method in methods.items():
            setattr(Ledger, name, opened if name == "_open" else counted(method))
        with TemporaryDirectory() as folder:
            privacy = {"z": {"clip": 4, "noise": 0.2}, "rehearsal": True, "ledger": str(Path(folder) / "ledger")}
            given = settings(privacy=privacy)
            given["training"]["rounds"] = LEDGER_ROUNDS
            raysplit.train(check_config(given))
    finally:
        for name, method in methods.items():
            setattr(Ledger, name, method)
    a_round, once = spent / LEDGER_ROUNDS / OWNERS * 1e3, opening / OWNERS * 1e3
    print(f"ledger: {a_round:.2f} ms for a round and owner, and {once:.2f} ms to open it")


def main() -> None:
    """Measure all of them."""
    with one_thread():
        given, _ = attackable(check_config(settings()))
        measures(given)
        noise(given)
        ledger()
        with_tap(True)
        pairs = [(timed(partial(with_tap, True)), timed(partial(with_tap, False))) for _ in range(15)]
        ratios = sorted(tapped / plain - 1 for tapped, plain in pairs)
        half = f"middle half {ratios[3]:+.1%} to {ratios[-4]:+.1%}"
        print(f"tap: {median(ratios):+.1%} of a run of {ROUNDS} rounds ({half})")


if __name__ == "__main__":
    main()
