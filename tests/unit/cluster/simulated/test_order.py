"""The simulator against real runs: the very order of their events, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import same, settings, toy_profile, weights

from raysplit.api import simulate
from raysplit.cluster.codecs import codec_named
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual
from raysplit.config.build import build, build_dry
from raysplit.config.run import RunConfig, check_config
from raysplit.experiment.codec_costs import CodecCost, CodecCosts
from raysplit.experiment.topology import Topology
from raysplit.prediction.dry_parties import dry_parties
from raysplit.prediction.machines import emulation, observation
from raysplit.runs.result import Result
from raysplit.training.loop import run

# -- order and times of a small real run ---------------------------------------------------------------------------

ROWS = 16
WIDTHS = (16, 12, 10, 5)  # of the network 10-16-12-10-5


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """The profile of a small network in double precision, with times that are easy to add."""
    weights_in = (10, *WIDTHS)
    return toy_profile(
        tmp_path,
        batch_size=ROWS,
        activations=[8 * ROWS * width for width in WIDTHS],
        parameters=[8 * (before + 1) * width for before, width in zip(weights_in, WIDTHS, strict=False)],
        shapes=[f"{width} float64" for width in WIDTHS],
        weights=[
            (f"weight {width}x{before} float64", f"bias {width} float64")
            for before, width in zip(weights_in, WIDTHS, strict=False)
        ],
    )


@pytest.fixture
def costs(tmp_path: Path) -> str:
    """Seconds of codecs that are of the size of the transfers."""
    links = {"smashed": "int8", "gradients": {"codec": "int4", "by": "tile"}, "weights": "float16"}
    rows = [
        CodecCost(
            kind=kind,  # type: ignore[arg-type]
            cut=0,
            codec=text,
            name=repr(codec_named(text)),
            raw_bytes=100,
            coded_bytes=25,
            share=1.0,
            error=0.0,
            cosine=1.0,
            encode_ms_per_mib=1e5 * number,
            decode_ms_per_mib=7e4,
        )
        for number, (kind, text) in enumerate(links.items(), start=1)
    ]
    path = tmp_path / "codecs.json"
    CodecCosts(device="toy", model="toy", cuts=(1,), batch_size=16, costs=tuple(rows)).write(path)
    return str(path)


def small(toy: str, algorithm: dict[str, Any], *, nodes: int = 2, speed: float = 1.0, **changes: Any) -> RunConfig:
    slowdown = speed or 1e-12
    link = {} if not speed else {"up_mbit_per_s": 0.016, "down_mbit_per_s": 0.032}
    topology = {
        "devices": {
            "owner": {"profile": toy, "slowdown": slowdown, **link},
            **{
                f"n{i}": {"profile": toy, "slowdown": slowdown * (1 + 0.3 * i), **({"latency_ms": 7} if speed else {})}
                for i in range(nodes)
            },
        },
        "owners": "owner",
        "nodes": [f"n{i}" for i in range(nodes)],
        "aggregator": "n0",
    }
    return check_config(
        settings(
            model={"name": "mlp", "hidden": [16, 12, 10], "dtype": "float64"},
            algorithm=algorithm,
            topology=topology,
            **{"training__rounds": 1, "data__num_samples": 192, **changes},
        )
    )


def really(config: RunConfig) -> tuple[EventLog, Result]:
    """Train with tensors on the same machines, in virtual time."""
    assert config.topology is not None
    topology = config.topology
    cluster = LocalCluster(
        lambda parties: emulation(
            parties,
            topology=topology,
            clock=VirtualClock(),
            batch_size=config.training.batch_size,
            rules=config.links.link_rules(),
        ),
        links=config.links.link_rules(),
    )
    result = run_virtual(run(build(config), cluster))
    return cluster.log, result


ALGORITHMS: list[dict[str, Any]] = [
    {"name": "mpsl", "cuts": [1, 2, 3]},
    {"name": "mpsl", "cuts": [1, 2, 3], "queue": "backward_first"},
    {"name": "mpsl", "cuts": [1, 2, 3], "queue": "fair"},
    {"name": "mpsl", "cuts": [1, 2, 3], "owner_routes": {"owner-1": {"cuts": [2, 4], "nodes": ["node-2"]}}},
    {"name": "fedavg"},
    {"name": "local"},
    {"name": "centralised"},
    {"name": "splitnn", "cut": 2},
    {"name": "splitfed_v1", "cut": 2},
    {"name": "splitfed_v2", "cut": 2},
]


@pytest.mark.parametrize("links", [{}, {"smashed": "float16", "gradients": "float16"}], ids=["plain", "float16"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: "-".join(map(str, a.values()))[:40])
def test_a_simulation_is_the_real_run_event_by_event(
    toy: str, algorithm: dict[str, Any], links: dict[str, str]
) -> None:
    """Same parties, same devices and links: every start, end, owner, step and byte agrees, coded or not."""
    config = small(toy, algorithm, links=links)
    log, _ = really(config)
    events, simulated = list(log), list(simulate(config).log)
    evaluated = [event for event in events if event.party.startswith("evaluator")]
    assert not evaluated
    assert len(simulated) > 15
    assert simulated == events[: len(simulated)]
    assert {event.party for event in events[len(simulated) :]} <= {"coordinator"}


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: "-".join(map(str, a.values()))[:40])
def test_codecs_take_their_time_in_both(toy: str, costs: str, algorithm: dict[str, Any]) -> None:
    """Encoding is work of the sender and decoding of the receiver, in the queues of their devices."""
    links = {"smashed": "int8", "gradients": {"codec": "int4", "by": "tile"}, "weights": "float16"}
    config = small(toy, algorithm, links=links)
    assert config.topology is not None
    config = config.model_copy(update={"topology": config.topology.model_copy(update={"codecs": costs})})
    log, _ = really(config)
    events, simulated = list(log), list(simulate(config).log)
    assert simulated == events[: len(simulated)]
    coding = {event.kind for event in simulated} & {"encode", "decode"}
    alone = {"local", "centralised"}
    assert coding == (set() if algorithm["name"] in alone else {"encode", "decode"})


def test_a_codec_without_measured_time_is_named(toy: str, costs: str) -> None:
    config = small(toy, {"name": "splitfed_v1", "cut": 2}, links={"smashed": "int4"})
    assert config.topology is not None
    config = config.model_copy(update={"topology": config.topology.model_copy(update={"codecs": costs})})
    with pytest.raises(ValueError, match=r"Int4.* for smashed is not among the measured codecs \(int8\)"):
        simulate(config)


def test_the_order_is_the_same_where_nothing_takes_time(toy: str) -> None:
    """Tensors and sketches on machines as they are, not as described: only the order is left."""
    config = small(toy, {"name": "mpsl", "cuts": [1, 2, 3]})
    plain = LocalCluster(lambda parties: observation(parties, clock=VirtualClock()))
    run_virtual(run(build(config), plain))
    sketch = LocalCluster(lambda parties: observation(parties, clock=VirtualClock()), checks=False)
    algorithm = build_dry(config).begin()

    async def one_round() -> None:
        algorithm.attach(await sketch.deploy(dry_parties(algorithm.parties())))
        await algorithm.round(algorithm.context(0, list(algorithm.setting.owners)))

    run_virtual(one_round())
    orders = [[(e.party, e.kind, e.owner, e.step) for e in c.log if e.kind != "transfer"] for c in (plain, sketch)]
    assert orders[0] == orders[1]
    assert len(orders[0]) == 3 * 4 * (2 * 3 + 5)  # owners, batches; nodes' work, and the owner's own


@pytest.mark.parametrize("queue", ["fifo", "backward_first", "fair"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_delays_and_queues_never_change_the_weights(toy: str, queue: str, seed: int) -> None:
    """Machines and links of random speed give the weights of FedAvg, bit for bit."""
    import numpy as np

    rng = np.random.default_rng(seed)
    config = small(toy, {"name": "mpsl", "cuts": [1, 2, 3], "queue": queue}, training__local_epochs=2)
    assert config.topology is not None
    tree = config.topology.model_dump(mode="json", exclude_none=True)
    tree["devices"] |= {
        f"o{i}": {
            "profile": toy,
            "slowdown": float(rng.exponential()) + 0.01,
            "bandwidth_mbit_per_s": float(rng.exponential()) / 20 + 1e-3,
            "latency_ms": float(rng.exponential() * 1000),
            "serial_link": bool(rng.integers(2)),
        }
        for i in range(3)
    }
    tree["owners"] = {f"o{i}": 1 for i in range(3)}
    config = config.model_copy(update={"topology": Topology.model_validate(tree)})
    _, slow = really(config)
    plain = check_config({**config.model_dump(mode="json"), "algorithm": {"name": "fedavg"}, "topology": None})
    fedavg = asyncio.run(run(build(plain), LocalCluster()))
    assert same(slow, fedavg)
    assert set(weights(slow)) == set(weights(fedavg))


def test_a_step_takes_its_overhead_beside_its_computing(toy: str) -> None:
    """192 samples are 4 batches, each of them a pass and an update: half a second more for either."""
    tree = small(toy, {"name": "centralised"}, training__batch_size=48).model_dump(mode="json", exclude_none=True)
    device = tree["topology"]["devices"]["owner"]
    computing_s = simulate(check_config(tree)).round_s[0]
    device |= {"step_overhead_ms": 500, "slowdown": 1.0}
    with_overhead_s = simulate(check_config(tree)).round_s[0]
    assert with_overhead_s - computing_s == pytest.approx(4 * 2 * 0.5)


def test_a_joint_step_takes_its_batches_one_after_the_other(toy: str) -> None:
    """MiniBatch-SFL with three owners: the server is at work for 3 x (2 + 3) s and one update per step."""
    config = small(toy, {"name": "minibatch_sfl", "cut": 2})
    events = [e for e in simulate(config).log if e.party == "server"]
    assert sum(e.end_s - e.start_s for e in events if e.step == 0) == pytest.approx(3 * (2 + 3) + 1.125)


def test_what_cannot_be_simulated_says_what_can(toy: str) -> None:
    with pytest.raises(ValueError, match=r"name is mtsl, .* simulated: centralised, local, fedavg, .* mpsl"):
        simulate(small(toy, {"name": "mtsl", "cut": 2}))


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": ["n0"]}, "topology.nodes has 1 devices and the run has 2 compute nodes, with node-2"),
        ({"nodes": ["n0", "ownr"]}, "no device 'ownr' in topology.devices; did you mean 'owner'"),
        ({"owners": {"owner": 2}}, "puts 2 owners on devices and partition.num_owners is 3"),
        ({"devices": {"owner": {}, "n0": {}, "n1": {}}}, "no device of the topology has a profile"),
        ({"devices": {"owner": {"times": "d9"}, "n0": {}, "n1": {}}}, "no shipped times 'd9'; use one of d1, d2"),
        ({"devices": {"owner": {"bandwidth_mbit_per_s": 0}, "n0": {}, "n1": {}}}, "greater than 0"),
        ({"devices": {"owner": {"host": "x"}, "n0": {}, "n1": {}}}, "is on host 'x', which is not in topology.hosts"),
    ],
)
def test_bad_topologies(toy: str, change: dict[str, Any], message: str) -> None:
    tree = small(toy, {"name": "mpsl", "cuts": [1, 2, 3]}).model_dump(mode="json", exclude_none=True)
    tree["topology"] |= change
    with pytest.raises(ValueError, match=message):
        simulate(check_config(tree))


def test_a_device_without_times(toy: str) -> None:
    tree = small(toy, {"name": "mpsl", "cuts": [1, 2, 3]}).model_dump(mode="json", exclude_none=True)
    tree["topology"]["devices"]["n1"] = {}
    with pytest.raises(ValueError, match="device 'n1' has no times: give it a profile"):
        simulate(check_config(tree))


def test_cuts_that_the_profile_does_not_have(toy: str) -> None:
    with pytest.raises(ValueError, match="cut 7 is not a number of units from 0 to 4"):
        simulate(small(toy, {"name": "mpsl", "cuts": [1, 2, 7]}))
    with pytest.raises(ValueError, match="cut 'hidden2' is not a number of units"):
        simulate(small(toy, {"name": "mpsl", "cuts": [1, "hidden2", 3]}))


def test_owners_times_are_for_both_ends(toy: str) -> None:
    tree = small(toy, {"name": "fedavg"}, nodes=1).model_dump(mode="json", exclude_none=True)
    tree["topology"]["devices"]["owner"] = {"times": "d1"}
    with pytest.raises(ValueError, match="times only for the two ends of a model"):
        simulate(check_config(tree))
