"""Queue policies, drawn: a list of waiting tasks and the order in which a node runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from raysplit.schedulers.queue import Rank, WaitingTask, backward_first, fair, fifo, queue_policy

F, B, U = "forward", "backward", "update"


def first(rank: Rank, waiting: Sequence[WaitingTask], served: Mapping[str, int]) -> int:
    """Index of the task that goes next."""
    return min(range(len(waiting)), key=lambda i: rank(waiting[i], served))


def order(rank: Rank, *tasks: tuple[str, str, float]) -> list[str]:
    """Run (owner, kind, ready) one after the other; gives "owner kind" in the order run."""
    waiting = [WaitingTask(owner=owner, kind=kind, ready_s=ready) for owner, kind, ready in tasks]  # type: ignore[arg-type]
    served: Counter[str] = Counter()
    ran = []
    while waiting:
        task = waiting.pop(first(rank, waiting, served))
        served[task.owner] += 1
        ran.append(f"{task.owner} {task.kind}")
    return ran


WAITING = (("ann", F, 3.0), ("bob", F, 1.0), ("ann", B, 2.0), ("cy", U, 4.0), ("bob", B, 5.0))


def test_fifo_runs_updates_then_what_was_ready_first() -> None:
    assert order(fifo, *WAITING) == ["cy update", "bob forward", "ann backward", "ann forward", "bob backward"]


def test_backward_first_frees_memory_first() -> None:
    assert order(backward_first, *WAITING) == [
        "cy update",
        "ann backward",
        "bob backward",
        "bob forward",
        "ann forward",
    ]


def test_fair_serves_the_owner_served_least() -> None:
    tasks = [("ann", F, 1.0), ("ann", F, 2.0), ("ann", F, 3.0), ("bob", F, 4.0), ("cy", F, 5.0), ("bob", F, 6.0)]
    assert order(fair, *tasks) == [
        "ann forward",  # nobody was served yet: ready first
        "bob forward",
        "cy forward",
        "ann forward",  # one each again
        "bob forward",
        "ann forward",
    ]


def test_fair_counts_what_was_served_before() -> None:
    waiting = [
        WaitingTask(owner="ann", kind="forward", ready_s=1.0),
        WaitingTask(owner="bob", kind="forward", ready_s=2.0),
    ]
    assert first(fair, waiting, {"ann": 7, "bob": 6}) == 1
    assert first(fair, waiting, {"ann": 6, "bob": 7}) == 0


@pytest.mark.parametrize("name", ["fifo", "backward_first", "fair"])
def test_ties_go_to_the_first_in_the_list(name: str) -> None:
    waiting = [WaitingTask(owner=owner, kind="forward", ready_s=1.0) for owner in ("ann", "bob")]
    assert first(queue_policy(name).rank, waiting, {}) == 0


@pytest.mark.parametrize("name", ["fifo", "backward_first", "fair"])
def test_an_update_runs_before_the_same_owners_next_batch(name: str) -> None:
    waiting = [
        WaitingTask(owner="ann", kind="forward", ready_s=1.0),
        WaitingTask(owner="ann", kind="update", ready_s=1.0),
    ]
    assert first(queue_policy(name).rank, waiting, {"ann": 3}) == 1


def test_an_unknown_policy() -> None:
    with pytest.raises(
        ValueError, match=r"unknown queue policy 'lifo'; did you mean 'fifo'\? \(one of fifo, backward_first, fair\)"
    ):
        queue_policy("lifo")
