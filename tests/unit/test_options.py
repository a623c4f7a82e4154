"""Free options have the types of the functions that take them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysplit.config.run import ConfigError, RunConfig, check_config, load_config
from raysplit.options import Count, OptionsRefused, PathText, checked_options


def network(
    shape: Any,
    *,
    hidden: Sequence[Count],
    rate: float = 0.5,
    cache: Path | None = None,
    file: PathText = "",
    on: bool = True,
) -> None:
    """Take options of several types."""


def checked(**options: Any) -> dict[str, Any]:
    return checked_options(network, options, name="net", section="model", given=("shape",))


def test_options_get_the_annotated_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    found = checked(hidden=[3, "4"], rate="5e-1", cache="~/c", file="~/f", on="no")
    assert found == {"hidden": [3, 4], "rate": 0.5, "cache": Path("/home/ada/c"), "file": "/home/ada/f", "on": False}


def test_every_wrong_option_is_told_with_its_key() -> None:
    with pytest.raises(OptionsRefused) as caught:
        checked(rate="fast", hiden=[1], on=7)
    assert str(caught.value).splitlines() == [
        "model.hidden: is missing; net needs it",
        "model.rate: must be a valid number, unable to parse string as a number (got 'fast')",
        "model.hiden: net has no such option; did you mean 'hidden'? (known: hidden, rate, cache, file, on)",
        "model.on: must be a valid boolean, unable to interpret input (got 7)",
    ]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data={name: random, num_classes: a}", "data.num_classes: must be a valid integer"),
        ("data={name: random, dim: [1]}", "data.dim: must be a valid integer"),
        ("data={name: random, seed: null}", "data.seed: must be a valid integer (got None)"),
        ("data={name: random, num_samples: 0}", "data.num_samples: must be greater than or equal to 1 (got 0)"),
        ("data={name: random, num_samples: 1.5}", "data.num_samples: must be a valid integer"),
        ("data={name: shapes3d, tasks: shape}", "data.tasks: must be a list (got 'shape')"),
        ("data={name: medic_like, val_fraction: half}", "data.val_fraction: must be a valid number"),
        ("data={name: mine.npz, mean: 0.5}", "data.mean: must be a valid tuple"),
        ("model={name: mlp, hidden: 1}", "model.hidden: must be"),
        ("model={name: mlp, hidden: [8, x]}", "model.hidden: must be a valid integer"),
        ("model={name: mlp, hidden: [0]}", "model.hidden: must be greater than or equal to 1"),
        ("model={name: multi_task, cut: deep}", "model.cut: must be 'flat' or 'pooled'"),
        ("partition={name: noniid_ratio, ratio: most}", "partition.ratio: must be a valid number"),
        ("partition={name: noniid_ratio}", "partition.ratio: is missing; noniid_ratio needs it"),
        ("partition={name: dirichlet, alpha: {a: 1}}", "partition.alpha: must be a valid number"),
        ("training.optimizer.weight_decay=x", "training.optimizer.weight_decay: must be a valid number"),
        ("training.optimizer={name: adam, betas: [0.9]}", "training.optimizer.betas: "),
        ("training.server_optimizer.nesterov=[]", "training.server_optimizer.nesterov: must be a valid boolean"),
    ],
)
def test_free_options_of_built_in_parts_are_checked_with_the_configuration(override: str, message: str) -> None:
    """Values of a wrong type ended in tracebacks out of numpy and torch, after the data were read."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert str(caught.value).startswith(message)


def test_numbers_as_text_are_numbers_in_options() -> None:
    config = check_config(
        {
            "data": {"name": "random", "num_samples": 1e3},
            "partition": {"name": "noniid_ratio", "ratio": "9e-1"},
            "training": {"optimizer": {"weight_decay": "5e-4"}},
        }
    )
    assert config.data.options["num_samples"] == 1000
    assert config.partition.options == {"ratio": 0.9}
    assert config.training.optimizer.spec().options == {"weight_decay": 0.0005}


def test_options_of_own_functions_stay_as_they_are() -> None:
    config = check_config({"data": {"name": "mine:load", "size": "5e-4", "of": [1, "a"]}})
    assert config.data.options == {"size": "5e-4", "of": [1, "a"]}


def test_the_defaults_are_what_they_were() -> None:
    assert RunConfig().model.options == RunConfig().data.options == RunConfig().partition.options == {}
