"""A guard is heeded or refused: no number is promised that is not kept."""

from __future__ import annotations

from typing import Any

import pytest
from support import settings

from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.experiment.fingerprint import fingerprint

SECRET = {"secret_file": "secret"}
Z = {"clip": 1, "noise": 0.5}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"z": {"clip": 1}}, "neither noise nor epsilon is given"),
    ({"z": {"clip": 1, "noise": 0, "epsilon": 1}}, "noise is 0 and epsilon is 1: without noise nothing is promised"),
    ({"z": {"clip": 1, "noise": 1, "epsilon": 1}}, "both say how much noise; give one"),
    ({"z": {"epsilon": 1}}, "clip is not set: a row without a largest norm has no sensitivity"),
    ({"z": {"mechanism": "laplace", "noise": 1}}, "mechanism is laplace and clip is not set"),
    ({"z": Z}, "z draws random numbers, .* set secret_file"),
    ({"weights": {"clip": 1, "noise": 1}}, "weights draws random numbers"),
    ({"dropout": 0.5}, "dropout draws random numbers"),
    ({"z": Z, "rehearsal": True, **SECRET}, "rehearsal draws noise from the seed, and secret_file names a secret"),
    ({"z": Z, "rehearsal": True, "budget": {"epsilon": 8}}, "budget promises epsilon 8, which takes a secret"),
    ({"budget": {"epsilon": 8}, **SECRET}, "budget promises epsilon 8, and no guard has an epsilon"),
    ({"z": {"clip": 1, "noise": 0}, "budget": {"epsilon": 8}, **SECRET}, "z has noise 0, which promises nothing"),
    ({"z": {"noise": 1}, "budget": {"epsilon": 8}, **SECRET}, "z has no clip, which promises nothing"),
    ({"weights": {"clip": 1, "noise": 0}, "budget": {"epsilon": 8}, **SECRET}, "weights has noise 0"),
    ({"weights": {"clip": ".inf", "noise": 1}, **SECRET}, "clip is infinite, and noise is in multiples of it"),
    ({"weights": {"clip": 1, "noise": 1}, "nopeek": 0.1, **SECRET}, "nopeek joins the samples of a batch"),
    ({"g": "gaussian"}, "mechanism is gaussian, which needs clip and noise"),
    ({"g": {"mechanism": "max_norm", "clip": 1}}, "clip belongs to gaussian"),
    ({"weights": {"clip": 1, "noise": 1}, "g": "max_norm", **SECRET}, "g: max_norm joins the samples of a batch"),
    ({"nopeek": 1.0}, "must be less than 1"),
    ({"z": {**Z, "clipp": 2}}, "clip"),
]


@pytest.mark.parametrize(("privacy", "message"), REFUSED)
def test_refused_within_the_section(privacy: dict[str, Any], message: str) -> None:
    if privacy.get("weights", {}).get("clip") == ".inf":
        privacy = {**privacy, "weights": {"clip": float("inf"), "noise": 1}}
    with pytest.raises(ConfigError, match=message):
        check_config(settings(privacy=privacy))


WEIGHTS = {"weights": {"clip": 1, "noise": 1}, "rehearsal": True}
BUDGET = {"z": Z, "budget": {"epsilon": 8}, **SECRET}
SPLITNN: dict[str, Any] = {"algorithm": {"name": "splitnn", "cut": 1}}
BESIDE: list[tuple[dict[str, Any], str]] = [
    (
        {"privacy": WEIGHTS, **SPLITNN, "training__accumulate": 2},
        "privacy.weights and training.accumulate do not go together",
    ),
    (
        {"privacy": WEIGHTS, **SPLITNN, "training__clip": {"norm": 1, "scope": "part"}},
        "privacy.weights and training.clip",
    ),
    ({"privacy": BUDGET, "evaluation": {"divergence_every": 1}}, "gradients of whole shards .* no privacy.budget"),
    ({"privacy": {"g": "max_norm", "rehearsal": True}}, "privacy.g is set, and minibatch_sfl does not use it"),
    ({"privacy": {"z": Z, "rehearsal": True}, "algorithm": {"name": "fedavg"}}, "the owners train the whole model"),
    ({"privacy": WEIGHTS, "algorithm": {"name": "fedem"}}, "its owners have no guards"),
    ({"privacy": WEIGHTS, "algorithm": {"name": "centralised"}}, "its owners have no guards"),
    (
        {"privacy": {"labels": {"epsilon": 1}, "rehearsal": True}, "algorithm": {"name": "mpsl", "cuts": [1, 2]}},
        "labels stay at their owners",
    ),
    ({"privacy": {"project": 4}, "algorithm": {"name": "mpsl", "cuts": [1, 2]}}, "each would project them"),
    (
        {"privacy": {"z": Z, "rehearsal": True}, "algorithm": {"name": "mtsl", "cut": 1, "learning_rates": "auto"}},
        "derivatives of smashed data, which privacy.z does not cover",
    ),
    ({"model__init": "owners"}, "there is no secret that they share"),
    ({"model__init": "owners", "privacy": {"secret_file": "{owner}.key"}}, "names one for each owner"),
]


@pytest.mark.parametrize(("changes", "message"), BESIDE)
def test_refused_beside_other_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        check_config(settings(**changes))


def test_a_run_without_guards_has_the_fingerprint_of_one_before_there_were_any() -> None:
    plain = check_config(settings()).model_dump(mode="json")
    before = {key: value for key, value in plain.items() if key != "privacy"}
    assert fingerprint(plain) == fingerprint(before)
    places = check_config(settings(privacy={"ledger": "elsewhere", "secret_file": "s"})).model_dump(mode="json")
    assert fingerprint(places) == fingerprint(plain)
    guarded = check_config(settings(privacy={"project": 4})).model_dump(mode="json")
    assert fingerprint(guarded) != fingerprint(plain)
