"""The memory estimate against sizes worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from disturbed import EVERYTHING, changes
from support import settings

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.algorithms import resolve_algorithm
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.training import preflight
from raysplit.training.preflight import (
    PROCESS_BYTES,
    Needs,
    TooLittleMemory,
    _state_copies,
    estimate,
    expected_needs,
    refuse_too_little,
)

WEIGHTS = 8 * (10 * 16 + 16), 8 * (16 * 12 + 12 + 12 * 5 + 5)  # of the base network 10-16-12-5, cut after 16


def needs(name: str, **more: Any) -> Needs:
    config = check_config(settings(algorithm={"name": name, "cut": 1}, **more))
    algorithm = build(config).begin()
    return estimate(algorithm.parties(), batch_size=16, num_owners=3, num_places=2)


def outputs(*widths: int) -> int:
    """Flatten puts out the input, Linear and ReLU the width each, the last layer has no ReLU; 16 samples of 8 bytes."""
    return 16 * 8 * sum(widths)


def test_one_shared_part() -> None:
    """Weights and gradients (plain SGD keeps nothing) of three fronts and one top, and three updates of fronts."""
    found = needs("minibatch_sfl")
    front = 2 * WEIGHTS[0] + outputs(10, 16, 16)
    top = 2 * WEIGHTS[1] + outputs(12, 12, 5)
    assert found.models_bytes == 3 * front + top + 3 * WEIGHTS[0]
    assert found.processes_bytes == 2 * PROCESS_BYTES
    assert found.in_flight_bytes == 2 * 3 * 16 * 16 * 8
    assert found.samples_bytes >= 3 * 80 * 10 * 4


def test_a_replica_per_owner_with_momentum() -> None:
    found = needs("splitfed_v1", training__optimizer={"lr": 0.1, "momentum": 0.9})
    front = 3 * WEIGHTS[0] + outputs(10, 16, 16)
    top = 3 * WEIGHTS[1] + outputs(12, 12, 5)
    assert found.models_bytes == 3 * front + 3 * top + 3 * WEIGHTS[0]


def test_replicas_are_those_of_a_cohort_unless_they_keep_something() -> None:
    """A server keeps no replica of an owner that is not in the round, as long as the average says all of it."""
    drawn = {"rounds": 1, "batch_size": 16, "cohort_size": 5, "optimizer": {"lr": 0.1, "momentum": 0.9}}
    replica = 3 * WEIGHTS[1] + outputs(12, 12, 5)

    def models(state: str, name: str = "splitfed_v1", **more: Any) -> int:
        training = {**drawn, "owner_optimizer_state": state}
        partition = {"name": "iid", "num_owners": 20}
        config = check_config(
            settings(algorithm={"name": name, "cut": 1}, training=training, partition=partition, **more)
        )
        experiment = build(config)
        algorithm = experiment.begin()
        return expected_needs(experiment, algorithm, algorithm.parties(), {"CPU": 2}).models_bytes

    fronts = models("restart") - 5 * replica
    assert models("keep") == fronts + 20 * replica
    judged = models("restart", reliability={"aggregation": "krum"})  # the same replicas, averaged elsewhere
    assert judged == fronts + 5 * replica


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_method_can_be_estimated(name: str) -> None:
    config = check_config(settings(**changes(name)))
    algorithm = build(config).begin()
    found = expected_needs(build(config), algorithm, algorithm.parties(), {"CPU": 2})
    assert found.models_bytes > 0
    assert found.samples_bytes > 0


def test_an_owner_has_a_model_for_each_of_its_groups() -> None:
    """One model of three tasks, two of which share an encoder, three of one task: an encoder more each time."""
    needs = []
    for name in ("all_in_one", "tag", "one_by_one"):
        config = check_config(settings(**changes(name)))
        algorithm = build(config).begin()
        needs.append(expected_needs(build(config), algorithm, algorithm.parties(), {"CPU": 2}).models_bytes)
    assert 0 < needs[0] < needs[1] < needs[2]
    assert needs[2] - needs[1] == pytest.approx(needs[1] - needs[0], rel=1e-6)


def test_what_parties_share_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of owners have one recipe; a forward pass for each would take longer than the run."""
    measured, plain = [], preflight._sizes
    monkeypatch.setattr(preflight, "_sizes", lambda recipe: (measured.append(recipe), plain(recipe))[1])
    needs("minibatch_sfl")
    assert len(measured) == 1


def test_heads_side_by_side_take_what_the_trunk_sends() -> None:
    """One after the other in a node or each in its own: the same weights, the same layers' outputs."""
    config = check_config(settings(**changes("mtl_split")))
    found = []
    for num_nodes in (1, 2, 3):
        options = config.algorithm.resolved_options().model_copy(update={"num_nodes": num_nodes})
        algorithm = resolve_algorithm("mtl_split")(build(config).setting, options)
        found.append(expected_needs(build(config), algorithm, algorithm.parties(), {"CPU": 2}))
    assert len({(needs.models_bytes, needs.in_flight_bytes) for needs in found}) == 1


@pytest.mark.parametrize(
    ("name", "options", "copies"),
    [("sgd", {}, 0), ("sgd", {"momentum": 0.9}, 1), ("adam", {}, 2), ("adam", {"amsgrad": True}, 3)],
)
def test_what_optimisers_keep(name: str, options: dict[str, Any], copies: int) -> None:
    assert _state_copies(OptimizerSpec(name=name, lr=0.1, options=options)) == copies


def test_too_little_is_refused_with_numbers_and_the_way_out() -> None:
    mib = 2**20
    found = Needs(models_bytes=600 * mib, samples_bytes=100 * mib, processes_bytes=500 * mib, in_flight_bytes=90 * mib)
    refuse_too_little(found, {"memory": 1200 * mib, "object_store_memory": 90 * mib})
    refuse_too_little(found, {})
    with pytest.raises(TooLittleMemory, match=r"needs about 1,200 MiB of memory \(600 MiB for weights.*has 1,199 MiB"):
        refuse_too_little(found, {"memory": 1199 * mib})
    with pytest.raises(TooLittleMemory, match=r"up to 90 MiB of tensors.*has 89 MiB; raise cluster\.object_store_mib"):
        refuse_too_little(found, {"object_store_memory": 89 * mib})
