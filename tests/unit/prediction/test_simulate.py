"""The simulator: the published figures, and the bounds that always hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysplit.api import simulate
from raysplit.config.build import build_dry
from raysplit.config.planned_cuts import with_planned_cuts
from raysplit.config.run import ConfigError, RunConfig, check_config
from raysplit.experiment.topology import Topology
from raysplit.prediction.closed_form import closed_form
from raysplit.prediction.plan_cuts import cut_problem
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile
from raysplit.schedulers.cuts.solve import solve_dp

# -- the testbed of MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208) ---------------------------------


def raspberries(cuts: list[int], owners: int | dict[str, int], queue: str = "fifo", **topology: Any) -> RunConfig:
    """ResNet-101 on its published profiles; owners on Raspberry Pis with 8 Mbit/s, 32 batches of 128 each."""
    pi = {"bandwidth_mbit_per_s": 8}
    return check_config(
        {
            "model": {"name": "resnet101_mpsl"},
            "partition": {"name": "iid", "num_owners": owners if isinstance(owners, int) else sum(owners.values())},
            "algorithm": {"name": "mpsl", "cuts": cuts, "queue": queue},
            "training": {"batch_size": 128, "local_epochs": 2},
            "topology": {
                "devices": {
                    "pi": {"profile": "resnet101_mpsl_d1", **pi},
                    "d1": {"times": "d1_slow", **pi},
                    "d2": {"times": "d2_slow", **pi},
                    "vm": {"profile": "resnet101_mpsl_vm", "bandwidth_mbit_per_s": 7130},
                },
                "owners": "pi" if isinstance(owners, int) else owners,
                "nodes": ["vm"] * (len(cuts) - 1),
                "samples_per_owner": 16 * 128,
                **topology,
            },
        }
    )


def minutes(config: RunConfig) -> float:
    return simulate(config).round_s[0] / 60


@pytest.mark.parametrize(
    ("cuts", "owners", "expected_min"),
    [
        ([2, 26, 35], 10, 5.90),
        ([2, 26, 35], 30, 17.53),
        ([2, 26, 35], 50, 29.17),
        ([2, 16, 26, 35], 10, 4.86),
        ([2, 16, 26, 35], 50, 23.91),
    ],
)
def test_epochs_of_the_raspberries(cuts: list[int], owners: int, expected_min: float) -> None:
    """Found once before by another event simulation on the same profiles."""
    assert minutes(raspberries(cuts, owners)) == pytest.approx(expected_min, abs=0.012)


def test_few_owners_leave_the_pipeline_empty() -> None:
    """With 5 owners the owner's own loop dominates: 3.9 minutes, where equation (4) says 3.0."""
    config = raspberries([2, 26, 35], 5)
    formulas = closed_form(build_dry(config))
    assert formulas is not None
    assert minutes(config) == pytest.approx(3.89, rel=0.015)
    assert formulas.training_s / 60 == pytest.approx(3.00, abs=0.01)
    assert formulas.saturation_owners == pytest.approx(6.5, abs=0.02)


@pytest.mark.parametrize(
    ("cuts", "low_min", "high_min"), [([2, 26, 35], 17.57, 17.81), ([2, 16, 26, 35], 14.43, 14.90)]
)
@pytest.mark.parametrize("slow", [0, 10, 30])
def test_slower_owners_hardly_matter(cuts: list[int], low_min: float, high_min: float, slow: int) -> None:
    """Owners that take 3.15 s and 7.25 s per batch, 30 in all: the nodes are the bottleneck whatever the mix."""
    mix = {name: count for name, count in (("d1", 30 - slow), ("d2", slow)) if count}
    assert low_min * 0.997 < minutes(raspberries(cuts, mix)) < high_min * 1.003


@pytest.mark.parametrize("cuts", [[2, 26, 35], [2, 16, 26, 35]])
def test_a_fair_queue_leaves_no_slow_owners_behind(cuts: list[int]) -> None:
    """Whatever the mix, a round of 30 owners then takes the time of its busiest node and one percent of way in and out.

    First come, first served lets the slow ones fall behind, and the last of them do not fill the pipeline.
    """
    mixes = [{name: count for name, count in (("d1", 30 - slow), ("d2", slow)) if count} for slow in (0, 10, 20, 30)]
    fair = [minutes(raspberries(cuts, mix, queue="fair")) for mix in mixes]
    assert max(fair) < 1.006 * min(fair)
    assert minutes(raspberries(cuts, mixes[1])) > 1.01 * fair[1]


def test_one_owner_takes_its_loop_for_every_batch() -> None:
    """Owner 0.4054 s, nodes 1.9487 s, four transfers of 4.7250 s in all, two hops of 0.5901 ms."""
    loop_s = 0.40542 + 1.94868 + 2 * (2098.757568e3 + 263.749632e3) / 1e6 + 2 * 525.893632e3 * 8 / 7.13e9
    assert simulate(raspberries([2, 26, 35], 1)).round_s[0] == pytest.approx(32 * loop_s, rel=1e-4)


@pytest.mark.parametrize("owners", [1, 3, 8, 20])
@pytest.mark.parametrize("cuts", [[2, 35], [2, 26, 35], [2, 10, 18, 26, 35]])
def test_no_round_is_shorter_than_the_bound_and_full_pipelines_follow_equation_4(cuts: list[int], owners: int) -> None:
    config = raspberries(cuts, owners)
    formulas, round_s = closed_form(build_dry(config)), simulate(config).round_s[0]
    assert formulas is not None
    assert round_s >= formulas.lower_bound_s * (1 - 1e-9)
    same_bottleneck = cuts in ([2, 35], [2, 26, 35])
    if same_bottleneck and owners >= 2 * formulas.saturation_owners:
        assert round_s == pytest.approx(formulas.training_s, rel=0.02)


def test_the_aggregator_adds_its_transfers() -> None:
    """Equation (5): 10 downloads one after the other and the last upload, 70,764 bytes each at 8 Mbit/s."""
    owners = 10
    without = simulate(raspberries([2, 26, 35], owners)).round_s[0]
    devices = {"a": {"bandwidth_mbit_per_s": 8, "serial_link": True}}
    base = raspberries([2, 26, 35], owners).topology
    assert base is not None
    tree = base.model_dump(mode="json")
    tree |= {"devices": {**tree["devices"], **devices}, "aggregator": "a"}
    with_it = simulate(raspberries([2, 26, 35], owners).model_copy(update={"topology": Topology.model_validate(tree)}))
    assert 0 < with_it.round_s[0] - without < 2 * owners * 0.0708


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"training.local_epochs": 10**6}, "10,000,000"),  # of two owners, which only the reference runs
        ({"topology.samples_per_owner": 10**12}, "200,000,000"),
    ],
)
def test_a_simulation_without_an_end_is_refused(changes: dict[str, int], most: str) -> None:
    """``local_epochs: 1000000000`` was not done in 45 seconds, and would not have been in a year."""
    tree = raspberries([1, 2], 2).model_dump(mode="json")
    for key, value in changes.items():
        section, _, leaf = key.partition(".")
        tree[section][leaf] = value
    with pytest.raises(ConfigError, match=rf"steps, and a simulation goes through at most {most}; simulate fewer"):
        simulate(tree)
    with pytest.raises(ConfigError, match="1,000,000,000 rounds of 2 owners have"):
        simulate(raspberries([1, 2], 2), rounds=10**9)


def test_planned_cuts() -> None:
    """Known optimum for units 2 to 35 on three equal machines."""
    config = raspberries([2, 3, 4, 36], 4)
    algorithm = {"name": "mpsl", "cuts": "auto", "units": [2, 35]}
    config = check_config({**config.model_dump(mode="json"), "algorithm": algorithm})
    planned = with_planned_cuts(config)
    assert planned.algorithm.options["cuts"] == [2, 18, 31, 36]
    assert simulate(planned).round_s[0] > 0


def test_planned_links() -> None:
    """At 1 Mbit/s the pipeline is as slow as the first cut's 2,098,758 bytes, forward and back: 16.79 s each."""
    config = raspberries([2, 3, 4, 36], 4)
    tree = config.model_dump(mode="json", exclude_none=True)
    tree["algorithm"] = {"name": "mpsl", "cuts": "auto", "units": [2, 35], "plan_links": "stages"}
    wide = with_planned_cuts(check_config(tree))
    assert wide.algorithm.options["cuts"] == [2, 18, 31, 36]  # the optimum without links
    tree["topology"]["devices"]["vm"] |= {"up_mbit_per_s": 1, "down_mbit_per_s": 2}
    problem = cut_problem(build_dry(check_config(tree)))
    assert [node.link_bytes_per_s for node in problem.nodes] == [125_000.0] * 3
    assert solve_dp(problem).objective_ms == pytest.approx(2 * 2_098_757.6 / 125, rel=1e-6)
    tree["algorithm"]["plan_links"] = "left_out"
    assert solve_dp(cut_problem(build_dry(check_config(tree)))).objective_ms == pytest.approx(711.46, rel=1e-3)


def test_planning_needs_to_know_what_owners_keep() -> None:
    config = raspberries([2, 3, 4, 36], 4)
    config = check_config({**config.model_dump(mode="json"), "algorithm": {"name": "mpsl", "cuts": "auto"}})
    with pytest.raises(
        ValueError, match=r"set algorithm\.units to the nodes.* first and last unit, or set memory_gib of"
    ):
        with_planned_cuts(config)


def test_a_simulation_refuses_cuts_at_which_samples_leave(tmp_path: Path) -> None:
    """The first unit flattens: behind it the nodes would get the samples as they are."""
    sizes = {"forward_ms": 1.0, "backward_ms": 1.0, "update_ms": 0.0, "activation_bytes": 8}
    units = tuple(UnitProfile(name=f"unit{i}", parameter_bytes=4 * min(i, 1), **sizes) for i in range(4))  # type: ignore[arg-type]
    Profile(model="flat", device="here", batch_size=1, units=units).to_csv(tmp_path / "flat.csv")
    tree = {
        "algorithm": {"name": "splitfed_v2", "cut": 1},
        "topology": {
            "devices": {"pi": {"profile": str(tmp_path / "flat.csv")}},
            "owners": "pi",
            "nodes": ["pi"],
            "samples_per_owner": 32,
        },
    }
    with pytest.raises(ValueError, match=r"cut 1 would send raw inputs to server: .* cut after unit 2 or later"):
        simulate(check_config(tree))
    assert simulate(check_config({**tree, "algorithm": {"name": "splitfed_v2"}})).round_s
    assert simulate(check_config({**tree, "model": {"send_inputs": ["x"]}})).round_s
