"""Checkpoints that earlier versions wrote can be gone on from.

The run folders beside this file were written at commit 9a017e6, by the runs of ``tests/disturbed.py`` that their names
tell, cut short after their second round of three. There the verbs had other names; the keys of the files are the same.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raysplit.api import resume
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import load_recorded
from raysplit.training.recovery.checkpoint import Checkpoint, Checkpoints

FOLDERS = sorted(path for path in (Path(__file__).parent / "written_before").iterdir() if path.is_dir())
EXACT = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-3, 1e-4)}
"""What another processor may round differently in the two rounds before the checkpoint."""


def written(folder: Path) -> Checkpoint:
    return Checkpoints(folder / "checkpoints").load("round-000002.ckpt")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_run_goes_on_from_what_was_written_before(folder: Path, tmp_path: Path) -> None:
    """And ends where a run ends that begins anew; its first rounds are those that were kept, seconds and all."""
    cut, anew = tmp_path / "cut", tmp_path / "anew"
    shutil.copytree(folder, cut)
    shutil.copytree(folder, anew, ignore=shutil.ignore_patterns("checkpoints"))
    found, whole = resume(cut, trust=True), resume(anew, trust=True, from_start=True)
    assert list(found.rows[:2]) == list(written(folder).rows)
    assert len(found.rows) == len(whole.rows) == 3
    assert found.states.keys() == whole.states.keys()
    for label, state in found.states.items():
        for name, value in state.items():
            rtol, atol = EXACT.get(value.dtype, (0.0, 0.0))
            torch.testing.assert_close(value, whole.states[label][name], rtol=rtol, atol=atol)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_was_loaded_is_what_would_be_kept(folder: Path) -> None:
    """Bit for bit and key by key."""
    kept = written(folder)
    config = load_recorded(folder)
    parties, own = asyncio.run(_after_loading(config, kept))
    assert same(parties, kept.parties)
    assert same(own, kept.memory)


async def _after_loading(config: Any, kept: Checkpoint) -> tuple[Any, Any]:
    algorithm = build(config).begin()
    cluster, setting = LocalCluster(), algorithm.setting
    parties = algorithm.parties()
    algorithm.attach(await cluster.deploy([*parties, *setting.evaluators, *setting.validators]), cluster)
    await algorithm.load_party_states(parties, kept.parties, kept.memory)
    return await algorithm.party_states(parties), algorithm.state_dict()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
