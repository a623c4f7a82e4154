"""Claims, protocols and records for tests."""

from __future__ import annotations

from typing import Any

from raysplit.claims.claim import Claim, Condition
from raysplit.claims.protocol import Arm, Protocol, Step
from raysplit.claims.records import Record


def claim(**changes: Any) -> Claim:
    given: dict[str, Any] = {
        "name": "better",
        "text": "A is better than B",
        "paper": "+10",
        "place": "abstract",
        "takes": "a minute",
        "kind": "difference",
        "this": {"arm": "a"},
        "that": {"arm": "b"},
        "where": (Condition(label="r 1", set={"partition.ratio": 1.0}),),
        "column": "test_accuracy",
    }
    return Claim(**(given | changes))


def protocol(*claims: Claim, **changes: Any) -> Protocol:
    given: dict[str, Any] = {
        "name": "tried",
        "title": "Tried",
        "paper": "nobody",
        "about": "",
        "settings": {"training": {"rounds": 2}, "data": {"root": "here"}, "partition": {"name": "noniid_ratio"}},
        "arms": {
            "a": Arm(title="A", set={"algorithm.name": "minibatch_sfl"}),
            "b": Arm(title="B", set={"algorithm.name": "fedavg"}, ignores=("algorithm.cut",)),
        },
        "steps": (
            Step(
                title="first",
                arms=("a", "b"),
                set={"partition.ratio": 1.0},
                over={"algorithm.cut": (1, 3)},
                seeds=(0, 1, 2),
                cost_s=10,
            ),
        ),
        "keep": ("test_*",),
        "claims": claims or (claim(),),
    }
    return Protocol(**(given | changes))


def record(arm: str, seed: int, *accuracies: float, **more: Any) -> Record:
    values = {"arm": arm, "partition.ratio": 1.0, **more.pop("values", {}), "seed": seed}
    columns = {"test_accuracy": list(accuracies), **more}
    return Record(values=values, digest="", columns=columns, cpu_s=1.0, versions={})


def three(arm: str, *of_seeds: float) -> list[Record]:
    return [record(arm, seed, 0.5, value) for seed, value in enumerate(of_seeds)]
