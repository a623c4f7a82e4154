"""The protocols of handles say what parties answer, and mypy reads them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from mypy import api

import raysplit
from raysplit.actors.aggregator import Aggregator
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.evaluator import DomainEvaluator, Evaluator
from raysplit.actors.routed_node import RoutedNode, RoutedNodeHandle
from raysplit.actors.server_shard import ServerShard, ShardHandle
from raysplit.actors.verbs import (
    AggregatorHandle,
    DomainEvaluatorHandle,
    EvaluatorHandle,
    NodeHandle,
    OwnerHandle,
    PartyHandle,
)
from raysplit.algorithms.fedavg.open_aggregator import OpenAggregator, OpenAggregatorHandle
from raysplit.algorithms.mas.aggregator import GroupAggregator, GroupAggregatorHandle
from raysplit.algorithms.mas.owner import GroupLearner, MultiTaskOwner, MultiTaskOwnerHandle
from raysplit.algorithms.mtl_split.heads_node import HeadsHandle, HeadsNode
from raysplit.algorithms.mtsl.curvature import CurvatureHandle, CurvatureNode
from raysplit.cluster.contract import Given, Promise
from raysplit.prediction.dry_parties import DryNode, DryOwner

ROOT = Path(raysplit.__file__).parent
ANSWERED_BY: dict[type, tuple[type, ...]] = {
    PartyHandle: (DataOwner, ComputeNode, Aggregator),
    OwnerHandle: (DataOwner, DryOwner, GroupLearner),
    NodeHandle: (ComputeNode, DryNode),
    AggregatorHandle: (Aggregator,),
    EvaluatorHandle: (Evaluator,),
    DomainEvaluatorHandle: (DomainEvaluator,),
    ShardHandle: (ServerShard,),
    OpenAggregatorHandle: (OpenAggregator,),
    RoutedNodeHandle: (RoutedNode,),
    HeadsHandle: (HeadsNode,),
    CurvatureHandle: (CurvatureNode,),
    GroupAggregatorHandle: (GroupAggregator,),
    MultiTaskOwnerHandle: (MultiTaskOwner,),
}
PAIRS = [(handle, party) for handle, parties in ANSWERED_BY.items() for party in parties]


def verbs(handle: type) -> Iterator[str]:
    return (name for name in dir(handle) if not name.startswith("_") and callable(getattr(handle, name)))


@pytest.mark.parametrize(("handle", "party"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_verb_of_a_protocol_is_one_of_its_party(handle: type, party: type) -> None:
    """The same parameters in the same order, the same ones optional; what is returned there is promised here."""
    names = list(verbs(handle))
    assert names
    for verb in names:
        there, here = (list(inspect.signature(getattr(kind, verb)).parameters.values()) for kind in (party, handle))
        assert [(p.name, p.kind) for p in there] == [(p.name, p.kind) for p in here], verb
        assert [p.default is p.empty for p in there] == [p.default is p.empty for p in here], verb
        taken, asked = get_type_hints(getattr(party, verb)), get_type_hints(getattr(handle, verb))
        promised = asked.pop("return")
        assert get_origin(promised) is Promise, verb
        assert get_args(promised) == (taken.pop("return"),), verb
        for name, kind in asked.items():
            assert kind in (taken[name], promise_of(taken[name])), (verb, name)


def promise_of(kind: Any) -> Any:
    """The value or a promise of it; where None will do, nothing is promised for it."""
    inner = [part for part in get_args(kind) if part is not type(None)]
    return Given[inner[0]] | None if len(inner) < len(get_args(kind)) else Given[kind]


def test_every_protocol_is_held_to_its_party() -> None:
    files = [*ROOT.joinpath("actors").rglob("*.py"), *ROOT.joinpath("algorithms").rglob("*.py")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    heads = [line.partition("(")[0].removeprefix("class ") for line in lines if line.startswith("class ")]
    assert {head for head in heads if head.endswith("Handle")} == {handle.__name__ for handle in ANSWERED_BY}


PROGRAM = """
from typing import Any
from raysplit.algorithms.setting import Team

async def train(team: Team, step_id: Any, z: Any, y: Any) -> None:
    loss, g = await team.server.{loss_gradient}(step_id, z, y)
    await team.aggregator.{submit}(step_id, "owner-0", z)
    for node in team.nodes:
        z = node.{forward}(step_id, z)
"""
VERBS = {"loss_gradient": "NodeHandle", "submit": "AggregatorHandle", "forward": "NodeHandle"}


def test_mypy_finds_a_misspelt_verb(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """It reads these files alone: all of the package takes much longer."""
    (tmp_path / "right.py").write_text(PROGRAM.format(**{verb: verb for verb in VERBS}))
    (tmp_path / "wrong.py").write_text(PROGRAM.format(**{verb: f"{verb}t" for verb in VERBS}))
    cache = pytestconfig.cache.mkdir("mypy") if pytestconfig.cache else tmp_path
    options = ["--follow-imports=skip", f"--config-file={os.devnull}", f"--cache-dir={cache}"]
    read = [str(ROOT / name) for name in ("actors/verbs.py", "cluster/contract.py", "algorithms/setting.py")]
    told, _, _ = api.run([*options, str(tmp_path / "right.py"), str(tmp_path / "wrong.py"), *read])
    assert "right.py" not in told
    for verb, handle in VERBS.items():
        assert f'"{handle}" has no attribute "{verb}t"; maybe "{verb}"?' in told


def test_the_names_that_weights_had_before_still_work() -> None:
    assert DataOwner.parts_state is DataOwner.weights
    assert DataOwner.load_parts is DataOwner.load_weights
