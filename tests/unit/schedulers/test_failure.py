"""What follows from a failure, decided on records alone; and that a run acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from disturbed import changes, equal
from support import run_on, settings, train

from raysplit.actors.records import NonFiniteLoss
from raysplit.cluster.contract import Handle, PartySpec, PlaceLost
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import run_virtual
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.result import Result
from raysplit.schedulers.failure import (
    BadUpdate,
    FailureRules,
    LostPlace,
    Repeat,
    Standing,
    Stop,
    decide,
)
from raysplit.training.loop import run
from raysplit.training.recovery.failures import RunStopped
from raysplit.training.recovery.watch import RoundOverdue

FOUR = ("a", "b", "c", "d")
LOST = LostPlace(place="place-1", reason="it died", parties=("b", "server"))


def standing(cohort: tuple[str, ...] = FOUR, in_round: int = 0, in_run: int = 0) -> Standing:
    return Standing(drawn=FOUR, cohort=cohort, restarts_in_round=in_round, restarts_in_run=in_run)


def test_a_lost_place_repeats_the_round_with_everybody() -> None:
    assert decide(LOST, standing(), FailureRules()) == Repeat(reason="place place-1 is lost: it died")


def test_or_without_the_owners_that_were_lost() -> None:
    decision = decide(LOST, standing(), FailureRules(on_lost_place="drop"))
    assert decision == Repeat(reason="place place-1 is lost: it died", without=("b",))


def test_or_stops_and_says_what_else_could_be_done() -> None:
    decision = decide(LOST, standing(), FailureRules(on_lost_place="stop"))
    assert isinstance(decision, Stop)
    assert "on_lost_place: restart starts it again" in decision.reason


@pytest.mark.parametrize(
    ("in_round", "in_run", "limit"),
    [(3, 3, "repeated 3 times, which is the limit"), (0, 20, "set back 20 times, which is the limit")],
)
def test_limits(in_round: int, in_run: int, limit: str) -> None:
    decision = decide(LOST, standing(in_round=in_round, in_run=in_run), FailureRules())
    assert isinstance(decision, Stop)
    assert limit in decision.reason
    assert isinstance(decide(LOST, standing(in_round=in_round - 1, in_run=in_run - 1), FailureRules()), Repeat)


def test_the_quorum_is_of_the_cohort_as_it_was_drawn() -> None:
    """Half of four: b may go when c has gone, but not another one."""
    rules = FailureRules(on_lost_place="drop", quorum=0.5)
    assert isinstance(decide(LOST, standing(cohort=("a", "b", "d")), rules), Repeat)
    decision = decide(LOST, standing(cohort=("a", "b")), rules)
    assert isinstance(decision, Stop)
    assert "1 of 4 owners are left and the quorum is 2" in decision.reason


def test_a_bad_update_stops_or_drops_and_in_the_end_excludes() -> None:
    bad = BadUpdate(owner="c", reason="NaN", times=3)
    stop = decide(bad, standing(), FailureRules())
    assert isinstance(stop, Stop)
    assert "the update of c was refused: NaN" in stop.reason
    rules = FailureRules(on_bad_update="drop", exclude_after=3)
    assert decide(bad, standing(), rules) == Repeat(
        reason="the update of c was refused: NaN", without=("c",), exclude=("c",)
    )
    second = BadUpdate(owner="c", reason="NaN", times=2)
    assert decide(second, standing(), rules) == Repeat(reason="the update of c was refused: NaN", without=("c",))


@pytest.mark.parametrize(("num", "share", "size"), [(4, 0.5, 2), (5, 0.5, 3), (3, 1 / 3, 1), (10, 0.3, 3), (7, 1, 7)])
def test_quorum_sizes(num: int, share: float, size: int) -> None:
    assert FailureRules(quorum=share).quorum_of(num) == size


# -- a run acts on it --------------------------------------------------------------------------------------------------


def faulty(faults: Sequence[Fault], **more: Any) -> Result:
    return run_on(FaultyCluster(LocalCluster(), faults), **more)


def virtually(faults: Sequence[Fault], **more: Any) -> Result:
    """In virtual time, so that a deadline passes at once."""
    config = check_config(settings(**more))
    return run_virtual(run(build(config), FaultyCluster(LocalCluster(), faults)))


def test_too_many_losses_end_the_run_with_the_reason() -> None:
    faults = [Fault(party="server", at_call=5, life=life) for life in range(4)]
    limits = {"restarts_per_round": 2}
    with pytest.raises(RunStopped, match=r"place server is lost: it has died; the round has been repeated 2 times"):
        faulty(faults, **changes("minibatch_sfl", reliability=limits))


def test_a_dropped_owner_misses_the_round_and_no_other() -> None:
    fault = Fault(party="owner-1", verb="run_round", at_call=2, turns=3)
    found = faulty([fault], **changes("minibatch_sfl", reliability={"on_lost_place": "drop"}))
    assert [row["num_owners"] for row in found.rows] == [3, 2, 3]


def test_a_silent_link_is_noticed_and_the_round_repeated() -> None:
    silent = Fault(party="server", verb="joint_step", at_call=4, kind="silence")
    more = changes("minibatch_sfl", reliability={"round_timeout_s": 60})
    assert equal(virtually([silent], **more), train(**more))


@pytest.mark.parametrize("kind", ["silence", "delay", "die"])
@pytest.mark.parametrize("at_call", [1, 2, 5])
def test_servers_that_share_the_owners_lose_no_gradient_on_the_way(at_call: int, kind: Any) -> None:
    """Where it does not arrive, the round is repeated, and nothing of the attempt before gets into the next one."""
    fault = Fault(party="server-1", verb="take_offer", at_call=at_call, kind=kind, delay_s=30.0)
    more = changes("minibatch_sfl on two servers")
    assert equal(virtually([fault], **more), train(**more))


def test_or_the_run_ends_with_the_name_of_whom_it_waits_for() -> None:
    """The fourth call opens the second step: the others wait for its owner at the barrier."""
    silent = Fault(party="server", verb="joint_step", at_call=4, kind="silence")
    more = changes("minibatch_sfl", reliability={"round_timeout_s": 60, "on_lost_place": "stop"})
    with pytest.raises(RoundOverdue, match=r"round 0 has not ended in 60 s, waiting for owner-\d \(at step 1\)"):
        virtually([silent], **more)


def test_a_round_in_which_nothing_moves_is_broken_off_by_itself() -> None:
    silent = Fault(party="server", verb="joint_step", at_call=4, kind="silence")
    assert equal(virtually([silent], **changes("minibatch_sfl")), train(**changes("minibatch_sfl")))
    more = changes("minibatch_sfl", reliability={"on_lost_place": "stop"})
    with pytest.raises(RoundOverdue, match=r"moved in round 0 for 600 s, waiting for owner-\d \(at step 1\)"):
        virtually([silent], **more)


@pytest.mark.parametrize("name", ["minibatch_sfl", "mas"])
@pytest.mark.parametrize("verb", ["state_dict", "load_state_dict"])
def test_a_state_that_does_not_come_is_noticed(verb: str, name: str) -> None:
    """Between rounds nobody watched: a process that lived and did not answer held the run up for ever."""
    party, owner_round = ("server", "run_round") if name == "minibatch_sfl" else ("aggregator-s+d+k@0", "train")
    faults = [Fault(party="owner-0", verb=owner_round, at_call=2, turns=3)] if verb == "load_state_dict" else []
    faults += [Fault(party=party, verb=verb, at_call=1, kind="silence")]
    assert equal(virtually(faults, **changes(name)), train(**changes(name)))


def test_or_named_when_the_run_is_to_end() -> None:
    silent = Fault(party="server", verb="state_dict", at_call=2, kind="silence")
    more = changes("minibatch_sfl", reliability={"on_lost_place": "stop"})
    with pytest.raises(RoundOverdue, match="between two rounds nothing has come for 600 s, waiting for server"):
        virtually([silent], **more)


class LosesAPlace(LocalCluster):
    """One that dies as it comes."""

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        await super().deploy(parties)
        raise PlaceLost("server", "it died as it came")


def test_a_place_that_is_lost_before_it_has_begun_is_made_anew() -> None:
    assert equal(run_on(LosesAPlace(), **changes("minibatch_sfl")), train(**changes("minibatch_sfl")))
    with pytest.raises(PlaceLost, match="it died as it came"):
        run_on(LosesAPlace(), **changes("minibatch_sfl", reliability={"on_lost_place": "stop"}))


def test_slow_is_not_stalled() -> None:
    """Every other call takes long, and still everything moves."""
    slow = [Fault(party="server", verb="joint_step", at_call=n, kind="delay", delay_s=500) for n in range(1, 40, 2)]
    assert equal(virtually(slow, **changes("minibatch_sfl")), train(**changes("minibatch_sfl")))


def test_delays_leave_no_trace() -> None:
    delays = [Fault(party="server", at_call=call, kind="delay", turns=50) for call in (3, 5, 8, 13)]
    delays += [Fault(party="aggregator", at_call=call, kind="delay", turns=70) for call in (2, 4)]
    assert equal(faulty(delays, **changes("minibatch_sfl")), train(**changes("minibatch_sfl")))


def test_without_checkpoints_a_loss_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="place server is lost"):
        faulty([Fault(party="server", at_call=5)], **changes("splitnn", reliability={"checkpoint_every": None}))


def test_a_bad_loss_stops_with_its_owner_and_the_way_out() -> None:
    training = {"rounds": 1, "batch_size": 16, "optimizer": {"lr": 1e200}}
    with pytest.raises(NonFiniteLoss) as caught:
        train(**changes("fedavg", training))
    assert any("on_bad_update: drop continues without this owner" in note for note in caught.value.__notes__)
