"""The correction of product quantization: what is added to the gradient of smashed data, where they were made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import same, train

from raysplit.actors.records import StepId
from raysplit.cluster.codecs import codec_for, codec_named
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.tensors import num_bytes
from raysplit.experiment.links import LinkOptions

WORDS: dict[str, Any] = {"codec": "product_quantization", "sub": 2, "words": 4}
SPLIT = {"name": "splitfed_v2", "cut": 1}


def step(number: int) -> StepId:
    return StepId(owner="owner-0", round=0, step=number)


def crossed(link: CodingLink, source: str, destination: str, value: Any, kind: Any, number: int) -> Any:
    sent = link.leaving(source, destination, value, kind, step(number))
    return link.arriving(source, destination, sent, num_bytes(sent), kind, step(number))


@pytest.mark.parametrize("gradients", ["identity", "int8"])
@pytest.mark.parametrize("smashed", [{**WORDS, "correction": 3}, [{**WORDS, "correction": 3.0}, "zstd"]], ids=str)
def test_the_error_is_added_to_the_gradient(smashed: Any, gradients: str) -> None:
    """3 (z - decoded z) / 8 for each of two tensors; the next step and other owners have no part in it."""
    link = CodingLink(LinkOptions(smashed=smashed, gradients=gradients).link_rules(seed=5))
    plain = CodingLink(LinkOptions(smashed=WORDS, gradients=gradients).link_rules(seed=5))
    draws = torch.Generator().manual_seed(1)
    z = torch.randn(8, 40, generator=draws), torch.randn(8, 3, 30, generator=draws)
    g = torch.randn(8, 40, generator=draws), torch.randn(8, 3, 30, generator=draws)
    received = crossed(link, "owner-0", "server", z, "smashed", 0)
    assert all(map(torch.equal, received, crossed(plain, "owner-0", "server", z, "smashed", 0)))
    usual = crossed(plain, "server", "owner-0", (0.5, g), "gradients", 0)[1]
    loss, back = crossed(link, "server", "owner-0", (0.5, g), "gradients", 0)
    assert loss == 0.5
    for i in range(2):
        assert torch.allclose(back[i], usual[i] + 3 * (z[i] - received[i]) / 8, atol=1e-6)
        assert not torch.equal(back[i], usual[i])
    assert torch.equal(g[0], g[0].clone())
    for destination, number in (("owner-0", 1), ("owner-1", 0)):
        other = crossed(link, "server", destination, (0.5, g), "gradients", number)[1]
        assert all(map(torch.equal, other, crossed(plain, "server", destination, (0.5, g), "gradients", number)[1]))


def test_smashed_data_that_went_as_they_were_have_no_error() -> None:
    link = CodingLink(LinkOptions(smashed={**WORDS, "correction": 3}).link_rules())
    z = torch.full((8, 40), torch.nan)
    crossed(link, "owner-0", "server", torch.randn(8, 40), "smashed", 0)
    crossed(link, "owner-0", "server", z, "smashed", 1)
    g = torch.ones(8, 40)
    assert crossed(link, "server", "owner-0", g, "gradients", 1) is g


def test_without_a_factor_nothing_changes_and_with_one_smashed_data_are_nearer_to_the_words() -> None:
    def trained(**more: Any) -> Any:
        links = {"smashed": {**WORDS, **more}, "report_every": 6}
        return train(algorithm=SPLIT, links=links, training__rounds=6)

    plain, corrected = trained(), trained(correction=2.0)
    assert same(plain, trained(correction=0.0))
    assert not same(plain, corrected)
    assert corrected.rows[-1]["smashed_rel_mse"] < 0.9 * plain.rows[-1]["smashed_rel_mse"]
    assert plain.links == corrected.links


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("gradients", {**WORDS, "correction": 1}, "correction is for smashed data, whose gradient it corrects"),
        ("smashed", {**WORDS, "correction": -1}, "product_quantization.correction: .*than or equal to 0, got -1"),
        ("smashed", {**WORDS, "correction": float("inf")}, "product_quantization.correction: .*finite number, got inf"),
        ("smashed", ["bitmap", {**WORDS, "correction": 1}], "corrects gradients of what it codes; leave out Bitmap"),
    ],
)
def test_mistakes(kind: Any, text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_for(kind, text)
    assert codec_named(WORDS) == codec_named({**WORDS, "correction": 0.0})
