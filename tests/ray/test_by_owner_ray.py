"""Owners that read their own sources on Ray: the driver never opens one, and a killed place opens its own again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from own_sources import described
from support import same

import raysplit
from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.training.loop import run

HERE = described({"name": "own_sources:made"})


@pytest.mark.slow  # starts processes twice, for the outlines and for the run
def test_sources_are_opened_at_their_owners_alone(tmp_path: Path, ray_session: dict[str, float]) -> None:
    """The function raises in the driver, so that a single read there would end the run."""
    source = {"name": "own_sources:elsewhere", "driver": os.getpid()}
    with pytest.raises(ValueError, match=r"owner-0 \(clinic-0, .*the driver opened"):
        raysplit.train(described(source))
    far = raysplit.train(described(source, cluster={"kind": "ray", "places": 2}), folder=tmp_path / "far")
    near = raysplit.train(HERE)
    assert same(far, near)
    assert far.accuracy == near.accuracy


def test_an_owner_that_dies_opens_its_source_again(make_cluster: Any) -> None:
    fault = Fault(party="owner-1", verb="run_round", at_call=2, turns=4)
    faulty = FaultyCluster(make_cluster(2), [fault], death=end_process)
    found = asyncio.run(run(build(check_config(HERE)), faulty))
    assert faulty.num_healed >= 1
    assert same(found, raysplit.train(HERE))
