"""Valid settings are the same after they were written to a file and read again."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raysplit.config.run import check_config, dump_config


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
