"""One link for all: every byte that is counted passes it, and whatever is to be coded is coded, in every algorithm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from disturbed import EVERYTHING, changes
from support import run_on, same, settings, train
from torch import Tensor

from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Arrays, Passage
from raysplit.cluster.contract import LinkTraffic, PartySpec
from raysplit.cluster.guarded_link import make_link
from raysplit.cluster.links.coded import Coded, unpacked
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.kinds import carries
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.run import ConfigError, check_config
from raysplit.runs.result import Result
from raysplit.training.recovery.recovery import fingerprint

HALF: dict[str, Any] = {"smashed": "float16", "gradients": "float16"}


class Recorder:
    """Adds up what it sees, by link, and keeps the kinds of what was coded."""

    def __init__(self) -> None:
        self.num_bytes: Counter[tuple[str, str]] = Counter()
        self.num_messages: Counter[tuple[str, str]] = Counter()
        self.coded: Counter[tuple[str, str, str]] = Counter()
        self.plain: Counter[tuple[str, str]] = Counter()  # tensors that a codec would take, and none has

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None:
        self.num_bytes[source, destination] += num_bytes
        self.num_messages[source, destination] += 1
        for leaf in leaves(value):
            if isinstance(leaf, Coded):
                self.coded[source, destination, unpacked(leaf.header).kind] += 1
            elif leaf.is_floating_point() and leaf.numel() >= 64:
                self.plain[source, destination] += 1

    def records(self) -> list[LinkTraffic]:
        return [
            LinkTraffic(source=a, destination=b, num_bytes=n, num_messages=self.num_messages[a, b])
            for (a, b), n in sorted(self.num_bytes.items())
        ]


def untold(traffic: list[LinkTraffic]) -> list[LinkTraffic]:
    """The same without the kinds of values."""
    return [replace(record, kinds=()) for record in traffic]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, Tensor | Coded):
        return [value]
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple | list) else []


class HalfOfAll(Float16):
    """Float16 for weights, too."""

    kinds = frozenset(("smashed", "gradients", "weights"))


def recorded(rules: LinkRules = PLAIN, **settings: Any) -> tuple[Result, Recorder, LocalCluster]:
    recorder = Recorder()
    cluster = LocalCluster(links=LinkRules(codecs=rules.codecs, taps=(recorder,)))
    return run_on(cluster, **settings), recorder, cluster


# -- every byte -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_counted_byte_passes_the_link(name: str) -> None:
    """Also those before and between rounds, which no round's table has."""
    result, recorder, cluster = recorded(**changes(name))
    assert untold(asyncio.run(cluster.traffic())) == recorder.records()
    within = {(t.source, t.destination): t.num_bytes for t in result.links}
    assert all(recorder.num_bytes[link] >= num_bytes for link, num_bytes in within.items())
    assert not recorder.coded


SPLIT = ["splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl", "mpsl", "mpsl with routes", "mtl_split on two nodes"]


OF_NO_KIND = {
    "splitnn": {("owner", "owner")},  # weights that are handed on
    "mtsl": {("owner", "server"), ("server", "owner")},  # measurements of curvature
}


@pytest.mark.parametrize("name", [*SPLIT, "splitfed_v1 on two servers", "fedavg", "fedem", "mtsl"])
def test_nothing_of_a_kind_that_is_coded_goes_uncoded(name: str) -> None:
    """Every large tensor that a party of the training gets from another one is coded, but for those of no kind."""
    codec = HalfOfAll()
    rules = LinkRules(codecs={"smashed": codec, "gradients": codec, "weights": codec})
    _, recorder, cluster = recorded(rules, **changes(name))
    assert untold(asyncio.run(cluster.traffic())) == recorder.records()
    assert recorder.coded
    uncoded = {(a.split("-")[0], b.split("-")[0]) for a, b in recorder.plain}
    looked_at = {"coordinator", "evaluator", "validator"}  # checkpoints and evaluation
    assert {link for link in uncoded if link[1] not in looked_at} == OF_NO_KIND.get(name, set())


def test_a_value_for_several_is_coded_once_and_counted_for_each() -> None:
    """The features of MTL-Split go to both nodes, and the average of FedAvg to all owners."""

    class Counting(HalfOfAll):
        encoded: Counter[str] = Counter()

        def encode(self, values: Tensor, at: Passage) -> Arrays:
            self.encoded[at.kind] += 1
            return super().encode(values, at)

    rules = LinkRules(codecs={"smashed": Counting()})
    _, recorder, _ = recorded(rules, **changes("mtl_split on two nodes"))
    arrived = [n for (_, _, kind), n in recorder.coded.items() if kind == "smashed"]
    assert arrived == [Counting.encoded["smashed"]] * 2
    Counting.encoded.clear()
    _, recorder, _ = recorded(LinkRules(codecs={"weights": Counting()}), algorithm={"name": "fedavg"})
    to_owners = [n for (source, to, _), n in recorder.coded.items() if to.startswith("owner") and source != "owner"]
    assert len(to_owners) == 3
    assert len(set(to_owners)) == 1
    up = sum(n for (source, _, _), n in recorder.coded.items() if source.startswith("owner"))
    assert Counting.encoded["weights"] - up <= 2 * to_owners[0]  # for the owners, and once more to be evaluated


# -- split = unsplit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl"])
def test_split_with_a_codec_is_the_whole_model_with_the_codec_at_the_cut(name: str, dtype: str) -> None:
    model = {"name": "support:plain_net", "dtype": dtype}
    one: dict[str, Any] = {"partition__num_owners": 1, "training__local_epochs": 3}
    split = train(algorithm={"name": name, "cut": 3}, links=HALF, model=model, **one)
    with_codec = {**model, "name": "support:coded_net"}
    whole = train(algorithm={"name": "centralised"}, model=with_codec, **one)
    assert same(split, whole)
    assert not same(split, train(algorithm={"name": name, "cut": 3}, model=model, **one))


def test_methods_that_are_equal_stay_equal_with_a_codec() -> None:
    one = {"links": HALF, "partition__num_owners": 1}
    first, *others = [train(algorithm={"name": name, "cut": 1}, **one) for name in SPLIT[:4]]
    assert all(same(first, other) for other in others)


def test_a_codec_on_gradients_alone_leaves_smashed_data_alone() -> None:
    _, recorder, _ = recorded(LinkRules(codecs={"gradients": Float16()}), algorithm={"name": "minibatch_sfl"})
    assert {kind for _, _, kind in recorder.coded} == {"gradients"}
    assert {to for _, to, _ in recorder.coded} == {"owner-0", "owner-1", "owner-2"}


def test_traffic_is_half_and_the_headers() -> None:
    """80 rows of 16 in batches of 16: per step a header of 16 bytes, two for the exponent, two for each value."""
    result = train(algorithm={"name": "minibatch_sfl", "cut": 1}, links=HALF, training__rounds=1)
    found = {(t.source, t.destination): t.num_bytes for t in result.links}
    assert found["server", "owner-0"] == 5 * (16 + 2 + 2 * 16 * 16)
    assert found["owner-0", "server"] == 5 * (16 + 2 + 2 * 16 * 16) + 80 * 4  # and labels, as they are


# -- bad input ------------------------------------------------------------------------------------------------------


def test_bad_smashed_data_are_blamed_on_their_owner() -> None:
    """They go as they are, so that the server finds whose they are."""
    with pytest.raises(ArithmeticError, match="the loss of owner-2 is nan in round 1"):
        train(links=HALF, training__optimizer={"lr": 1e200}, algorithm={"name": "splitnn"})


def test_both_ends_must_be_of_one_configuration() -> None:
    sender = CodingLink(LinkRules(codecs={"smashed": Float16()}))
    receiver = CodingLink(LinkRules(codecs={"gradients": Float16()}))
    sent = sender.leaving("owner-0", "server", torch.ones(100), "smashed")
    with pytest.raises(ValueError, match="owner-0 sent smashed with codec 1 and server decodes with none; configure"):
        receiver.arriving("owner-0", "server", sent, sent.num_bytes)


def test_a_codec_that_does_not_keep_to_its_size_is_named() -> None:
    class Short(Float16):
        def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
            return 10

    link = CodingLink(LinkRules(codecs={"smashed": Short()}))
    with pytest.raises(ValueError, match=r"Short.encode made 202 bytes of a tensor of shape \[100\] and size gave 10"):
        link.leaving("owner-0", "server", torch.ones(100), "smashed")


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"smashed": "flaot16"}, "links.smashed: unknown codec 'flaot16'; did you mean 'float16'"),
        ({"smahed": "float16"}, "links.smahed: unknown key; did you mean 'smashed'"),
        ({"labels": "float16"}, "links.labels: labels are exact integers, which no codec may change"),
        ({"weights": "c3"}, "links.weights: C3 is a codec for gradients and smashed, not for weights"),
        ({"smashed": "yaml:SafeLoader"}, "links.smashed: .* must be a subclass of raysplit.cluster.codecs"),
        ({"gradients": 16}, "links.gradients: a codec is a name, .* got 16; quote a string"),
    ],
)
def test_mistakes_in_the_configuration(links: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(settings(links=links))


# -- by default -----------------------------------------------------------------------------------------------------


def test_by_default_nothing_works_on_a_link() -> None:
    assert type(make_link(check_config(settings()).links.link_rules())) is Link
    identity = {"smashed": "identity", "gradients": "identity", "labels": "identity"}
    config = check_config(settings(links=identity))
    assert type(make_link(config.links.link_rules())) is Link
    assert fingerprint(config.model_dump(mode="json")) == fingerprint(check_config(settings()).model_dump(mode="json"))
    assert fingerprint(config.model_dump(mode="json")) != fingerprint(
        check_config(settings(links=HALF)).model_dump(mode="json")
    )


def test_a_value_is_not_copied() -> None:
    """On a plain link what is sent is what arrives: the very tensor."""

    class Holder:
        def __init__(self, *, name: str) -> None:
            self.name = name

        async def hold(self, z: Tensor) -> int:
            return id(z)

    async def calls() -> None:
        node = (await LocalCluster().deploy([PartySpec(name="node", role="node", build=Holder)]))["node"]
        z = torch.ones(100)
        assert await node.hold(z) == id(z)

    asyncio.run(calls())


class Contrast:
    """A node with a verb of its own, which says what it carries."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    @carries(pair="smashed", answer="gradients")
    async def contrast(self, weight: float, *, pair: tuple[Tensor, Tensor]) -> Tensor:
        return weight * (pair[0] - pair[1])

    async def plain(self, z: Tensor) -> Tensor:
        return z


def test_a_verb_of_one_s_own_is_coded_if_it_says_so() -> None:
    recorder, both = Recorder(), {"smashed": Float16(), "gradients": Float16()}

    async def calls() -> None:
        cluster = LocalCluster(links=LinkRules(codecs=both, taps=(recorder,)))  # type: ignore[arg-type]
        node = (await cluster.deploy([PartySpec(name="node", role="node", build=Contrast)]))["node"]
        pair = (torch.full((100,), 3.0), torch.ones(100))
        assert torch.equal(await node.contrast(0.5, pair=pair), torch.ones(100))
        assert torch.equal(await node.plain(node.plain(pair[0])), pair[0])
        assert untold(await cluster.traffic()) == recorder.records()

    asyncio.run(calls())
    assert recorder.coded == {("coordinator", "node", "smashed"): 2, ("node", "coordinator", "gradients"): 1}
    assert recorder.plain == {("coordinator", "node"): 1, ("node", "coordinator"): 1}
