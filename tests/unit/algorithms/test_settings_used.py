"""A setting is heeded or refused: whatever a method does not refuse by name changes what it trains."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from disturbed import ALGORITHMS as SMALL
from disturbed import changes
from support import same, settings, train

from raysplit.actors.aggregation import UpdateRefused, UpdateRules
from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.unused import codecs_left_out, unused_by
from raysplit.config.checks import outline_of
from raysplit.config.errors import ConfigError
from raysplit.config.run import RunConfig, check_config
from raysplit.experiment.rules import EvaluationRules, ReliabilityRules
from raysplit.runs.result import Result

METHODS = [name for name in SMALL if " " not in name and name != "mtl_split"]
TRAINING = {"rounds": 2, "batch_size": 30, "optimizer": {"lr": 0.1, "momentum": 0.9}, "owner_optimizer_state": "keep"}
TRIED: dict[str, dict[str, Any]] = {
    "training.server_optimizer": {"training": {"server_optimizer": {"lr": 0.5}}},
    "training.server_optimizer_state": {"training": {"server_optimizer_state": "restart"}},
    "training.owner_optimizer_state": {"training": {"owner_optimizer_state": "restart"}},
    "training.optimizer": {"training": {"optimizer": {"lr": 0.01}}},
    "training.batch_size": {"training": {"batch_size": 20}},
    "training.local_epochs": {"training": {"local_epochs": 2}},
    "training.max_steps": {"training": {"max_steps": 1}},
    "training.cohort_size": {"training": {"cohort_size": 1}},
    "training.lr_schedule": {"training": {"lr_schedule": "cosine"}},
    "training.weight_by": {"training": {"weight_by": "targets", "max_steps": 1}},
    "training.lr_schedule_per": {"training": {"lr_schedule": "cosine", "lr_schedule_per": "step"}},
    "training.warmup_steps": {"training": {"warmup_steps": 3}},
    "training.accumulate": {"training": {"accumulate": 2, "batch_size": 10}},
    "training.clip": {"training": {"clip": {"norm": 0.01, "scope": "part"}}},
    "training.vectorize": {"training": {"vectorize": 64}},
    "training.last_batch": {"training": {"last_batch": "merge"}},
    "training.drop_last": {"training": {"drop_last": True}},
    "training.shuffle": {"training": {"shuffle": False}},
    "training.loss": {"training": {"loss": "support:smoothed"}},
    "reliability.aggregation": {"reliability": {"aggregation": "median"}},
    "reliability.max_update_norm": {"reliability": {"max_update_norm": 1e-9}},
    "evaluation.divergence_every": {"evaluation": {"divergence_every": 1}},
    "training.buffers": {"training": {"buffers": "local"}},
    "owners.domain": {"owners": {"domain": "permutation"}},
    "owners.pixel_noise": {"owners": {"noisy": 1, "pixel_noise": 0.5}},
    "owners.label_noise": {"owners": {"noisy": 1, "label_noise": 0.5}},
    "reliability.over_selection": {"reliability": {"over_selection": 0.5}},
    "links.smashed": {"links": {"smashed": "float16"}},
    "links.gradients": {"links": {"gradients": "float16"}},
    "links.weights": {"links": {"weights": "float16"}},
    "links.labels": {"links": {"labels": "narrow"}},
}


NORMED: dict[str, Any] = {"model": {"name": "support:normed_net", "dtype": "float64"}}
ON: dict[str, dict[str, Any]] = {
    "training.buffers": NORMED,
    "training.weight_by": {"training": {"max_steps": 1}},
    "training.vectorize": {"model": {"name": "support:conv_net"}},
}
"""What a setting needs to have an effect, where the usual run has not."""
WHOLE_RUN = {
    "training.rounds",
    *(f"evaluation.{key}" for key in EvaluationRules.model_fields if key != "divergence_every"),
    *(f"reliability.{key}" for key in ReliabilityRules.model_fields if key not in UpdateRules.model_fields),
}
"""Settings of the loop around all methods, except those of open rounds, which methods refuse."""


def tree(name: str, **more: Any) -> dict[str, Any]:
    small = changes(name, {**TRAINING, **more.pop("training", {})}, **more)
    if "model" in more and name == "mtsl":
        small["algorithm"] = {**small["algorithm"], "server_forward": "concat"}
    if name != "mtl_split":
        small["data"] = {"name": "random", "num_classes": 5, "num_samples": 130, "input_shape": [1, 2, 5]}
        small["partition"] = {"name": "quantity", "num_owners": 3}
    return small


@cache
def plain(name: str, key: str = "") -> Result:
    return train(**tree(name, **ON.get(key, {})))


def equal(a: Result, b: Result) -> bool:
    labels = a.states.keys() == b.states.keys()
    measured = any("divergence_raw" in row for row in b.rows)
    moved = a.links != b.links
    return labels and not measured and not moved and all(same(a.states[label], b.states[label]) for label in a.states)


@pytest.mark.parametrize("name", [*METHODS, pytest.param("mtl_split", marks=pytest.mark.slow)])
def test_what_is_not_refused_is_heeded(name: str) -> None:
    """FedEM and MTSL were given a robust average or a largest norm, and trained as if nothing had been set."""
    without_effect = []
    for key, more in TRIED.items():
        if key == "owners.label_noise" and name == "mtl_split":
            continue  # its data have several labels per sample
        if key == "training.cohort_size" and name == "mtl_split":
            continue  # its only owner is the cohort
        method, more = ALGORITHMS[name], {**ON.get(key, {}), **more}
        if key.startswith("links.") and key in unused_by(method):
            assert equal(plain(name), train(**tree(name, **more)))  # a warning says so
            continue
        if is_refused(key, method):
            with pytest.raises(ConfigError, match=key.replace(".", r"\.") + " is "):
                check_config(settings(**tree(name, **more)))
            continue
        try:
            found = train(**tree(name, **more))
        except UpdateRefused:
            continue
        if equal(plain(name, key if key in ON else ""), found):
            without_effect.append(key)
    assert without_effect == []


def is_refused(key: str, method: type[Algorithm]) -> bool:
    by_options = (key == "training.loss" and method.losses) or (key == "training.buffers" and method.name == "mtsl")
    return key in unused_by(method) or bool(by_options)


def test_every_setting_is_tried() -> None:
    """A codec for smashed data was no error with FedAvg, which sends none: nobody had tried the section ``links``."""
    sections = {name: RunConfig.model_fields[name].annotation for name in ("training", "owners", "links")}
    keys = {f"{name}.{key}" for name, kind in sections.items() for key in kind.model_fields}  # type: ignore[union-attr]
    keys |= {f"reliability.{key}" for key in ReliabilityRules.model_fields}
    keys |= {f"evaluation.{key}" for key in EvaluationRules.model_fields}
    together = {"reliability.tolerated", "owners.noisy", "owners.tasks", "links.rules"}  # with others, or as these
    of_codecs = {f"links.{key}" for key in ("auto", "budget_z", "budget_g", "report_every", "warmup_rounds")}
    assert keys == TRIED.keys() | WHOLE_RUN | together | of_codecs


def test_the_methods_of_groups_declare_the_same() -> None:
    """They share one class; what is said of one holds for all six."""
    groups = ("all_in_one", "one_by_one", "tag", "hoa", "mas")
    assert len({tuple(unused_by(ALGORITHMS[name])) for name in groups}) == 1
    assert {"training.server_optimizer", "links.smashed", "evaluation.divergence_every"} <= unused_by(
        ALGORITHMS["mas"]
    ).keys()
    for name in groups:
        with pytest.raises(ConfigError, match=r"training\.loss is 'mse', and .* trains with task_sum only"):
            check_config({"algorithm": {"name": name}, "training": {"loss": "mse", "rounds": 40}})


def test_a_rule_for_a_link_is_one_for_its_kind() -> None:
    rules = {"rules": [{"from": "owner-*", "kind": "smashed", "codec": "float16"}]}
    found = [
        codecs_left_out(ALGORITHMS[name], outline_of(check_config(settings(algorithm={"name": name}, links=rules))))
        for name in ("fedavg", "splitnn")
    ]
    reason = "which does not send such values: the owners train the whole model"
    assert found == [f"links.smashed left out with fedavg, {reason}", None]


def wrong(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config(settings(**sections))
    return str(caught.value)


def test_what_a_configuration_shows_is_told_when_it_is_read() -> None:
    """Krum with too few owners was told after a round, and members that are gone after fifty."""
    krum = {"aggregation": "krum"}
    fedavg = {"name": "fedavg"}
    assert "needs 5 updates to tolerate 1 wrong, and a round has 3 owners" in wrong(algorithm=fedavg, reliability=krum)
    many = {"name": "iid", "num_owners": 10}
    drawn = {"rounds": 2, "cohort_size": 4}
    assert "a round has 4 owners" in wrong(algorithm=fedavg, reliability=krum, partition=many, training=drawn)
    trimmed = {"aggregation": "trimmed_mean", "tolerated": 2}
    assert "needs 5 updates to tolerate 2 wrong" in wrong(algorithm=fedavg, reliability=trimmed)
    eight = {"name": "iid", "num_owners": 8}
    for rule in ({"round_deadline_s": 5}, {"on_bad_update": "drop"}, {"on_lost_place": "drop"}):
        text = wrong(algorithm=fedavg, reliability={**krum, **rule}, partition=eight)
        assert "reliability.quorum 0.5 lets a round of 8 owners end with 4; set reliability.quorum to 0.63" in text
        check_config(settings(algorithm=fedavg, reliability={**krum, **rule, "quorum": 0.63}, partition=eight))
    elastic = {"kind": "local", "elastic": {"min_owners": 3}}
    assert "min_owners lets a round begin with 3; set it to 5" in wrong(
        algorithm=fedavg, reliability=krum, partition=eight, cluster=elastic
    )
    assert "min_owners is 9 and there are 8 owners" in wrong(
        algorithm=fedavg, partition=eight, cluster={"kind": "local", "elastic": {"min_owners": 9}}
    )


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            {"name": "mtsl", "members": {f"owner-{i}": {"leaves": 1} for i in range(3)}},
            "no owner takes part in round 1",
        ),
        (
            {"name": "mtsl", "members": {"owner-0": {"joins": 1}, "owner-1": {"joins": 1}, "owner-2": {"joins": 1}}},
            "round 0",
        ),
        ({"name": "mtsl", "members": {"owner-9": {"joins": 1}}}, "algorithm.members names 'owner-9'"),
        ({"name": "mtsl", "learning_rates": {"owners": [0.1, 0.2]}}, "has 2 rates for 3 owners"),
        ({"name": "mtsl", "bottoms": {"owner-9": {"model": "mlp"}}}, "algorithm.bottoms names 'owner-9'"),
        ({"name": "mpsl", "cuts": [1, 2], "owner_routes": {"me": {"cuts": [1, 2]}}}, "owner_routes names 'me'"),
        ({"name": "splitfed_v1", "num_servers": 4}, "num_servers is 4 and there are 3 owners"),
        ({"name": "mtl_split"}, "set partition.num_owners to 1"),
    ],
)
def test_options_are_checked_against_the_owners_and_rounds(algorithm: dict[str, Any], message: str) -> None:
    assert message in wrong(algorithm=algorithm)


def test_owners_keep_their_optimizers_where_a_round_only_reports() -> None:
    """Centralized training with momentum forgot it every round: 0.59 in ten rounds, and 0.84 when it was kept."""
    for name in ("centralised", "local", "mtsl"):
        once, often = (
            train(
                algorithm={"name": name},
                training={
                    "rounds": rounds,
                    "local_epochs": 6 // rounds,
                    "shuffle": False,
                    "batch_size": 16,
                    "optimizer": {"lr": 0.05, "momentum": 0.9},
                },
            )
            for rounds in (1, 6)
        )
        assert all(same(once.states[label], often.states[label]) for label in once.states)
    assert not check_config(
        settings(algorithm={"name": "mtl_split"}, partition__num_owners=1)
    ).training.restarts_owners(ALGORITHMS["mtl_split"])
    assert check_config(settings(algorithm={"name": "fedavg"})).training.restarts_owners(ALGORITHMS["fedavg"])
