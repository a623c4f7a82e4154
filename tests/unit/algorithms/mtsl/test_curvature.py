"""Rates from curvature: the rule on random quadratics, and the measurement against dense Hessians.

For the learning rates of multi-task split learning (Zheng, Eryilmaz 2024, arXiv 2406.00150).
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import settings, train
from torch import Tensor

from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.mtsl.curvature import spectral_norm
from raysplit.algorithms.mtsl.learning_rates import AutoRates, MeasuredRates
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.schedulers.curvature_rates import Curvature, block_constants, block_rates

M, SIZE = 5, 3  # tasks, weights of each block


def quadratic(seed: int, coupling: float = 1.5) -> tuple[np.ndarray, Curvature]:
    """A random convex arrowhead Hessian (top first) and the exact norms of its blocks."""
    draw = np.random.default_rng(seed)
    hessian = np.zeros(((M + 1) * SIZE, (M + 1) * SIZE))
    top = slice(0, SIZE)
    owners, cross = {}, {}
    for m in range(M):
        a = draw.normal(size=(2 * SIZE, 2 * SIZE)) * np.repeat([coupling, 1.0], SIZE)
        block = a.T @ a  # of task m: [top, bottom m], positive semi-definite
        own = slice((m + 1) * SIZE, (m + 2) * SIZE)
        hessian[top, top] += block[:SIZE, :SIZE]
        hessian[own, own] = block[SIZE:, SIZE:]
        hessian[top, own] = block[:SIZE, SIZE:]
        hessian[own, top] = hessian[top, own].T
        owners[f"owner-{m}"] = np.linalg.norm(hessian[own, own], 2)
        cross[f"owner-{m}"] = np.linalg.norm(hessian[top, own], 2)
    return hessian, Curvature(server=np.linalg.norm(hessian[top, top], 2), owners=owners, cross=cross)


def diagonal(server: float, owners: dict[str, float]) -> np.ndarray:
    return np.repeat([server, *owners.values()], SIZE)


def steps_until(hessian: np.ndarray, rates: np.ndarray, fraction: float, limit: int = 20_000) -> int:
    """Gradient steps on x'Hx/2 from ones until the loss is this fraction of the first; it must never rise."""
    x = np.ones(len(hessian))
    first = loss = x @ hessian @ x / 2
    for step in range(1, limit):
        x = x - rates * (hessian @ x)
        before, loss = loss, x @ hessian @ x / 2
        assert loss <= before * (1 + 1e-12)
        if loss <= fraction * first:
            return step
    return limit


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
def test_block_constants_bound_the_hessian_and_descent_is_monotone(seed: int, c: float) -> None:
    hessian, curvature = quadratic(seed)
    weights = dict.fromkeys(curvature.owners, c)
    constants = block_constants(curvature, weights)
    d = diagonal(constants.server, dict(constants.owners))
    assert np.linalg.eigvalsh(np.diag(d) - hessian).min() > -1e-9
    rates = block_rates(curvature, weights)
    steps_until(hessian, diagonal(rates.server, dict(rates.owners)), 1e-2, limit=200)


@pytest.mark.parametrize("seed", range(8))
def test_the_blocks_alone_are_not_safe(seed: int) -> None:
    """The counter-example: without A_m the diagonal is no bound."""
    hessian, curvature = quadratic(seed)
    bare = diagonal(curvature.server, dict(curvature.owners))
    assert np.linalg.eigvalsh(np.diag(bare) - hessian).min() < -0.5


def test_rates_of_each_block_are_faster_than_one_for_all() -> None:
    """A steep top and flat bottoms: one rate for all crawls along the bottoms."""
    for seed in range(4):
        hessian, curvature = quadratic(seed, coupling=4.0)
        rates = block_rates(curvature)
        own = steps_until(hessian, diagonal(rates.server, dict(rates.owners)), 1e-3)
        common = steps_until(hessian, np.full(len(hessian), 1 / np.linalg.norm(hessian, 2)), 1e-3)
        assert own < common


def test_known_rates() -> None:
    """S = 4, B = (1, 3), A = (1, 2): D_s = 4 + 1 + 2, D_m = (1 + 1, 3 + 2)."""
    curvature = Curvature(server=4, owners={"a": 1, "b": 3}, cross={"a": 1, "b": 2})
    rates = block_rates(curvature)
    assert rates.server == 1 / 7
    assert rates.owners == {"a": 1 / 2, "b": 1 / 5}
    assert rates.server_on_mean(2) == 2 / 7
    weighted = block_constants(curvature, {"b": 4.0})  # D_s = 4 + 1 + 8, D_b = 3 + 2 / 4
    assert (weighted.server, weighted.owners["b"]) == (13, 3.5)


def test_the_largest_seen_counts() -> None:
    first = Curvature(server=4, owners={"a": 1, "b": 3}, cross={"a": 1, "b": 2})
    second = Curvature(server=2, owners={"b": 5, "c": 6}, cross={"b": 1, "c": 0})
    assert first.raised_to(second) == Curvature(
        server=4, owners={"a": 1, "b": 5, "c": 6}, cross={"a": 1, "b": 2, "c": 0}
    )


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: Curvature(server=1, owners={"a": 1}, cross={}), "owners and cross must have the same keys"),
        (lambda: Curvature(server=1, owners={"a": -1}, cross={"a": 0}), "at least 0"),
        (lambda: block_rates(Curvature(server=1, owners={"a": 0}, cross={"a": 0})), "a has no curvature"),
        (lambda: block_constants(Curvature(server=1, owners={"a": 1}, cross={"a": 1}), {"a": 0}), "above 0"),
    ],
)
def test_mistakes_are_explained(mistake: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mistake()


def test_power_iteration_finds_the_largest_absolute_eigenvalue() -> None:
    matrix = torch.diag(torch.tensor([-5.0, 3.0, 1.0]))
    assert spectral_norm(lambda v: matrix @ v, torch.ones(3), 60) == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize("cut", [1, 2])
def test_measured_blocks_are_those_of_the_dense_hessian(cut: int) -> None:
    """With many iterations; a cut after two layers makes the bottom curved in its own weights."""
    changes: dict[str, Any] = {
        "model": {"name": "mlp", "hidden": [4, 3], "dtype": "float64"},
        "data": {"name": "random", "num_classes": 3, "num_samples": 90, "dim": 3, "seed": 1},
        "partition__num_owners": 2,
        "training": {"batch_size": 16, "shuffle": False},
    }
    config = check_config(settings(**changes))
    setting = build(config).setting
    kind = resolve_algorithm("mtsl")
    algorithm = kind(setting, kind.options_type(cut=cut))
    measured_rates = MeasuredRates(AutoRates(iterations=400), reduction="mean", seed=0)

    async def measured() -> Curvature:
        algorithm.attach(await LocalCluster().deploy(algorithm.parties()))
        await algorithm.handles["server"].begin(algorithm.context(0, list(setting.owners)))
        await measured_rates.refresh(algorithm.handles, algorithm.context(0, list(setting.owners)))
        assert measured_rates.seen is not None
        return measured_rates.seen

    found = asyncio.run(measured())
    bottom, top = setting.spec.parts((cut,))
    for part in (bottom, top):
        part.eval()
    owners = [
        (d.transform(d.shard.x[:16], torch.Generator()).double(), d.shard.y[:16]) for d in setting.owners.values()
    ]
    sizes = [sum(p.numel() for p in part.parameters()) for part in (bottom, top)]

    def loss(flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        z = torch.func.functional_call(bottom, shaped(bottom, flat[: sizes[0]]), (x,))
        return F.cross_entropy(torch.func.functional_call(top, shaped(top, flat[sizes[0] :]), (z,)), y)

    at = torch.cat([p.detach().flatten() for part in (bottom, top) for p in part.parameters()])
    hessians = [torch.autograd.functional.hessian(lambda w, x=x, y=y: loss(w, x, y), at) for x, y in owners]
    n = sizes[0]
    assert found.server == pytest.approx(norm(sum(h[n:, n:] for h in hessians)), rel=1e-4)
    for (own, cross), h in zip(zip(found.owners.values(), found.cross.values(), strict=True), hessians, strict=True):
        assert own == pytest.approx(norm(h[:n, :n]), rel=1e-4)
        assert cross == pytest.approx(norm(h[n:, :n]), rel=1e-4)


def shaped(part: torch.nn.Module, flat: Tensor) -> dict[str, Tensor]:
    pieces = flat.split([p.numel() for p in part.parameters()])
    return {name: piece.view_as(p) for (name, p), piece in zip(part.named_parameters(), pieces, strict=True)}


def norm(block: Tensor) -> float:
    return float(torch.linalg.matrix_norm(block, 2))


def test_measured_rates_train_faster_than_a_timid_common_one_and_are_reported() -> None:
    training = {"rounds": 6, "batch_size": 16, "optimizer": {"lr": 0.1}}
    auto = train(algorithm={"name": "mtsl", "learning_rates": "auto"}, training=training)
    common = train(algorithm={"name": "mtsl"}, training=training)
    assert auto.rows[-1]["train_loss"] < common.rows[-1]["train_loss"]
    assert auto.rows[0]["server_rate"] > 0.1
    assert auto.rows[0]["owner_rate_min"] <= auto.rows[0]["owner_rate_max"]


def test_measuring_sends_nothing_but_tensors_of_the_size_of_the_smashed_data() -> None:
    """A batch up, its gradient down, and per iteration two tangents up and two cotangents down."""
    rows, width, item, iterations = 16, 16, 8, 3
    auto = {"every": 100, "iterations": iterations}
    once = {"rounds": 1, "batch_size": rows, "max_steps": 1}
    link = {
        (t.source, t.destination): t.num_bytes
        for t in train(algorithm={"name": "mtsl", "learning_rates": auto}, training=once).links
    }
    z = rows * width * item
    assert link["owner-0", "server"] == 2 * (z + 4 * rows) + iterations * 2 * z
    assert link["server", "owner-0"] == 2 * z + iterations * 2 * z
    assert {destination for _, destination in link} <= {"server", "owner-0", "owner-1", "owner-2"}
