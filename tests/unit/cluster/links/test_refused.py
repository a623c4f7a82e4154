"""Everything that links refuse, with what, why and what instead, before any party is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import settings

import raysplit
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.transforms import RandomCrop

SPLIT: dict[str, Any] = {"algorithm": {"name": "splitfed_v2", "cut": 1}}
AVERAGED: dict[str, Any] = {"algorithm": {"name": "fedavg"}, "partition": {"num_owners": 5}}
HOP: dict[str, Any] = {"algorithm": {"name": "mpsl", "cuts": [1, 2]}}
LATE: dict[str, Any] = {"late": "merge", "round_deadline_s": 1.0}


def rule(source: str, kind: str, codec: Any, **more: Any) -> dict[str, Any]:
    return {"rules": [{"from": source, "kind": kind, "codec": codec, **more}]}


def words(number: int) -> dict[str, Any]:
    return {"codec": "product_quantization", "words": number}


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a codec on labels": (
        SPLIT, {"labels": "int8"},
        "links.labels: labels are exact integers, which no codec may change, got 'int8'; leave it out, or set "
        "links.labels to narrow",
    ),
    "a codec with options on labels": (
        SPLIT, {"labels": {"codec": "int4", "by": "row"}}, "links.labels: labels are exact integers",
    ),
    "a rule for labels": (SPLIT, rule("owner-*", "labels", "int8"), "links.rules.0.kind: labels are exact integers"),
    **{
        f"the chain rule of {codec}": (
            SPLIT, {"smashed": {"codec": codec, "gradient": "through"}},
            f"links.smashed: gradient: through is for top_k; {codec} rounds, and the derivative of that is 0 "
            f"everywhere, so the gradient of what arrived is taken for that of what was sent; leave gradient out",
        )
        for codec in ("int8", "int4", "int2", "float16", "float8", "product_quantization", "skip")
    },
    "the chain rule of linear codecs": (
        SPLIT, {"smashed": {"codec": "c3", "gradient": "through"}},
        "with c3 for links.gradients too, the gradient is that of the chain rule",
    ),
    "the chain rule and a codec of gradients": (
        SPLIT, {"smashed": {"codec": "top_k", "gradient": "through"}, "gradients": "int8"},
        "links: gradient: through sends the gradient of selected smashed data by the codec of these, and gradients "
        "have another, int8; leave one of the two out",
    ),
    "the chain rule and a rule for gradients": (
        SPLIT, {"smashed": {"codec": "top_k", "gradient": "through"}, **rule("server", "gradients", "int8")},
        "gradients have another, int8",
    ),
    "the chain rule for one owner": (
        SPLIT, rule("owner-1", "smashed", [{"codec": "top_k", "gradient": "through"}, "int8"]),
        "gradient: through in a rule (from: owner-1): the next party sends gradients to all parties alike",
    ),
    **{
        f"feedback on {kind}": (
            SPLIT, {kind: {"codec": "int4", "feedback": True}},
            f"links.{kind}: feedback is for weights: the next batch of {kind} has other samples, and what was left out "
            f"of this one would be noise; leave it out",
        )
        for kind in ("smashed", "gradients")
    },
    "feedback with stochastic rounding": (
        AVERAGED, {"weights": {"codec": "int8", "rounding": "stochastic", "feedback": True}},
        "links.weights: stochastic rounding is for gradients, not for weights; leave rounding out",
    ),
    "feedback with a lossless codec": (
        AVERAGED, {"weights": {"codec": "zstd", "feedback": True}},
        "links.weights: Zstd() leaves nothing out that feedback could add; leave feedback out",
    ),
    **{
        f"{codec} on weights to owners": (
            AVERAGED, {"weights": codec},
            f"links.weights: {name} codes differences of weights, which only owners send; leave weights out and set "
            f"links.rules: [{{from: owner-*, kind: weights, codec: ...}}]",
        )
        for codec, name in (("top_k", "TopK"), ("stc", "STC"), ("power_sgd", "PowerSGD"))
    },
    "delta on weights": (AVERAGED, {"weights": ["delta", "int8"]}, "Delta is a codec for smashed, not for weights"),
    "differences from everybody": (
        AVERAGED, rule("*", "weights", "top_k"),
        "links.rules: TopK codes differences of weights, which only owners send, and from: * fits the aggregator too; "
        "set from: owner-*",
    ),
    "differences from a server": (
        SPLIT, rule("server", "weights", "stc"),
        "links.rules: STC codes differences of weights, which only owners send, and from: server fits server; set "
        "from: owner-*",
    ),
    **{
        f"{codec} on {kind}": (
            SPLIT, {kind: codec},
            f"links.{kind}: {name} is a codec for weights, not for {kind}; leave {kind} uncoded",
        )
        for codec, name in (("stc", "STC"), ("power_sgd", "PowerSGD"))
        for kind in ("smashed", "gradients")
    },
    **{
        f"{codec} with {aggregation}": (
            {**AVERAGED, "reliability": {"aggregation": aggregation}}, rule("owner-*", "weights", codec),
            f"links.weights: {name} sends few of the values, and reliability.aggregation: {aggregation} compares all "
            f"of them; use int8, or aggregation: mean",
        )
        for codec, name in (("top_k", "TopK"), ("stc", "STC"), ("power_sgd", "PowerSGD"))
        for aggregation in ("median", "trimmed_mean", "krum")
    },
    **{
        f"differences that come late, {codec}": (
            {**AVERAGED, "reliability": LATE}, links,
            "links.weights codes differences to the weights of the round, which are gone when a late update is merged; "
            "set reliability.late to drop, or use a lossless codec such as zstd",
        )
        for codec, links in (("int8", {"weights": "int8"}), ("top_k", rule("owner-*", "weights", "top_k")))
    },
    "delta without sample numbers": (
        HOP, {"smashed": ["delta", "int4"]},
        "needs the numbers of the samples, which node-1 does not know; give it to owners alone",
    ),
    "delta before a codec of whole batches": (
        SPLIT, {"smashed": ["delta", words(4)]},
        "delta cannot be followed by ProductQuantization(sub=8, words=4); follow it by int8, int4, int2 or a cast",
    ),
    "delta before a codec with a large error": (SPLIT, {"smashed": ["delta", "c3"]}, "delta cannot be followed by C3("),
    "c3 of more rows than a batch": (
        SPLIT, {"smashed": {"codec": "c3", "rows": 17}},
        "links.smashed: C3 adds up 17 rows and a batch has 16; give at most 16",
    ),
    "more words than the last batch has vectors": (
        {**SPLIT, "training__batch_size": 36}, {"smashed": words(17)},  # owners of 80 samples: the last batch has 8
        "links.smashed: a codebook of 17 words needs as many vectors, and the smallest batch of owner-0, 8 rows, has "
        "16 of 8 values; give at most 16 words, or larger batches (training.batch_size, training.last_batch)",
    ),
    "more words for gradients": (
        {**SPLIT, "training__batch_size": 36}, {"gradients": [words(17), "zstd"]}, "links.gradients: a codebook of 17",
    ),
    "more words behind the second cut": (
        {**HOP, "training__batch_size": 36}, {"smashed": {**words(25), "sub": 4}},  # 16 values at the first, then 12
        "links.smashed: a codebook of 25 words needs as many vectors, and the smallest batch of owner-0, 8 rows, has "
        "24",
    ),
    "bits of no codec": (SPLIT, {"smashed": "int3"}, "links.smashed: unknown codec 'int3'; did you mean 'int8'?"),
    "two codecs for one value": (
        SPLIT, rule("owner-*", "smashed", "int8", to="server"),
        "links.rules.0: to: 'server' would code one value differently for its receivers, and the party that makes a "
        "value codes it once for all of them; leave to out, and name the sender in from",
    ),
    "a rule that is never reached": (
        SPLIT, {"rules": [*rule("owner-*", "smashed", "int8")["rules"], *rule("owner-1", "smashed", "int4")["rules"]]},
        "links.rules: smashed from owner-1 have a codec by an earlier rule already, from: owner-*, and the first that "
        "fits counts",
    ),
    "an unknown party": (
        SPLIT, rule("onwer-1", "smashed", "int8"),
        "links.rules: no party fits from: onwer-1; did you mean 'owner-1'? (the run has owner-0, owner-1, owner-2, "
        "server, aggregator)",
    ),
    "an unknown direction": (SPLIT, {"smashd": "int8"}, "links.smashd: unknown key; did you mean 'smashed'?"),
    "an unknown direction of a rule": (
        SPLIT, rule("owner-*", "gradient", "int8"),
        "links.rules.0.kind: unknown kind of value 'gradient'; did you mean 'gradients'? (one of smashed, gradients, "
        "weights)",
    ),
    "an unknown key of a rule": (
        SPLIT, rule("owner-*", "smashed", "int8", form="x"),
        "links.rules.0.form: unknown key; did you mean 'from'? (known: from, kind, codec)",
    ),
    "an unknown codec": (SPLIT, {"smashed": "topk"}, "links.smashed: unknown codec 'topk'; did you mean 'top_k'?"),
    "no codec by another name": (
        SPLIT, {"smashed": "none"},
        "links.smashed: a codec that changes nothing is called identity, got 'none'; write identity",
    ),
    "nothing to keep": (
        SPLIT, {"smashed": {"codec": "top_k", "ratio": 0}}, "links.smashed: top_k.ratio: must be greater than 0, got 0",
    ),
    "more than all to keep": (
        SPLIT, {"smashed": {"codec": "rand_top_k", "ratio": 1.5}},
        "links.smashed: rand_top_k.ratio: must be less than or equal to 1, got 1.5",
    ),
}  # fmt: skip


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that cannot be made."""

    def made(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a cluster was made")

    monkeypatch.setattr(LocalCluster, "__init__", made)


@pytest.mark.parametrize("name", REFUSED)
def test_what_links_refuse(name: str, nobody: None) -> None:
    sections, links, message = REFUSED[name]
    with pytest.raises(ValueError) as refused:
        raysplit.train(settings(**sections, links=links))
    assert message in str(refused.value)


@pytest.mark.parametrize("codec", [["delta", "int4"], "skip"], ids=str)
def test_samples_that_look_different_at_every_visit(codec: Any) -> None:
    """Of a picture that is cropped elsewhere every time, the last visit says nothing."""
    experiment = build(check_config(settings(**SPLIT, links={"smashed": codec})))
    owners = {name: replace(data, transform=RandomCrop(padding=1)) for name, data in experiment.setting.owners.items()}
    drawn = replace(experiment, setting=replace(experiment.setting, owners=owners))
    with pytest.raises(ValueError, match=r"look the same at every visit.* of owner-0 is random; set data\.augment"):
        drawn.begin()
    experiment.begin()


def test_what_is_next_to_it_is_taken() -> None:
    """As many words as there are vectors; a late update whose way down alone is coded; a rule behind a narrower one."""
    last: dict[str, Any] = {**SPLIT, "training__batch_size": 36}
    narrow = rule("owner-1", "smashed", "int4")["rules"]
    for sections, links in (
        (last, {"smashed": words(16), "gradients": words(16)}),
        ({**last, "training__last_batch": "drop"}, {"smashed": words(72)}),
        ({**last, "training__max_steps": 2}, {"smashed": words(72)}),
        ({**HOP, "training__batch_size": 36}, rule("owner-*", "smashed", {**words(32), "sub": 4})),
        ({**AVERAGED, "reliability": LATE}, rule("aggregator", "weights", "int8")),
        ({**AVERAGED, "reliability": LATE}, {"weights": "zstd"}),
        ({**AVERAGED, "reliability": {"aggregation": "krum"}}, {"weights": "int8"}),
        (SPLIT, {"rules": [*narrow, *rule("owner-*", "smashed", "int8")["rules"]]}),
    ):
        build(check_config(settings(**sections, links=links))).begin()
