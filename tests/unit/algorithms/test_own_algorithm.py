"""The algorithms of `docs/own-parts.md`: they simulate, plan, resume and run elastically as the built-in ones do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from coming import ComingAndGoing, replayed
from disturbed import Killed, Killer, equal
from documented import write_module
from support import run_on, same, settings, toy_profile, train

import raysplit
from raysplit.actors.aggregation import UpdateRules
from raysplit.algorithms.mtsl import MTSL
from raysplit.api import plan, resume, simulate, train_config
from raysplit.cli.planning.plan import plan as plan_command
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import ConfigError, check_config

SIMULATED = Path(__file__).parents[3] / "examples" / "mpsl_simulate.yaml"
HALFWAY = {"name": "myalgorithm:HalfwayAveraging", "pull": 0.3}
TRAINING = {"rounds": 4, "batch_size": 16, "cohort_size": 2, "optimizer": {"lr": 0.1}}


@pytest.fixture(autouse=True)
def _written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("myalgorithm", "myrelay", "myloss"):
        write_module(name, tmp_path)


def halfway(**changes: Any) -> dict[str, Any]:
    return {"algorithm": HALFWAY, "training": TRAINING, **changes}


# -- halfway averaging: owners have weights of their own -------------------------------------------------------------


def test_it_is_simulated() -> None:
    """Its owners send and fetch what those of FedAvg do, at the same times."""
    found = simulate(SIMULATED, algorithm=HALFWAY, partition={"num_owners": 3})
    fedavg = simulate(SIMULATED, algorithm={"name": "fedavg"}, partition={"num_owners": 3})
    assert found.round_s == fedavg.round_s
    assert found.traffic == fedavg.traffic


@pytest.mark.parametrize("after", [1, 3])
def test_cut_short_it_goes_on_to_the_same_bits(after: int, tmp_path: Path) -> None:
    """Its owners go on from weights of their own, which those of FedAvg do not."""
    with pytest.raises(Killed):
        train_config(check_config(settings(**halfway())), folder=tmp_path / "cut", callbacks=[Killer(after)])
    assert equal(resume(tmp_path / "cut"), train(**halfway()))


@pytest.mark.parametrize("call", [1, 2])
def test_a_death_leaves_no_trace(call: int) -> None:
    """In the first round too: by then the other owners have weights of that round."""
    everybody = halfway(training={**TRAINING, "cohort_size": None})
    cluster = FaultyCluster(LocalCluster(), [Fault(party="owner-1", verb="run_round", at_call=call, turns=3)])
    assert equal(run_on(cluster, **everybody), train(**everybody))
    assert cluster.num_healed == 1


def test_its_owners_come_and_go() -> None:
    history = ({"owner-2"}, {"owner-2"}, (), {"owner-0"}, ())
    elastic = halfway(training={**TRAINING, "cohort_size": None}, cluster__elastic={"wait_s": 0.3})
    there = run_on(ComingAndGoing(*history), **elastic)
    assert [(row["came"], row["left"]) for row in there.rows] == [
        (["owner-0", "owner-1"], []),
        (["owner-2"], []),
        ([], ["owner-0"]),
        (["owner-0"], []),
    ]
    assert same(there, run_on(replayed(there.rows, ["owner-0", "owner-1", "owner-2"]), **elastic))
    assert not same(there, run_on(ComingAndGoing(()), **elastic))


# -- the relay: nodes in a row, whose cuts can be planned ------------------------------------------------------------

RELAY = {"name": "myrelay:Relay", "cuts": [1, 2, 3]}


@pytest.fixture
def topology(tmp_path: Path) -> dict[str, Any]:
    profile = toy_profile(tmp_path, batch_size=16, activations=[64] * 4, parameters=[32] * 4)
    device = {"profile": profile, "memory_gib": 1}
    return {"devices": {"vm": device}, "owners": "vm", "nodes": ["vm", "vm"], "samples_per_owner": 32}


def test_the_relay_has_the_bits_of_fedavg() -> None:
    model = {"name": "mlp", "hidden": [16, 12, 8], "dtype": "float64"}
    assert same(train(algorithm=RELAY, model=model), train(algorithm={"name": "fedavg"}, model=model))


def test_its_cuts_are_planned(topology: dict[str, Any], tmp_path: Path) -> None:
    """Of four units the owner keeps the first and the last, and two nodes have one each."""
    relay = {"name": "myrelay:Relay", "cuts": "auto", "units": [1, 2]}
    sections = settings(algorithm=relay, topology=topology)
    assert plan(sections).cuts == (1, 2, 3)
    (tmp_path / "relay.yaml").write_text(json.dumps(sections), encoding="utf-8")
    result = CliRunner().invoke(plan_command, [str(tmp_path / "relay.yaml"), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["cuts"] == [1, 2, 3]
    assert simulate(sections).round_s == simulate(sections, algorithm=RELAY).round_s


def test_the_relay_takes_the_time_of_mp_sl(topology: dict[str, Any]) -> None:
    """It takes the same way, so the simulation and the closed formulas say the same."""
    mpsl = {"name": "mpsl", "cuts": [1, 2, 3]}
    relay, known = (simulate(settings(algorithm=name, topology=topology)) for name in (RELAY, mpsl))
    assert relay.round_s == known.round_s
    assert relay.closed_form is not None
    assert relay.closed_form == known.closed_form


# -- what an algorithm of one's own declares -----------------------------------------------------------------------


DECLARED = """
from raysplit.algorithms.fedavg import FedAvg


class Frugal(FedAvg):
    name = title = "frugal"
    unused = {**FedAvg.unused, "training.local_epochs": "it takes one step"}
    losses = ("mse",)
    round_is_report = True

    @classmethod
    def check(cls, options, outline):
        super().check(options, outline)
        outline.require_owners("teachers", {"owner-5": 1})
"""


def test_what_it_declares_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mydeclared.py").write_text(DECLARED)
    name = {"name": "mydeclared:Frugal"}

    def told(**training: Any) -> str:
        with pytest.raises(ValueError, match=r"training|teachers") as caught:
            check_config(settings(algorithm=name, training={"rounds": 1, **training}))
        return str(caught.value)

    assert "training.local_epochs is 2, and frugal does not use it: it takes one step; leave it out, or use" in told(
        local_epochs=2
    )
    assert "training.server_optimizer is " in told(server_optimizer={"lr": 0.2})
    assert "training.loss is 'cross_entropy', and frugal trains with mse only" in told()
    assert "algorithm.teachers names 'owner-5', which is not an owner; the 3 owners are" in told(loss="mse")


def test_rules_that_judge_whole_models_are_refused_where_replicas_are_averaged_in_place() -> None:
    relay = {"name": "myrelay:Relay", "cuts": [1, 2]}
    assert train(algorithm=relay, reliability={"aggregation": "median"}).rows
    with pytest.raises(ValueError, match=r"Relay averages replicas at its compute nodes, where .* krum"):
        train(algorithm=relay, reliability={"max_update_norm": 10.0})


def test_a_loss_of_ones_own_smooths_labels() -> None:
    assert not same(train(training__loss="myloss:smooth"), train())


def test_an_experiment_is_checked_too() -> None:
    """A program that makes its run to the end is told as a file is, with the names of its own owners."""
    experiment = build(check_config(settings(algorithm={"name": "mtsl"})))
    setting = replace(experiment.setting, updates=UpdateRules(aggregation="median"))
    with pytest.raises(ConfigError, match=r"reliability\.aggregation is 'median', and mtsl does not use it"):
        raysplit.train(replace(experiment, setting=setting, plain={}))
    names = {f"clinic-{i}": data for i, data in enumerate(experiment.setting.owners.values())}
    own = replace(experiment, setting=replace(experiment.setting, owners=names), plain={})
    algorithm = MTSL(cut=1, members={"clinic-1": {"joins": 1}})
    assert raysplit.train(replace(own, algorithm=algorithm)).rows
    with pytest.raises(ConfigError, match="members names 'owner-1', which is not an owner; the 3 owners are clinic-0"):
        raysplit.train(replace(own, algorithm=MTSL(cut=1, members={"owner-1": {"joins": 1}})))
