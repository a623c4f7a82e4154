"""The device of a run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import settings

import raysplit
from raysplit.config import build
from raysplit.config.run import check_config


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
    """``cluster.device=cuda`` with ``cluster.kind=local`` trained on the CPU, and nobody was told."""
    with pytest.raises(
        ValueError, match=r"cluster\.device is cuda and torch finds no CUDA device.*set cluster\.device"
    ):
        raysplit.train(settings(cluster={"kind": "local", "device": "cuda"}), folder=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_auto_takes_what_there_is() -> None:
    tree = settings(cluster={"kind": "local", "device": "auto"}, training={"rounds": 1, "max_steps": 1})
    assert raysplit.train(tree).rows[-1]["round"] == 1


def test_the_data_are_loaded_once_for_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a Ray cluster with GPUs checked everything on the CPU and then read its data a second time."""
    loaded, plain = [], build.ready
    monkeypatch.setattr(build, "ready", lambda config, spec: (loaded.append(config), plain(config, spec))[1])
    make = build.maker(check_config(settings()))
    here, there = make("cpu").setting, make("cuda").setting
    assert len(loaded) == 1
    assert (here.device, there.device) == ("cpu", "cuda")
    assert there.evaluators
    assert {party.arguments["device"] for party in there.evaluators} == {"cuda"}
    assert there.on("cpu").owners is here.owners
