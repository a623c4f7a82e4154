"""What stands for a class of parties in a dry run: named by the class itself, or the simulation refuses it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from support import settings, toy_profile

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.algorithms.fedavg.fedavg import FedAvg
from raysplit.algorithms.minibatch_sfl import MiniBatchSFL
from raysplit.algorithms.setting import AGGREGATOR, RoundReport, Team
from raysplit.algorithms.splitfed import SplitFedV1
from raysplit.api import simulate, train
from raysplit.cluster.contract import PartySpec
from raysplit.experiment.errors import CannotBeSimulated, ConfigError
from raysplit.prediction.dry_parties import DryOwner


class TalkativeOwner(DataOwner):
    """It has a verb of its own."""

    async def greet(self) -> str:
        return self.name


class DryTalkativeOwner(DryOwner):
    async def greet(self) -> str:
        return self.name


class Described(TalkativeOwner):
    dry = DryTalkativeOwner


class AsItIs(ComputeNode):
    """Nothing of its own touches a tensor."""


class Below(Described):
    """What stands for its base has none of its verbs."""

    async def shout(self) -> str:
        return self.name.upper()


class Greeting(FedAvg):
    owner_type = Described

    async def round(self, context: Any) -> RoundReport:
        assert [await self.handles[name].greet() for name in context.cohort] == list(context.cohort)
        return await super().round(context)


class Unknown(FedAvg):
    owner_type = TalkativeOwner


class Inheriting(FedAvg):
    owner_type = Below


async def doubling(owner: Any, team: Team, context: Any) -> None:
    owner.load_weights({name: 2 * value for name, value in owner.weights().items()})
    await team.aggregator.submit(context, owner.name, owner.weights())


class Computing(FedAvg):
    async def round(self, context: Any) -> RoundReport:
        await self.aggregator().begin(context)
        team = Team(peers=self.peers(AGGREGATOR))
        return RoundReport(owners=await self.run_owners(doubling, team, context, self.aggregator().current()))


class OwnServer(SplitFedV1):
    def node_party(self, name: str, recipe: Any, **arguments: Any) -> PartySpec:
        party = super().node_party(name, recipe, **arguments)
        return PartySpec(name=party.name, role=party.role, build=AsItIs, arguments=party.arguments)


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, Any]:
    profile = toy_profile(tmp_path, batch_size=16, activations=[64] * 4, parameters=[32] * 4)
    topology = {"devices": {"vm": {"profile": profile}}, "owners": "vm", "nodes": ["vm"], "samples_per_owner": 32}
    return settings(topology={**topology, "time_scale": 1e-4})


def test_a_class_that_nothing_stands_for_is_refused(sections: dict[str, Any]) -> None:
    for algorithm, name in ((Unknown, "TalkativeOwner"), (Inheriting, "Below"), (OwnServer, "AsItIs")):
        with pytest.raises(ConfigError, match=rf"is a {name}, .* set can_be_simulated = False .* or set {name}\.dry"):
            simulate(sections, algorithm=algorithm)


def test_a_class_says_what_stands_for_it(sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fedavg = simulate(sections, algorithm="fedavg").round_s
    assert simulate(sections, algorithm=Greeting).round_s == fedavg
    monkeypatch.setattr(AsItIs, "dry", AsItIs, raising=False)
    assert simulate(sections, algorithm=OwnServer).round_s == simulate(sections, algorithm="splitfed_v1").round_s


def test_rounds_that_compute_with_weights_are_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(CannotBeSimulated, match=r"Computing fails on sizes .* can_be_simulated = False"):
        simulate(sections, algorithm=Computing)


def test_a_run_like_described_machines_keeps_its_result(
    sections: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A prediction that is refused after the run must not take the weights with it."""
    with caplog.at_level(logging.WARNING):
        result = train(sections, algorithm=Computing, training={"rounds": 1, "max_steps": 1})
    assert result.comparison is None
    assert all(torch.isfinite(value).all() for value in result.states["global"].values())
    assert "the run is not compared with a prediction: Computing fails on sizes" in caplog.text


def test_servers_that_share_the_owners_exchange_gradients_of_the_size_of_their_part(sections: dict[str, Any]) -> None:
    """Three units of 32 bytes; two servers, two steps in a round."""
    options = {"name": MiniBatchSFL.name, "cut": 1, "num_servers": 2}
    found = simulate(sections, algorithm=options, topology={"nodes": ["vm", "vm"]})
    between = {(t.source, t.destination): t.num_bytes for t in found.traffic if t.source.startswith("server-")}
    assert between["server-0", "server-1"] == between["server-1", "server-0"] == 2 * 3 * 32
