"""The compiled engine beside the reference: the same events in the same order, or a reason why it did not run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from support import settings, toy_profile

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.fedavg.fedavg import FedAvg
from raysplit.config.build import build_dry
from raysplit.config.run import ConfigError, RunConfig, check_config, load_config
from raysplit.prediction import simulate as simulating
from raysplit.prediction.simulate import Simulation, simulate

pytest.importorskip("numba")

ROWS = 16
WIDTHS = (16, 12, 10, 5)  # of the network 10-16-12-10-5

ALIKE: list[dict[str, Any]] = [
    {"name": "mpsl", "cuts": [1, 2, 3]},
    {"name": "mpsl", "cuts": [1, 2, 3], "queue": "backward_first"},
    {"name": "mpsl", "cuts": [1, 2, 3], "queue": "fair"},
    {"name": "mpsl", "cuts": [1, 2, 3], "owner_routes": {"owner-0": {"cuts": [2, 4], "nodes": ["node-2"]}}},
    {"name": "fedavg"},
    {"name": "fedprox"},
    {"name": "fednova"},
    {"name": "local"},
    {"name": "centralised"},
    {"name": "splitfed_v1", "cut": 2},
    {"name": "minibatch_sfl", "cut": 2},
    {"name": "minibatch_sfl", "cut": 1, "sync_every": 2},
]
IN_TURN: list[dict[str, Any]] = [
    {"name": "splitnn", "cut": 2},
    {"name": "splitfed_v2", "cut": 2},
    {"name": "splitfed_v2", "cut": 2, "order": "interleaved"},
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The profile of a small network, with times that are easy to add and often equal."""
    weights_in = (10, *WIDTHS)
    sizes = [8 * (before + 1) * width for before, width in zip(weights_in, WIDTHS, strict=False)]
    folder = tmp_path_factory.mktemp("toy")
    return toy_profile(folder, batch_size=ROWS, activations=[8 * ROWS * w for w in WIDTHS], parameters=sizes)


def described(
    toy: str, algorithm: dict[str, Any], owners: dict[str, Any], nodes: list[dict[str, Any]], **topology: Any
) -> RunConfig:
    """Owners by kind of device as (number, device), and the devices of three nodes."""
    kinds = {name: device for name, (_, device) in owners.items()}
    machines = {**kinds, **{f"n{i}": device for i, device in enumerate(nodes)}}
    return check_config(
        settings(
            model={"name": "mlp", "hidden": [16, 12, 10], "dtype": "float64"},
            partition={"name": "iid", "num_owners": sum(number for number, _ in owners.values())},
            algorithm=algorithm,
            topology={
                "devices": {name: {"profile": toy, **device} for name, device in machines.items()},
                "owners": {name: number for name, (number, _) in owners.items()},
                "nodes": [f"n{i}" for i in range(len(nodes))],
                **topology,
            },
            training__local_epochs=2,
        )
    )


def plain(toy: str, algorithm: dict[str, Any], owners: int = 5, **topology: Any) -> RunConfig:
    """Owners of one kind behind slow links, and three nodes."""
    given = {"aggregator": "n0", "samples_per_owner": 40, **topology}
    owner = {"up_mbit_per_s": 0.016, "down_mbit_per_s": 0.032}
    return described(toy, algorithm, {"o": (owners, owner)}, [{}, {"slowdown": 1.3, "latency_ms": 7}, {}], **given)


def both(config: RunConfig, rounds: int = 1) -> tuple[Simulation, Simulation]:
    """Simulate with both engines, and compare all that they say."""
    reference = simulate(build_dry(config), rounds=rounds, engine="reference")
    compiled = simulate(build_dry(config), rounds=rounds, engine="compiled")
    assert (reference.engine, compiled.engine) == ("reference", "compiled")
    assert list(compiled.log) == list(reference.log)
    assert len(compiled.log) == compiled.num_events == reference.num_events > 0
    assert compiled.round_s == reference.round_s
    assert compiled.traffic == reference.traffic
    assert compiled.uses() == reference.uses()
    return reference, compiled


# -- equal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [*ALIKE, *IN_TURN], ids=lambda a: "-".join(map(str, a.values()))[:40])
def test_engines_agree_on_every_algorithm(toy: str, algorithm: dict[str, Any]) -> None:
    both(plain(toy, algorithm), rounds=2)


def test_every_algorithm_that_can_be_simulated_is_compared() -> None:
    able = {name for name, method in ALGORITHMS.items() if method.can_be_simulated}
    assert able == {algorithm["name"] for algorithm in (*ALIKE, *IN_TURN)}


def test_engines_agree_on_the_example() -> None:
    example = Path(__file__).parents[4] / "examples" / "mpsl_simulate.yaml"
    both(load_config(example, ["partition.num_owners=9", "topology.samples_per_owner=512"]))


@st.composite
def devices(draw: st.DrawFn) -> dict[str, Any]:
    """A device whose times and links coincide with those of others, or do not."""
    device: dict[str, Any] = {
        "slowdown": draw(st.sampled_from([1.0, 0.5, 1.3, 1e-12]) | st.floats(0.1, 2)),
        "serial_link": draw(st.booleans()),
        "latency_ms": draw(st.sampled_from([0.0, 500.0]) | st.floats(0, 1000)),
    }
    for direction in ("up_mbit_per_s", "down_mbit_per_s"):
        if draw(st.booleans()):
            device[direction] = draw(st.sampled_from([0.016, 0.032]) | st.floats(1e-3, 0.05))
    if draw(st.integers(0, 4)) == 0:
        device["step_overhead_ms"] = 250.0
    return device


@st.composite
def topologies(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    owners = {f"o{i}": (draw(st.integers(1, 4)), draw(devices())) for i in range(draw(st.integers(1, 3)))}
    topology: dict[str, Any] = {"samples_per_owner": draw(st.sampled_from([16, 40, 48]))}
    aggregator = draw(st.sampled_from([None, "n0", "o0"]))
    if aggregator is not None:
        topology["aggregator"] = aggregator
    return draw(st.sampled_from([*ALIKE, *ALIKE, *IN_TURN])), owners, [draw(devices()) for _ in range(3)], topology


@hypothesis.given(given=topologies(), rounds=st.integers(1, 2))
@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_engines_agree_on_random_topologies(toy: str, given: Any, rounds: int) -> None:
    """Order, start, end, owner and bytes of every event, whatever the machines, the links and the queues."""
    algorithm, owners, nodes, topology = given
    both(described(toy, algorithm, owners, nodes, **topology), rounds)


@pytest.mark.parametrize("queue", ["fifo", "backward_first", "fair"])
def test_engines_agree_where_codecs_take_their_bytes_and_parties_share_places(toy: str, queue: str) -> None:
    config = plain(toy, {"name": "mpsl", "cuts": [1, 2, 3], "queue": queue}, owners=6)
    links = {"smashed": "float16", "gradients": {"codec": "int4", "by": "tile"}}
    config = check_config({**config.model_dump(mode="json"), "links": links})
    places = {f"owner-{i}": f"place-{i % 2}" for i in range(6)} | {f"node-{i}": "place-0" for i in (1, 2)}
    found = [simulate(build_dry(config), places=places, engine=engine) for engine in simulating.ENGINES[1:]]
    assert list(found[0].log) == list(found[1].log)
    assert found[0].traffic == found[1].traffic


def test_engines_agree_on_cohorts_and_unequal_owners(toy: str) -> None:
    """Five kinds by number of samples, of whom three owners take part in each round."""
    config = plain(toy, {"name": "fedavg"}, owners=8)
    tree = config.model_dump(mode="json")
    tree["training"]["cohort_size"] = 3
    experiments = [build_dry(check_config(tree), [16, 40, 40, 16, 48, 33, 64, 16]) for _ in range(2)]
    reference, compiled = [
        simulate(e, rounds=4, engine=engine) for e, engine in zip(experiments, simulating.ENGINES[1:], strict=True)
    ]
    assert list(compiled.log) == list(reference.log)
    assert compiled.traffic == reference.traffic
    assert len({event.owner for event in compiled.log if event.owner}) > 3


# -- what does not run, and says so --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tree: tree["algorithm"].update(num_servers=2), "joint work starts a task"),
        (
            lambda tree: tree["topology"]["devices"]["o"].update(host="h") or tree["topology"].update(hosts={"h": 1}),
            "devices share the cores of a host",
        ),
    ],
    ids=["servers", "hosts"],
)
def test_what_cannot_be_recorded_runs_on_the_reference_and_says_so(
    toy: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], reason: str
) -> None:
    tree = plain(toy, {"name": "splitfed_v1", "cut": 2}, owners=9).model_dump(mode="json", exclude_none=True)
    change(tree)
    config = check_config(tree)
    with pytest.raises(ConfigError, match=rf"compiled engine cannot run .*{reason}.* use the engine auto or reference"):
        simulate(build_dry(config), engine="compiled")
    monkeypatch.setattr(simulating, "_FEW_CALLS", 0)
    found = simulate(build_dry(config))
    assert found.engine == "reference"
    assert reason in str(found.reason)
    assert list(found.log) == list(simulate(build_dry(config), engine="reference").log)


def test_long_simulations_are_compiled_and_short_ones_do_not_wait_for_it(
    toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = plain(toy, {"name": "fedavg"})
    assert simulate(build_dry(config)).engine == "reference"
    monkeypatch.setattr(simulating, "_FEW_CALLS", 0)
    assert simulate(build_dry(config)).engine == "compiled"


def test_few_owners_with_many_steps_are_not_recorded(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners with 100,000,000 mini-batches filled the memory with a recording that nobody else could use."""
    monkeypatch.setattr(simulating, "_FEW_CALLS", 0)
    config = plain(toy, {"name": "fedavg"}, owners=3)
    assert simulate(build_dry(config)).engine == "reference"
    many = simulate(build_dry(config), engine="compiled")
    assert many.engine == "compiled"
    monkeypatch.setattr(simulating, "MOST_RECORDED", 11)
    with pytest.raises(ConfigError, match=r": 12 mini-batches would have to be recorded, .* at most 11 can"):
        simulate(build_dry(config), engine="compiled")
    found = simulate(build_dry(plain(toy, {"name": "fedavg"}, owners=4)))
    assert (found.engine, "12 mini-batches would have to be recorded" in str(found.reason)) == ("reference", True)


def test_without_numba_the_reference_runs_and_names_the_extra(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulating, "_FEW_CALLS", 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = simulate(build_dry(plain(toy, {"name": "fedavg"})))
    assert found.engine == "reference"
    assert "pip install 'raysplit[compiled]'" in str(found.reason)


def test_an_unknown_engine_is_refused(toy: str) -> None:
    with pytest.raises(ValueError, match=r"engine .*'compild'.* did you mean 'compiled'"):
        simulate(build_dry(plain(toy, {"name": "fedavg"})), engine="compild")  # type: ignore[arg-type]


class Own(FedAvg):
    """It may tell owners apart by their names, for all that is known."""


def test_owners_of_an_algorithm_of_ones_own_are_recorded_one_by_one(toy: str) -> None:
    config = plain(toy, {"name": "fedavg"}, owners=3)
    tree = {**config.model_dump(mode="json"), "algorithm": {"name": f"{__name__}:Own"}}
    reference, _ = both(check_config(tree))
    assert list(reference.log) == list(simulate(build_dry(config), engine="reference").log)


# -- long simulations ----------------------------------------------------------------------------------------------


def test_events_that_are_too_many_are_summed_and_not_kept(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = plain(toy, {"name": "mpsl", "cuts": [1, 2, 3]}, owners=7)
    whole = simulate(build_dry(config), engine="compiled")
    monkeypatch.setattr(simulating, "MOST_EVENTS", whole.num_events - 1)
    found = simulate(build_dry(config), engine="compiled")
    assert (found.round_s, found.num_events, len(found.log)) == (whole.round_s, whole.num_events, 0)
    for use, expected in zip(found.uses(), whole.uses(), strict=True):
        assert (use.device, use.num_tasks) == (expected.device, expected.num_tasks)
        assert use.busy_s == pytest.approx(expected.busy_s, rel=1e-12)
        assert use.idle_s == pytest.approx(expected.idle_s, rel=1e-12)
        assert use.longest_idle_s == pytest.approx(expected.longest_idle_s, abs=1e-9)
    assert found.bottleneck() is not None
    assert sum(link.num_bytes for link in found.traffic) == sum(link.num_bytes for link in whole.traffic)
    assert any("owner-0 and 6 like it" in link.source for link in found.traffic)
    with pytest.raises(ConfigError, match=r"has .* events, and only up to .* simulate fewer owners"):
        _ = found.timeline


@pytest.mark.parametrize("engine", simulating.ENGINES[1:])
def test_progress_is_told_and_may_interrupt(toy: str, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysplit.cluster.simulated.loop._CALLBACKS_BETWEEN", 100)
    monkeypatch.setattr("raysplit.prediction.compiled.replay._STEPS_BETWEEN", 100)
    told: list[tuple[int, int | None]] = []
    experiment = build_dry(plain(toy, {"name": "mpsl", "cuts": [1, 2, 3]}))
    found = simulate(experiment, engine=engine, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 3
    assert {total for _, total in told} == {found.num_events if engine == "compiled" else None}

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(build_dry(plain(toy, {"name": "mpsl", "cuts": [1, 2, 3]})), engine=engine, progress=stop)
