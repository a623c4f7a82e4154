"""Small runs with guards, in one process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from support import settings
from torch import Tensor

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.records import StepId
from raysplit.algorithms.splitnn import SplitNN
from raysplit.cluster.contract import Cluster, PartySpec
from raysplit.cluster.faults import FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.experiment.experiment import Experiment
from raysplit.guards.account.totals import Account, accounts_in
from raysplit.runs.folder import RunFolder
from raysplit.runs.result import Result
from raysplit.training.loop import run

NOISY: dict[str, Any] = {"z": {"clip": 1, "noise": 0.5}, "labels": {"epsilon": 2}}
TRAINING: dict[str, Any] = {"rounds": 3, "batch_size": 16, "optimizer": {"lr": 0.1}}


class Critic(ComputeNode):
    """A server that returns the gradient of a critic of smashed data, whatever the labels are."""

    async def loss_gradient(self, step_id: StepId, z: Any, y: Any) -> tuple[float, Any]:
        loss, _ = await super().loss_gradient(step_id, z, y)
        leaf: Tensor = z.detach().clone().requires_grad_()
        torch.tanh(leaf.flatten(1).mean(1) * 3).mean().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return loss, leaf.grad


class Hijacked(SplitNN):
    """SplitNN with such a server."""

    name = "hijacked"

    def parties(self) -> list[PartySpec]:
        return [replace(p, build=Critic) if p.role == "node" else p for p in super().parties()]


def secret_in(folder: Path, key: bytes = bytes(range(32))) -> str:
    """Write a secret, and return its path."""
    path = folder / "secret.key"
    path.write_bytes(key)
    path.chmod(0o600)
    return str(path)


def experiment_of(**changes: Any) -> Experiment:
    """Build the base settings with changes."""
    return build(check_config(settings(**changes)))


def guarded(*, faults: Any = (), folder: Path | None = None, **changes: Any) -> Result:
    """Train the base settings with changes on a `LocalCluster` that asks the guards."""
    experiment = experiment_of(**changes)
    cluster: Cluster = LocalCluster(links=experiment.link_rules())
    if faults:
        cluster = FaultyCluster(cluster, faults)
    return asyncio.run(run(experiment, cluster, folder=None if folder is None else RunFolder(folder)))


def accounts(folder: Path) -> list[Account]:
    """Read the ledgers in a folder."""
    return accounts_in(folder)
