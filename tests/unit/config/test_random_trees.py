"""Whatever plain data a configuration holds, the answer is a checked configuration or a `ConfigError`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysplit.config.run import ConfigError, RunConfig, check_config, dump_config, load_config

SECTIONS: dict[str, Any] = {key: field.annotation for key, field in RunConfig.model_fields.items()}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["auto", "sgd", "adam", "cnn8", "digits", "dirichlet", "fedavg", "splitfed_v2", "a:b", ":", "..:x"]
    )
    | st.dates()
    | st.binary(max_size=4)
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def section(key: str) -> st.SearchStrategy[Any]:
    """A section of mostly valid keys, so that values are reached and not only keys."""
    fields = list(getattr(SECTIONS[key], "model_fields", {}))
    if not fields:
        return trees
    optimizer = st.dictionaries(st.sampled_from(["name", "lr", "momentum", "betas"]) | st.text(max_size=4), trees)
    values = st.one_of(trees, optimizer) if "optimizer" in fields else trees
    keys = st.sampled_from([*fields, "cut", "order", "alpha", "cohort_siz"])
    return trees | st.dictionaries(keys, values, max_size=4)


configs = st.fixed_dictionaries({}, optional={key: section(key) for key in SECTIONS})


@settings(max_examples=300, deadline=None)
@given(tree=configs)
def test_sections_of_anything(tree: Any) -> None:
    with suppress(ConfigError):
        check_config(tree)


@settings(max_examples=100, deadline=None)
@given(tree=trees)
def test_anything(tree: Any) -> None:
    with suppress(ConfigError):
        check_config(tree)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab:[]{}&*!?|>-#%@'\"\\=0123456789._ \n", max_size=60), key=st.sampled_from([*SECTIONS]))
def test_any_text_as_file_and_as_override(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    for arguments in ((path, ()), (None, (text,)), (None, (f"{key}={text}",)), (None, (f"{key}.x={text}",))):
        with suppress(ConfigError):
            load_config(*arguments)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    rounds=st.integers(1, 1000),
    lr=st.floats(0, 10),
    cut=st.integers(0, 9) | st.sampled_from(["conv1", "layer1.0"]),
    places=st.integers(1, 9) | st.just("auto"),
    alpha=st.floats(0.01, 10) | st.lists(st.floats(0.01, 10), min_size=1, max_size=4),
)
def test_valid_settings_survive_the_file(seed: int, rounds: int, lr: float, cut: Any, places: Any, alpha: Any) -> None:
    config = check_config(
        {
            "seed": seed,
            "partition": {"name": "dirichlet", "alpha": alpha},
            "algorithm": {"name": "splitfed_v1", "cut": cut},
            "training": {"rounds": rounds, "optimizer": {"lr": lr}},
            "cluster": {"places": places},
        }
    )
    assert check_config(yaml.safe_load(dump_config(config))) == config
