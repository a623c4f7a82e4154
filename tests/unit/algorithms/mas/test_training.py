"""What must be exactly true of merge and split: training while measuring, splitting, and what groups inherit.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mas_support import PLAIN, configured, rounds, same, same_models, states, train, with_algorithm
from torch import Tensor

from raysplit.algorithms.mas.groups import GroupTraining
from raysplit.algorithms.mas.mas import MAS
from raysplit.api import train_config
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.models.dense.net import group_state
from raysplit.schedulers.grouping.scores import worst_exact_x

TASKS = ("s", "d", "k")


async def one_round(algorithm: GroupTraining) -> dict[str, Tensor]:
    await rounds(algorithm, 0, 1)
    return (await states(algorithm))["s+d+k"]


# -- simple things that complicated ones equal -------------------------------------------------------------------


def test_all_in_one_is_fedavg_of_the_multi_task_model() -> None:
    published = {"model__encoder": "xception", "model__decoder": "xception", "model__width": 0.05}
    merged, plain = (train(name, training__rounds=2, **published) for name in ("all_in_one", "fedavg"))
    assert same(merged.states["global"], plain.states["global"])
    assert [row["train_loss"] for row in merged.rows] == [row["train_loss"] for row in plain.rows]


def test_full_batch_fedavg_of_equal_owners_is_a_centralised_gradient_step() -> None:
    """Without batch norm the mean over owners of the gradients is the gradient of the mean loss."""
    plain: dict[str, Any] = {f"model__{key}": value for key, value in PLAIN.items()}
    plain |= {"training__batch_size": 8, "training__rounds": 2}
    federated = train("all_in_one", **plain).states["global"]
    plain["training__owner_optimizer_state"] = "restart"
    pooled = train({"name": "centralised", "batch_factor": 2}, **plain).states["global"]
    assert max(float((federated[key] - pooled[key]).abs().max()) for key in pooled) < 1e-12


def test_weights_follow_data_sizes_and_the_cohort_the_round() -> None:
    tasks = with_algorithm(_tasks_of_cohorts)
    assert [task.weights for task in tasks] == [(0.5, 0.5), (1.0,)]
    first, again = (train("all_in_one", training__cohort_size=1, training__rounds=2) for _ in range(2))
    assert same_models(first.states, again.states)


async def _tasks_of_cohorts(algorithm: MAS) -> list[Any]:
    return [algorithm.context(0, ["owner-0", "owner-1"]), algorithm.context(0, ["owner-1"])]


# -- measuring changes nothing -----------------------------------------------------------------------------------


def test_measuring_affinities_leaves_no_trace_in_training() -> None:
    plain = with_algorithm(one_round, "all_in_one")
    assert same(with_algorithm(one_round, {"affinity_every": 1}), plain)


def test_without_the_freeze_running_statistics_see_the_looks_ahead_and_nothing_else_does() -> None:
    plain = with_algorithm(one_round, "all_in_one")
    unfrozen = with_algorithm(one_round, {"affinity_every": 1, "freeze_running_statistics": False})
    different = {key for key in plain if not torch.equal(plain[key], unfrozen[key])}
    assert different == {key for key in plain if "running_" in key or "num_batches" in key}


def test_affinities_are_averaged_over_batches_owners_and_rounds() -> None:
    history, by_owner = with_algorithm(_measured, {"merged_rounds": 2})
    assert len(history) == 2
    assert history[0].tasks == TASKS
    for number, mean in enumerate(history):
        for i, source in enumerate(TASKS):
            for j, recipient in enumerate(TASKS):
                key = (number, source, recipient)
                own = [r["value"] for r in by_owner if (r["round"], r["source"], r["recipient"]) == key]
                assert len(own) == 2
                assert mean.values[i][j] == pytest.approx(sum(own) / 2, rel=1e-12)


async def _measured(algorithm: MAS) -> tuple[Any, Any]:
    await rounds(algorithm, 0, 2)
    return algorithm.history, algorithm.tables()["owner_affinities.parquet"].to_pylist()


# -- the split ---------------------------------------------------------------------------------------------------


def test_at_the_split_every_group_answers_as_the_merged_model_did() -> None:
    merged, groups, spec, x = with_algorithm(_split)
    whole = spec.build().eval()
    whole.load_state_dict(merged)
    with torch.no_grad():
        expected = whole(x)
        for label, state in groups.items():
            tasks = tuple(label.split("+"))
            part = spec.of(tasks).build().eval()
            part.load_state_dict(state)
            assert all(torch.equal(output, expected[task]) for task, output in part(x).items())
    assert sorted(task for label in groups for task in label.split("+")) == sorted(TASKS)
    assert len(groups) == 2


async def _split(algorithm: MAS) -> Any:
    await rounds(algorithm, 0, 1)
    merged = (await states(algorithm))["s+d+k"]
    await algorithm.regroup(1)
    return merged, await states(algorithm), algorithm.spec, algorithm.setting.owners["owner-0"].shard.x


@pytest.mark.parametrize("inherit", ["encoder", "nothing"])
def test_what_is_not_inherited_is_as_it_was_at_first(inherit: str) -> None:
    merged, groups, spec, _ = with_algorithm(_split, {"inherit": inherit})
    for label, state in groups.items():
        initial = spec.of(label.split("+")).build().state_dict()
        for key, value in state.items():
            source = merged if inherit == "encoder" and key.startswith("encoder.") else initial
            assert torch.equal(value, source[key])
    assert not same({k: v for k, v in merged.items() if k.startswith("encoder.")}, spec.build().encoder.state_dict())


def test_as_many_groups_as_tasks_are_one_by_one_training_from_the_merged_weights() -> None:
    merged, split = with_algorithm(_to_the_end, {"num_groups": 3, "restart_schedule": False})
    for task in TASKS:
        alone = with_algorithm(_continued(merged, task), "fedavg", data__tasks=task)
        assert same(split[task], alone)


async def _to_the_end(algorithm: MAS) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    await rounds(algorithm, 0, 1)
    merged = (await states(algorithm))["s+d+k"]
    await rounds(algorithm, 1, 3)
    return merged, await states(algorithm)


def _continued(merged: dict[str, Tensor], task: str) -> Any:
    async def work(algorithm: Any) -> dict[str, Tensor]:
        await algorithm.handles["aggregator"].load_weights(group_state(merged, [task]))
        await rounds(algorithm, 1, 3)
        return dict(await algorithm.handles["aggregator"].current())

    return work


def test_one_group_is_all_in_one_unless_the_schedule_restarts() -> None:
    whole = train("all_in_one").states["global"]
    assert same(train({"num_groups": 1, "restart_schedule": False}).states["global"], whole)
    assert not same(train({"num_groups": 1}).states["global"], whole)


def test_the_schedule_restarts_over_the_rounds_that_are_left() -> None:
    restarted = with_algorithm(_rates, {"merged_rounds": 2}, training__rounds=4)
    straight = with_algorithm(_rates, {"merged_rounds": 2, "restart_schedule": False}, training__rounds=4)
    poly = {0: 1.0, 1 / 4: 0.75**0.9, 1 / 2: 0.5**0.9, 3 / 4: 0.25**0.9}
    assert restarted == pytest.approx([poly[0], poly[1 / 4], poly[0], poly[1 / 2]])
    assert straight == pytest.approx(list(poly.values()))


async def _rates(algorithm: MAS) -> list[float]:
    found = []
    for number in range(4):
        found.append(algorithm.lr_scale(number))
        await rounds(algorithm, number, number + 1)
    return found


def test_how_groups_run_leaves_no_trace() -> None:
    ways = ["in_turn", "concurrent", "auto"]
    results = [train({"run_groups": way}) for way in ways]
    for other in results[1:]:
        assert same_models(other.states, results[0].states)
        for key in ("train_loss", "test_loss", "bytes"):
            assert [row[key] for row in other.rows] == [row[key] for row in results[0].rows]


# -- other partitions --------------------------------------------------------------------------------------------


async def _decided(algorithm: MAS) -> tuple[Any, Any]:
    await rounds(algorithm, 0, 1)
    return algorithm.phase.groups, algorithm


@pytest.mark.parametrize("partition", ["random", "worst"])
def test_a_control_that_can_only_be_the_same_groups_is_refused(partition: str) -> None:
    with pytest.raises(ValueError, match="have a single partition into 1 groups"):
        train({"partition": partition, "num_groups": 1})


def test_random_and_worst_partitions() -> None:
    chosen, algorithm = with_algorithm(_decided)
    scattered, _ = with_algorithm(_decided, {"partition": "random"})
    worst, _ = with_algorithm(_decided, {"partition": "worst"})
    assert sorted(map(len, scattered)) == sorted(map(len, chosen))
    assert set(scattered) != set(chosen)
    assert worst == worst_exact_x(algorithm.history[0], 2).groups
    assert worst != chosen
    (decision,) = algorithm.decisions
    assert decision["reason"] == "round 1 is done"
    assert decision["groups"] == chosen
    assert list(decision["best"]) == [1, 2, 3]
    assert decision["score"] == decision["best"][2]["score"]


def test_automatic_split_waits_for_a_stable_ranking() -> None:
    options = {"merged_rounds": "auto", "window": 1, "min_correlation": -1.0}
    groups, algorithm = with_algorithm(_after_two, options, training__rounds=4)
    assert len(groups) == 2
    assert algorithm.decisions[0]["round"] == 2
    assert "the affinity ranking kept for 1 rounds" in algorithm.decisions[0]["reason"]


async def _after_two(algorithm: MAS) -> tuple[Any, Any]:
    await rounds(algorithm, 0, 1)
    assert len(algorithm.phase.groups) == 1
    await rounds(algorithm, 1, 2)
    return algorithm.phase.groups, algorithm


# -- a task that comes later -------------------------------------------------------------------------------------


def test_a_new_task_is_tried_in_every_group_and_joins_one() -> None:
    options = {"new_tasks": {"k": 2}, "trial_rounds": 1}
    result = train(options, training__rounds=5)
    tested = [sorted(key[-1] for key in row if key.startswith("test_loss_")) for row in result.rows]
    assert tested == [["d", "s"], ["d", "s"], ["d", "k", "s"], ["d", "k", "s"], ["d", "k", "s"]]
    labels = with_algorithm(_labels, options, training__rounds=5)
    assert labels[:3] == [["s+d"], ["s", "d"], ["s+k", "d+k"]]
    assert sorted(task for label in labels[3] for task in label.split("+")) == ["d", "k", "s"]
    assert labels[4] == labels[3]


async def _labels(algorithm: MAS) -> list[list[str]]:
    found = []
    for number in range(5):
        await rounds(algorithm, number, number + 1)
        found.append([group.label for group in algorithm.groups])
    return found


def test_groups_go_on_training_while_a_new_task_is_tried() -> None:
    """The encoder of a widened group comes from that group, not from the first one."""
    before, after = with_algorithm(_widened, {"new_tasks": {"k": 2}, "trial_rounds": 1}, training__rounds=5)
    for label, state in after.items():
        old = before[label.removesuffix("+k")]
        assert all(torch.equal(state[key], value) for key, value in old.items())
    assert not torch.equal(before["s"]["encoder.0.weight"], before["d"]["encoder.0.weight"])


async def _widened(algorithm: MAS) -> Any:
    await rounds(algorithm, 0, 2)
    before = await states(algorithm)
    await algorithm.regroup(2)
    return before, await states(algorithm)


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"merged_rounds": 3},
            "merged_rounds is 3 and training.rounds is 3, and MAS .* in groups; give merged_rounds 1 to 2",
        ),
        ({"num_groups": 4}, "num_groups is 4, and the tasks to divide are s, d, k; give at most 3"),
        ({"new_tasks": {"x": 1}}, "new_tasks names 'x', which is no task of the data; the tasks are s, d, k"),
        ({"new_tasks": dict.fromkeys("sdk", 1)}, "leave at least one out"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(options)


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="leave measured_rounds out"):
        configured({"merged_rounds": "auto", "measured_rounds": 2})
    with pytest.raises(ValueError, match="the power of the device 'vm' is not known"):
        configured({"devices": ["d1", "vm"]})


def test_data_of_one_label_and_losses_of_one_task_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set training\.loss to task_sum"):
        build(configured(training__loss="cross_entropy"))
    more = {"cluster": {"kind": "local"}, "training": {"rounds": 31, "loss": "task_sum"}}
    one_label = check_config({"algorithm": {"name": "mas"}, **more})
    with pytest.raises(ValueError, match=r"mas trains a model with several tasks, and .*; set data\.name"):
        train_config(one_label)
