"""Linear codecs: decoding is the adjoint of encoding, and the noise is what the equations say."""

from __future__ import annotations

import pytest
import torch

from raysplit.cluster.codecs.codec import Codec, Passage
from raysplit.cluster.codecs.linear import C3, Project

AT = Passage("owner-0", "server", "smashed", None, "", seed=5)
GEN = torch.Generator().manual_seed(0)


def decoded(codec: Codec, y: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return codec.decode((y.numpy(),), shape, y.dtype, AT)


@pytest.mark.parametrize("codec", [C3(rows=4), C3(rows=3, keys="unitary"), Project(ratio=0.2)], ids=repr)
def test_decoding_is_the_adjoint_of_encoding(codec: Codec) -> None:
    g = torch.randn(12, 100, generator=GEN, dtype=torch.float64)
    encoded = torch.from_numpy(codec.encode(g, AT)[0])  # type: ignore[index]
    y = torch.randn(encoded.shape, generator=GEN, dtype=torch.float64)
    assert float((decoded(codec, y, (12, 100)) * g).sum()) == pytest.approx(float((y * encoded).sum()), rel=1e-5)


@pytest.mark.parametrize(("keys", "less"), [("gaussian", 0), ("unitary", 1)])
@pytest.mark.parametrize("rows", [2, 4, 8])
def test_the_noise_is_that_of_the_other_rows(keys: str, less: int, rows: int) -> None:
    values = torch.randn(256, 1568, generator=GEN)
    codec = C3(rows=rows, keys=keys)  # type: ignore[arg-type]
    back = decoded(codec, torch.from_numpy(codec.encode(values, AT)[0]), (256, 1568))
    assert float(((back - values) ** 2).sum() / (values**2).sum()) == pytest.approx(rows - less, rel=0.03)


def test_a_row_alone_comes_back() -> None:
    """Also the last of 33 rows in groups of 8: the published code drops it, here it is padded with zeros."""
    values = torch.randn(33, 98, generator=GEN)
    alone, grouped = C3(rows=1, keys="unitary"), C3(rows=8, keys="unitary")
    assert torch.allclose(decoded(alone, torch.from_numpy(alone.encode(values, AT)[0]), (33, 98)), values, atol=1e-6)
    (sums,) = grouped.encode(values, AT)
    assert sums.shape == (5, 98)
    assert torch.allclose(decoded(grouped, torch.from_numpy(sums), (33, 98))[32], values[32], atol=1e-5)
