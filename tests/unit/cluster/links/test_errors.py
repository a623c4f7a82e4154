"""The errors of codecs in the metrics, and half precision on coded links."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import same, settings, train

from raysplit.actors.records import StepId
from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.codecs.sparse import TopK
from raysplit.cluster.contract import PartyLoad
from raysplit.cluster.links.coding import coded, decoded
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.rules import LinkRules
from raysplit.config.run import ConfigError, check_config
from raysplit.experiment.fingerprint import numbers_depend_on
from raysplit.runs.rows import relative_errors

EVERY = 2
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, tuple[float, float]]]] = {
    "int8": (
        {"name": "splitfed_v2", "cut": 1},
        {"smashed": "int8", "gradients": "int4", "weights": "float16"},
        {"smashed": (1e-7, 1e-4), "gradients": (1e-4, 0.1), "weights": (1e-12, 1e-5)},
    ),
    "selected": (
        {"name": "splitfed_v1", "cut": 1},
        {"smashed": "rand_top_k"},
        {"smashed": (0.1, 1), "gradients": (0.1, 1)},
    ),
    "remembered": ({"name": "splitfed_v2", "cut": 1}, {"smashed": ["delta", "int4"]}, {"smashed": (1e-9, 1e-4)}),
    "differences": (
        {"name": "fedavg"},
        {"rules": [{"from": "owner-*", "kind": "weights", "codec": "int4"}]},
        {"weights": (1e-4, 0.1)},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_errors_are_in_the_metrics_of_some_rounds(name: str) -> None:
    """Measuring decodes once more, which must not touch what codecs keep: the weights are those of a run without."""
    algorithm, links, bounds = RUNS[name]
    plain = train(algorithm=algorithm, links=links, training__rounds=5)
    told = train(algorithm=algorithm, links={**links, "report_every": EVERY}, training__rounds=5)
    assert same(plain, told)
    assert plain.links == told.links
    for row in told.rows:
        found = {key.removesuffix("_rel_mse"): row[key] for key in row if key.endswith("_rel_mse")}
        assert found.keys() == (bounds.keys() if row["round"] % EVERY == 0 else set())
        for kind, error in found.items():
            assert bounds[kind][0] < error < bounds[kind][1], kind
    assert not any(key.endswith("_rel_mse") for row in plain.rows for key in row)


def test_an_error_is_that_of_the_values() -> None:
    """A quarter of the square of four values is lost, and nothing of the gradients."""
    rules = LinkRules(codecs={"smashed": TopK(ratio=0.75), "gradients": Float16()}, report_every=1)
    link, step = CodingLink(rules), StepId(owner="owner-0", round=0, step=0)
    link.leaving("owner-0", "server", torch.tensor([[3.0, 3.0, 3.0, -3.0]]).repeat(20, 1), "smashed", step)
    link.leaving("server", "owner-0", torch.ones(80), "gradients", step)
    found = link.coding()
    assert found["owner-0"].errors == (("smashed", 180.0, 720.0),)
    assert found["server"].errors == (("gradients", 0.0, 80.0),)
    assert link.coding() == {}
    assert relative_errors(
        [PartyLoad(party="owner-0", wait_s=0, peak_calls=0, errors=(("smashed", 180.0, 720.0),))]
    ) == {"smashed_rel_mse": 0.25}


def test_it_is_no_other_run() -> None:
    links = {"smashed": "int8"}
    once, twice = (check_config(settings(links=each)) for each in (links, {**links, "report_every": 3}))
    assert numbers_depend_on(once.model_dump(mode="json")) == numbers_depend_on(twice.model_dump(mode="json"))


@pytest.mark.parametrize("links", [{}, {"smashed": "zstd"}])
def test_without_errors_there_is_nothing_to_report(links: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="links: report_every is 2 and no codec changes a value"):
        check_config(settings(links={**links, "report_every": 2}))


HALVES: list[Any] = ["float8", "int8", "int2", "top_k", "c3", "project", "product_quantization", "zstd"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("text", [*HALVES, ["top_k", "int8", "zstd"]], ids=str)
def test_half_precision(text: Any, dtype: torch.dtype) -> None:
    """Most codecs failed on bfloat16, and the steps of int8 of small values were rounded to the grid of float16."""
    values = torch.randn(64, 160, generator=torch.Generator().manual_seed(1)).relu().mul(1e-4).to(dtype)
    codec = codec_named(text)
    assert codec is not None
    at = Passage("owner-0", "server", "smashed", None, "", memory=Memory())
    sent = coded(codec, values, at)
    assert sent is not None
    assert sent.num_bytes < 2 * values.numel()
    back = decoded(codec, sent, at)
    assert back.dtype == dtype
    whole = coded(codec, values.float(), at)
    assert whole is not None
    assert torch.equal(back, decoded(codec, whole, at).to(dtype))
