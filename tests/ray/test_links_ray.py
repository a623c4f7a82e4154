"""Links on Ray: the bits of one process with a codec, and every counted byte seen by who watches."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import run_on, same, settings, train

import raysplit
from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.run import check_config

HALF: dict[str, Any] = {"smashed": "float16", "gradients": "float16"}
STOCHASTIC = {"codec": "int8", "rounding": "stochastic"}
CODECS: dict[Any, Any] = {"smashed": Float16(), "gradients": Float16()}


class Written:
    """Writes what arrives in this process to a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrived(self, source: str, destination: str, value: Any, num_bytes: int) -> None:
        with (self.folder / str(os.getpid())).open("a") as file:
            file.write(json.dumps([source, destination, num_bytes]) + "\n")

    def read(self) -> dict[tuple[str, str], int]:
        found: Counter[tuple[str, str]] = Counter()
        for line in "".join(path.read_text() for path in self.folder.iterdir()).splitlines():
            source, destination, num_bytes = json.loads(line)
            found[source, destination] += num_bytes
        return dict(found)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "splitnn", "cut": 1},
        {"name": "splitfed_v1", "cut": 1},
        {"name": "splitfed_v2", "cut": 1},
        {"name": "minibatch_sfl", "cut": 1, "num_servers": 2},
        {"name": "mpsl", "cuts": [1, 2]},
    ],
    ids=lambda a: a["name"],
)
def test_ray_and_local_give_the_same_bits_and_the_same_traffic_with_a_codec(
    algorithm: dict[str, Any], make_cluster: Any
) -> None:
    here = train(algorithm=algorithm, links=HALF)
    there = run_on(make_cluster(2, links=LinkRules(codecs=CODECS)), algorithm=algorithm)
    assert same(there, here)
    assert there.links == here.links
    assert not same(there, train(algorithm=algorithm))


ODD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": "splitfed_v2", "cut": 1}, {"smashed": ["int4", "zstd"], "gradients": STOCHASTIC, "labels": "narrow"}),
    ({"name": "minibatch_sfl", "cut": 1}, {"smashed": "rand_top_k", "weights": "int8"}),
    ({"name": "splitfed_v1", "cut": 1}, {"smashed": ["delta", "int4"]}),
    ({"name": "mpsl", "cuts": [1, 2]}, {"smashed": {"codec": "int2", "bits": "adaptive"}, "gradients": "int8"}),
    ({"name": "fedavg"}, {"rules": [{"from": "owner-*", "kind": "weights", "codec": "top_k"}], "weights": "float16"}),
    ({"name": "splitfed_v1", "cut": 1}, {"weights": "int8", "smashed": "c3", "warmup_rounds": 1}),
]


@pytest.mark.parametrize(("algorithm", "links"), ODD, ids=lambda section: str(section)[:40])
def test_random_and_remembering_codecs_give_the_bits_of_one_process(
    algorithm: dict[str, Any], links: dict[str, Any], make_cluster: Any
) -> None:
    """Draws are keyed, and what codecs keep is with the party it belongs to, wherever that lives."""
    rules = check_config(settings(links=links)).links.link_rules(num_classes=5)
    here = run_on(LocalCluster(links=rules), algorithm=algorithm)
    there = run_on(make_cluster(2, links=rules), algorithm=algorithm)
    assert same(there, here)
    assert there.links == here.links
    assert sum(t.num_bytes for t in here.links) < sum(t.raw_bytes for t in here.links)


def test_the_number_of_places_leaves_no_trace_on_coded_links(make_cluster: Any) -> None:
    one, three = [run_on(make_cluster(n, links=LinkRules(codecs=CODECS))) for n in (1, 3)]
    assert same(one, three)
    assert one.links == three.links


@pytest.mark.parametrize("codecs", [{}, CODECS], ids=["plain", "float16"])
def test_every_counted_byte_passes_the_link(codecs: Any, tmp_path: Path, make_cluster: Any) -> None:
    """Between processes and inside of them, arguments, answers, and answers that are passed on (MP-SL)."""
    written = Written(tmp_path)
    cluster = make_cluster(2, links=LinkRules(codecs=codecs, taps=(written,)))
    counted = run_on(Kept(cluster), algorithm={"name": "mpsl", "cuts": [1, 2, 3]})
    assert counted.rows
    assert {(t.source, t.destination): t.num_bytes for t in cluster.kept} == written.read()


class Kept:
    """A cluster that keeps its last count before it ends."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def close(self) -> None:
        self._cluster.kept = await self._cluster.traffic()
        await self._cluster.close()


def test_a_configured_run_on_ray_codes_its_links(ray_session: Any) -> None:
    there = raysplit.train(settings(links=HALF, cluster={"kind": "ray", "places": 2}))
    assert same(there, train(links=HALF))
