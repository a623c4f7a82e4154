"""What merge and split is compared with, what it costs, and what a run leaves behind.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285; Fifty et al., arXiv 2109.04617; Standley et al., arXiv 1905.07553.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mas_support import PLAIN, configured, rounds, same, same_models, states, train, with_algorithm
from torch.utils.flop_counter import FlopCounterMode

from raysplit.actors.records import OwnerReport
from raysplit.algorithms.mas.baselines import HOA, TAG
from raysplit.algorithms.mas.costs import Ledger, watts_of
from raysplit.api import train_config
from raysplit.config.build import build
from raysplit.models.dense.losses import task_losses
from raysplit.models.dense.net import build_mas_model
from raysplit.schedulers.energy import fit_task_cost
from raysplit.schedulers.grouping.files import read_history
from raysplit.schedulers.grouping.scores import PairLosses, hoa, mean_affinity, overlap

# -- baselines ---------------------------------------------------------------------------------------------------


def test_one_by_one_is_fedavg_for_each_task() -> None:
    together = train("one_by_one", training__rounds=2)
    assert list(together.states) == ["s", "d", "k"]
    alone = train("fedavg", training__rounds=2, data__tasks="d")
    assert same(together.states["d"], alone.states["global"])
    assert together.rows[-1]["test_loss_d"] == alone.rows[-1]["test_loss"]
    assert together.rows[-1]["test_loss"] == pytest.approx(
        sum(together.rows[-1][f"test_loss_{task}"] for task in "sdk")
    )


def test_fedprox_without_its_term_is_fedavg() -> None:
    plain = train("all_in_one").states
    assert same_models(train({"name": "all_in_one", "method": "fedprox", "proximal_mu": 0.0}).states, plain)
    assert not same_models(train({"name": "all_in_one", "method": "fedprox", "proximal_mu": 1.0}).states, plain)


def test_gradnorm_gives_decoders_their_plain_gradients() -> None:
    """After one step from equal weights only the encoder has gone another way."""
    changes: dict[str, Any] = {"training__rounds": 1, "training__max_steps": 1, "partition__num_owners": 1}
    changes |= {"data__num_buildings": 1}
    plain = train("all_in_one", **changes).states["global"]
    balanced = train({"name": "all_in_one", "method": "gradnorm"}, **changes).states["global"]
    different = {key.split(".")[0] for key in plain if (plain[key].double() - balanced[key]).abs().max() > 1e-6}
    assert different <= {"encoder"}
    assert not same(plain, balanced)


def test_tag_groups_by_the_mean_affinity_of_a_whole_run_and_trains_from_scratch() -> None:
    algorithm, begun, initial = with_algorithm(
        _second_training, {"name": "tag", "affinity_every": 1}, training__rounds=2
    )
    assert len(algorithm.history) == 2
    assert algorithm.phase.groups == overlap(mean_affinity(algorithm.history), 2).groups
    assert algorithm.num_rounds == 4
    assert algorithm.lr_scale(2) == 1.0
    for label, state in begun.items():
        assert same(state, initial.of(label.split("+")).build().state_dict())


async def _second_training(algorithm: TAG) -> Any:
    await rounds(algorithm, 0, 2)
    await algorithm.regroup(2)
    return algorithm, await states(algorithm), algorithm.spec


def test_in_overlapping_groups_a_task_is_served_by_the_group_that_does_best_on_validation_data() -> None:
    serving, losses = with_algorithm(_served, {"name": "tag", "affinity_every": 1}, training__rounds=1)
    for task, label in serving.items():
        having = {other: loss[task] for other, loss in losses.items() if task in loss}
        assert having[label] == min(having.values())
    assert sorted(serving) == ["d", "k", "s"]


async def _served(algorithm: TAG) -> Any:
    await rounds(algorithm, 0, 2)
    losses = {group.label: await algorithm.validation_losses(group) for group in algorithm.groups}
    return {task: group.label for task, group in algorithm.serving.items()}, losses


def test_hoa_predicts_from_all_singles_and_pairs() -> None:
    labels, algorithm = with_algorithm(_predicted, {"name": "hoa", "num_groups": 1}, training__rounds=1)
    assert labels == ["s", "d", "k", "s+d", "s+k", "d+k"]
    (decision,) = algorithm.decisions
    table = PairLosses(tasks=("s", "d", "k"), values=decision["pair_losses"])
    assert decision["groups"] == hoa(table, 1).groups == (("s", "d", "k"),)
    assert algorithm.num_rounds == 2
    mean_of_pairs = [sum(row[j] for j in range(3) if j != i) / 2 for i, row in enumerate(table.values)]
    assert decision["score"] == pytest.approx(sum(mean_of_pairs))


async def _predicted(algorithm: HOA) -> Any:
    await rounds(algorithm, 0, 1)
    return [group.label for group in algorithm.groups], algorithm


def test_hoa_ends_early_when_the_chosen_groups_are_trained_already() -> None:
    result = train({"name": "hoa", "num_groups": 3}, training__rounds=1)
    assert len(result.rows) == 1
    assert all(len(label.split("+")) <= 2 for label in result.states)


# -- what it costs -----------------------------------------------------------------------------------------------


def flops_of_a_step(tasks: str, image_size: int = 16) -> int:
    """Forward, loss and backward of one batch."""
    model = build_mas_model(tuple(tasks), image_size=image_size, width=0.25)
    x = torch.zeros(2, 3, image_size, image_size)
    targets = {task: torch.zeros(2, 1, image_size, image_size) for task in tasks}
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(task_losses(model(x), targets).values())).sum().backward()
    return counter.get_total_flops()


def test_work_is_affine_in_the_number_of_tasks_and_the_cost_of_merge_and_split_follows() -> None:
    work = {number: float(flops_of_a_step("dktre"[:number])) for number in range(1, 6)}
    cost = fit_task_cost({1: work[1], 5: work[5]})
    assert [cost.hours(number) for number in work] == pytest.approx(list(work.values()), rel=1e-9)
    merged, split = 3, 7
    measured = (merged * work[5] + split * (work[2] + work[3])) / (merged + split)
    assert cost.mas_hours(5, 2, merged_share=0.3) == pytest.approx(measured, rel=1e-9)


def test_tasks_with_wider_outputs_stay_within_five_per_cent_of_the_model() -> None:
    model = build_mas_model(tuple("sdnkt"), image_size=16, width=0.25)

    def work(tasks: str) -> float:
        part = build_mas_model(tuple(tasks), image_size=16, width=0.25)
        with FlopCounterMode(display=False) as counter:
            outputs = part(torch.zeros(2, 3, 16, 16))
            torch.stack([output.sum() for output in outputs.values()]).sum().backward()
        return float(counter.get_total_flops())

    alone = sum(work(task) for task in model.tasks) / 5
    cost = fit_task_cost({1: alone, 5: work("sdnkt")})
    measured = 0.3 * work("sdnkt") + 0.7 * (work("sdn") + work("kt"))
    assert cost.mas_hours(5, 2, merged_share=0.3) == pytest.approx(measured, rel=0.05)


def test_ledger_charges_owners_groups_and_tasks() -> None:
    ledger = Ledger({"owner-0": 3.0, "owner-1": 10.0})

    def report(owner: str, training_s: float, affinity_s: float) -> OwnerReport:
        values = (("compute_s", training_s), ("affinity_s", affinity_s))
        return OwnerReport(owner=owner, loss=1.0, num_samples=8, num_steps=2, values=values)

    first = ledger.add(0, ("s", "d"), [report("owner-0", 4.0, 1.0), report("owner-1", 8.0, 2.0)])
    assert first == {"device_s": 15.0, "affinity_s": 3.0, "joules": 5 * 3.0 + 10 * 10.0}
    assert ledger.task_cost() is None
    ledger.add(1, ("k",), [report("owner-0", 4.0, 0.0)])
    cost = ledger.task_cost()
    assert cost is not None
    assert (cost.hours(1) * 3600, cost.hours(2) * 3600) == pytest.approx((2.0, 3.0))  # seconds of a step
    assert ledger.modelled_hours(cost) * 3600 == pytest.approx(16.0)
    summary = ledger.summary()
    assert summary["hours"] * 3600 == pytest.approx(19.0)
    assert summary["by_task"]["k"]["hours"] * 3600 == pytest.approx(4.0)
    assert summary["by_task"]["s"]["hours"] * 3600 == pytest.approx(7.5)
    assert summary["by_owner"]["owner-1"]["kwh"] == pytest.approx(100 / 3.6e6)
    assert summary["by_group"]["s+d"]["hours"] * 3600 == pytest.approx(15.0)
    assert ledger.table().num_rows == 3


def test_power_of_devices() -> None:
    assert watts_of(["a", "b", "c"], ["d1", 10.0]) == {"a": 3.0, "b": 10.0, "c": 3.0}
    with pytest.raises(ValueError, match="the power of the device 'vm' is not known; give one of d1, d2, or a number"):
        watts_of(["a"], ["vm"])


# -- what a run leaves behind ------------------------------------------------------------------------------------


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = train_config(configured({"merged_rounds": 2, "affinity_every": 2}), folder=folder)
    assert [affinity.tasks for affinity in read_history(folder)] == [("s", "d", "k")] * 2
    summary = json.loads((folder / "summary.json").read_text())
    assert sorted(task for group in summary["groups"] for task in group) == ["d", "k", "s"]
    assert summary["decisions"][0]["round"] == 2
    charges = pq.read_table(folder / "charges.parquet").to_pylist()
    assert len(charges) == 2 * 2 + 1 * 2 * 2  # merged rounds, then two groups, two owners each
    assert all(charge["training_s"] > 0 for charge in charges)
    assert [charge["affinity_s"] > 0 for charge in charges] == [True] * 4 + [False] * 4
    assert summary["spent"]["hours"] * 3600 == pytest.approx(sum(row["device_s"] for row in result.rows))
    assert set(torch.load(folder / "model.pt", weights_only=True)) == {"+".join(group) for group in summary["groups"]}


def test_a_run_stops_when_the_loss_gets_no_better() -> None:
    plain: dict[str, Any] = {f"model__{key}": value for key, value in PLAIN.items()}
    config = configured("all_in_one", training__rounds=4, training__optimizer={"lr": 0.0}, **plain)
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"patience": 1})})
    result = train_config(config)
    assert result.stopped == "no better loss in 1 evaluations"
    assert len(result.rows) == 2


def test_one_building_for_each_owner() -> None:
    owners = build(configured(data__num_train=6)).setting.owners
    assert [len(data.shard) for data in owners.values()] == [6, 6]
    first, second = (data.shard.x.numpy() for data in owners.values())
    assert not np.array_equal(first, second)
