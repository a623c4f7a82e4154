"""What a checkpoint holds, changed under a right checksum: it is named, or gone on from exactly as it stands.

An editor of bytes is caught by the checksum. Whoever loads a checkpoint, changes it and writes it anew is not: halved
learning rates, another momentum, the states of two owners swapped and an emptied optimizer were once gone on from
without a word, and ended in other weights.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import amounts, fuzz, read_or_refused
from strategies.checkpoints import Change, at, changed_contents, places
from torch import Tensor

from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import load_recorded
from raysplit.experiment.experiment import Experiment
from raysplit.training.recovery.checkpoint import CheckpointRefused, Checkpoints, decoded
from raysplit.training.recovery.digests import DIGESTS, digests_of
from raysplit.training.recovery.members import Everybody
from raysplit.training.recovery.recovery import Safety

HEADER, OLDER = b"raysplit checkpoint 2\n", b"raysplit checkpoint 1\n"
RUNS = Path(__file__).parent / "written_before"
METHODS = ["minibatch_sfl_on_two_servers_kept", "mtsl_kept", "mas_forgotten", "splitnn_kept"]
methods = pytest.mark.parametrize("name", METHODS)


@cache
def content_of(name: str) -> dict[str, Any]:
    """What the checkpoint of a run holds, as this version writes it."""
    data = Checkpoints(RUNS / name / "checkpoints").load("round-000002.ckpt").encoded()
    content: dict[str, Any] = torch.load(io.BytesIO(data[len(HEADER) + 32 :]), weights_only=True)
    assert written(content)[: len(HEADER)] == data[: len(HEADER)]
    return content


def written(content: Mapping[str, Any], header: bytes = HEADER) -> bytes:
    """Return the bytes of a file with this content and a right checksum."""
    body = io.BytesIO()
    torch.save(dict(content), body)
    return header + hashlib.sha256(body.getvalue()).digest() + body.getvalue()


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in types and bits."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@amounts
@methods
def test_what_changed_is_named(name: str, share: float, record_property: Any) -> None:
    """Whatever changes in whichever field, also in the digests; and where the file says that it is an older one."""
    content = content_of(name)

    def check(change: Change) -> None:
        for header in (HEADER, OLDER):
            data = written(change.content, header)
            try:
                decoded(data, "this file")
            except CheckpointRefused as error:
                message = str(error)
                assert message.startswith("this file ")
                assert change.place[0] == DIGESTS or any(
                    name in message for name in (change.place[0], DIGESTS, "Weights only", "more entries")
                ), message
            else:
                assert same(change.content, content) or (header == OLDER and DIGESTS not in change.content), change

    fuzz(changed_contents(content), check, inputs=round(700 * share), record=record_property)


@cache
def experiment_of(name: str) -> Experiment:
    return build(load_recorded(RUNS / name))


async def gone_on_from(name: str, data: bytes) -> tuple[Any, Any]:
    """Return what the parties and the coordinator of a run hold after loading the content of a file."""
    experiment, cluster = experiment_of(name), LocalCluster()
    algorithm = experiment.begin()
    parties = [*algorithm.parties(), *algorithm.setting.evaluators, *algorithm.setting.validators]
    algorithm.attach(await cluster.deploy(parties), cluster)
    safety = Safety(experiment, algorithm, parties, cluster, None, Everybody())
    await safety.begin(decoded(data, "this file"))
    return await algorithm.party_states(algorithm.parties()), algorithm.state_dict()


ARGUMENTS = {"momentum", "dampening", "weight_decay", "nesterov", "maximize", "foreach", "differentiable", "fused"}


@amounts
@methods
def test_what_fits_is_loaded_as_it_stands(name: str, share: float, record_property: Any) -> None:
    """With right digests as well, as another program may write it: nothing is cast, left out or made up.

    Weights as integers were cast, an owner without parts kept its first weights, and the momentum of the file replaced
    the configured one.
    """
    content = content_of(name)
    arguments = [place for place in places(content["parties"]) if place[-1] in ARGUMENTS]

    def check(change: Change) -> None:
        changed = {key: value for key, value in change.content.items() if key != DIGESTS}
        data = written({**changed, DIGESTS: digests_of(changed)})
        found = read_or_refused(lambda: asyncio.run(gone_on_from(name, data)), errors=(CheckpointRefused,))
        if found is not None:
            assert same(found, (changed["parties"], changed["memory"]))
            for place in arguments:
                assert at(changed["parties"], place) == at(content["parties"], place)

    fuzz(changed_contents(content, ["parties", "memory"]), check, inputs=round(300 * share), record=record_property)
