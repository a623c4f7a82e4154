"""How owners go through their samples: as many batches as the coordinator counts, of the sizes that it counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import settings

from raysplit.config.build import build
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.data.batches import LastBatch, LocalTraining


@pytest.mark.parametrize(
    ("rule", "num_samples", "sizes"),
    [
        ("keep", 33, [16, 16, 1]),
        ("drop", 33, [16, 16]),
        ("merge", 33, [16, 17]),
        ("keep", 32, [16, 16]),
        ("merge", 32, [16, 16]),
        ("drop", 5, [5]),  # an owner with less than a batch trains on what it has
        ("merge", 5, [5]),
        ("keep", 5, [5]),
        ("merge", 17, [17]),
        ("drop", 17, [16]),
    ],
)
def test_the_last_batch_is_kept_dropped_or_merged(rule: LastBatch, num_samples: int, sizes: list[int]) -> None:
    assert LocalTraining(batch_size=16, last_batch=rule).batch_sizes(num_samples) == sizes


@given(
    num_samples=st.integers(1, 90),
    batch_size=st.integers(1, 40),
    num_steps=st.integers(1, 30),
    rule=st.sampled_from(["keep", "drop", "merge"]),
)
def test_counts_are_those_of_the_batches(num_samples: int, batch_size: int, num_steps: int, rule: LastBatch) -> None:
    training = LocalTraining(batch_size=batch_size, last_batch=rule)
    sizes = training.batch_sizes(num_samples)
    assert training.num_batches(num_samples) == len(sizes) >= 1
    visited = (sizes * num_steps)[:num_steps]
    assert training.num_rows(num_samples, num_steps) == sum(visited)
    assert training.smallest_batch(num_samples, num_steps) == min(visited)


@pytest.mark.parametrize(("rule", "steps"), [("keep", 6), ("drop", 5), ("merge", 5)])
def test_an_owner_makes_the_batches_that_are_counted(rule: str, steps: int) -> None:
    config = check_config(settings(algorithm={"name": "local"}, training__last_batch=rule, training__batch_size=15))
    algorithm = build(config).begin()
    party = algorithm.parties()[0]
    owner = party.build(name=party.name, **party.arguments)
    context = algorithm.context(0, list(algorithm.setting.owners))
    batches = [len(batch) for _, batch in owner.batches(context)]
    assert len(batches) == context.steps(owner.name) == steps
    assert batches == {"keep": [15] * 5 + [5], "drop": [15] * 5, "merge": [15] * 4 + [20]}[rule]


def test_the_former_setting_is_the_rule_drop() -> None:
    former = check_config({"training": {"drop_last": True}})
    assert build(check_config(settings(training__drop_last=True))).setting.training.last_batch == "drop"
    assert former.training.rule_of_last_batch == "drop"
    with pytest.raises(ConfigError, match="drop_last is true and last_batch is merge; leave drop_last out"):
        check_config({"training": {"drop_last": True, "last_batch": "merge"}})
