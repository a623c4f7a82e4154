"""What an owner releases of its smashed data, and the subspace in which they cross."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from guarded import guarded
from support import distance, same, train

from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.codecs.linear import Subspace, basis
from raysplit.guards.noise.smashed import defend, released
from raysplit.guards.rules import PrivacyRules

AT = Passage("owner-0", "server", "smashed", None, "", seed=5, memory=Memory())


def z(rows: int = 8) -> torch.Tensor:
    return torch.randn(rows, 3, 4, generator=torch.Generator().manual_seed(1))


def test_off_is_the_same_object() -> None:
    given = z()
    assert defend(PrivacyRules(), given) is given


def test_basis_is_orthonormal_and_everybodys() -> None:
    found = basis(5, 12, 4)
    assert torch.allclose(found @ found.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert torch.equal(found, basis(5, 12, 4))
    assert not torch.equal(found, basis(6, 12, 4))


def test_a_projection_is_released_once() -> None:
    rules = PrivacyRules(project=4)
    once = defend(rules, z(), seed=5)
    assert isinstance(once, torch.Tensor)
    again = defend(rules, once, seed=5)
    assert isinstance(again, torch.Tensor)
    assert torch.allclose(once, again, atol=1e-6)
    expected = z().reshape(8, -1).double() @ basis(5, 12, 4).T @ basis(5, 12, 4)
    assert torch.allclose(once.reshape(8, -1).double(), expected, atol=1e-6)


def test_codec_sends_k_of_q_numbers_and_gives_gradients_in_the_subspace() -> None:
    codec = Subspace(size_of=4)
    arrays = codec.encode(z(), AT)
    assert sum(array.nbytes for array in arrays) * 12 == z().nbytes * 4
    received = codec.decode(arrays, (8, 3, 4), torch.float32, AT)
    projection = (basis(5, 12, 4).T @ basis(5, 12, 4)).float()
    assert torch.allclose(received.reshape(8, -1), z().reshape(8, -1) @ projection, atol=1e-6)


def test_a_projection_to_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="a projection to 12 numbers changes nothing of 12 that cross"):
        defend(PrivacyRules(project=12), z())


def test_noise_is_in_the_subspace() -> None:
    rules = PrivacyRules(project=4, z={"clip": 1, "noise": 0.5}, rehearsal=True)
    made = defend(rules, z(), seed=5, number=3)
    assert isinstance(made, torch.Tensor)
    flat = made.reshape(8, -1).double()
    assert torch.allclose(flat @ basis(5, 12, 4).T @ basis(5, 12, 4), flat, atol=1e-6)
    assert torch.equal(made, defend(rules, z(), seed=5, number=3))  # type: ignore[arg-type]
    assert not torch.equal(made, defend(rules, z(), seed=5, number=4))  # type: ignore[arg-type]


def test_rows_of_whole_numbers_are_refused() -> None:
    rules = PrivacyRules(z={"clip": 1, "noise": 0.5}, rehearsal=True)
    with pytest.raises(ValueError, match="a int64 tensor of shape"):
        defend(rules, torch.ones(3, 4, dtype=torch.int64))


def test_training_with_a_projection_sends_k_of_q_numbers_both_ways() -> None:
    """Beside the header of 16 bytes that every coded tensor has."""
    changes = {"algorithm": {"name": "splitnn", "cut": 1}}
    plain, projected = train(**changes), guarded(**changes, privacy={"project": 4})
    sent = [Counter[str](), Counter[str]()]
    for found, result in zip(sent, (plain, projected), strict=True):
        for link in result.links:
            found.update({kind.kind: kind.num_bytes for kind in link.kinds})
    messages = 2 * 3 * 5  # two rounds, three owners, five batches each
    for kind in ("smashed", "gradients"):
        assert sent[1][kind] - 16 * messages == sent[0][kind] * 4 / 16
    assert distance(plain, projected) > 0


def test_the_same_noise_in_every_run_of_a_secret() -> None:
    changes = {"algorithm": {"name": "splitnn", "cut": 1}}
    noisy = {"privacy": {"z": {"clip": 1, "noise": 0.5}, "rehearsal": True}}
    first, second = guarded(**changes, **noisy), guarded(**changes, **noisy)
    assert same(first, second)
    assert np.isfinite(first.rows[-1]["test_accuracy"])


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
@pytest.mark.parametrize("project", [None, 4])
def test_gradients_come_back_through_what_was_clipped_and_dropped(mechanism: str, project: int | None) -> None:
    """They once passed straight through: the part was driven as if rows could still grow, and training ended in NaN."""
    z_rules = {"mechanism": mechanism, "clip": 1, "noise": 0}
    rules = PrivacyRules(z=z_rules, dropout=0.3, project=project, rehearsal=True)

    def sent(z: torch.Tensor) -> tuple[Any, Any]:
        return released(rules, z, lambda purpose: np.random.default_rng(7), 0)

    z, along, g = (torch.from_numpy(np.random.default_rng(i).normal(size=(5, 2, 3))) for i in range(3))
    z[0] *= 0.01  # within the norm: it keeps its gradient
    _, back = sent(z)
    slope = ((sent(z + 1e-6 * along)[0] - sent(z - 1e-6 * along)[0]) / 2e-6 * g).sum()
    torch.testing.assert_close((back(g) * along).sum(), slope, rtol=1e-6, atol=1e-8)


def test_noise_alone_leaves_gradients_as_they_are() -> None:
    rules = PrivacyRules(z={"noise": 1.0}, project=2, rehearsal=True)
    assert released(rules, torch.ones(4, 6), lambda purpose: np.random.default_rng(7), 0)[1] is None
