"""Metrics of a round on samples for testing and for choosing, the best round, and when a run stops early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import pstdev
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.at_cuts import AtCuts
from raysplit.actors.verbs import DomainEvaluatorHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import Setting
from raysplit.cluster.contract import Promise, gather
from raysplit.experiment.rules import EvaluationRules
from raysplit.runs.folder import table_of
from raysplit.runs.metric import ACCURACY, LOSS, TASK_METRIC, Metric, primary
from raysplit.tasks import SeveralTasks, Task
from raysplit.training.evaluating import Tested

Row = dict[str, Any]


def evaluation_row(found: Tested, task: Task | None = None, naive: Mapping[str, float] = MappingProxyType({})) -> Row:
    """Return the columns of an evaluation: the means over the models, whose samples they are of, and the owners'.

    A run with a task has its figures, ``primary`` with its name and direction, and beside it the same figure of a model
    that ignores its inputs, ``primary_naive``. One with several tasks says the name of each one's own primary figure.

    Beside ``test_accuracy`` and ``test_loss`` there are, where it is known whose the samples are, the mean, the worst
    and the standard deviation over the owners, each on its own samples: of the accuracy, or of the loss where tasks
    have no class labels.
    """
    row = tested(found.evaluations, task) | {"tested_on": found.on} | _by_owner(found, task)
    return row | _primary(row, task, naive) if task is not None else row


def _primary(row: Row, task: Task, naive: Mapping[str, float]) -> Row:
    found: Row = {"primary_metric": task.primary, "primary_better": task.directions[task.primary]}
    if f"test_{task.primary}" in row:
        found["primary"] = row[f"test_{task.primary}"]
    if task.primary in naive:
        found["primary_naive"] = naive[task.primary]
    if isinstance(task, SeveralTasks):
        found |= {f"{TASK_METRIC}{name}": own.primary for name, own in task.each}
    return found | {f"naive_{name}": value for name, value in naive.items() if name in task.directions}


def tested(evaluations: Sequence[Evaluation], task: Task | None) -> Row:
    """Return the mean accuracy and loss over the models; with several tasks, the total loss and the loss of each task.

    The metrics of a task that several models answer are the means over these models. Where tasks have class labels, the
    accuracy is the mean over the tasks.
    """
    if task is not None:
        means = task.mean_figures([task.figures(evaluation.sums) for evaluation in evaluations])
        lowest = _lowest([evaluation.accuracy for evaluation in evaluations if evaluation.num_correct is not None])
        return {f"test_{name}": value for name, value in means.items()} | lowest
    if any(evaluation.task_loss_sums for evaluation in evaluations):
        return _task_row(evaluations)
    accuracies = [evaluation.accuracy for evaluation in evaluations if evaluation.num_correct is not None]
    losses = [evaluation.loss for evaluation in evaluations]
    row = {"test_accuracy": sum(accuracies) / len(accuracies)} if accuracies else {}
    row |= {"test_loss": sum(losses) / len(losses)}
    return row | _lowest(accuracies)


def _lowest(accuracies: Sequence[float]) -> Row:
    return {"min_accuracy": min(accuracies)} if len(accuracies) > 1 else {}


def _task_row(evaluations: Sequence[Evaluation]) -> Row:
    losses = _means([evaluation.task_losses for evaluation in evaluations])
    right = _means([evaluation.task_accuracies for evaluation in evaluations])
    row = {"test_accuracy": sum(right.values()) / len(right)} if right else {}
    row |= {f"test_accuracy_{task}": share for task, share in right.items()}
    return row | {"test_loss": sum(losses.values())} | {f"test_loss_{task}": loss for task, loss in losses.items()}


def _means(of_models: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for by_task in of_models:
        for task, value in by_task.items():
            values.setdefault(task, []).append(value)
    return {task: sum(found) / len(found) for task, found in values.items()}


def _by_owner(found: Tested, task: Task | None) -> Row:
    rows = [tested(evaluations, task) for evaluations in found.by_owner.values()]
    metric = primary(rows) if task is None else Metric(name=task.primary, better=task.directions[task.primary])
    values = [value for row in rows if (value := metric.of(row)) is not None and not math.isnan(value)]
    if not values:
        return {}
    worst = min(values) if metric.better == "higher" else max(values)
    figures = sum(values) / len(values), worst, pstdev(values)
    return {"owners_tested": len(values), **dict(zip(metric.owner_columns, figures, strict=True))}


def owner_table(found: Tested, setting: Setting, majority: Mapping[str, float]) -> pa.Table:
    """Return a table with one row per tested owner, the content of ``owners.parquet``.

    Args:
        found: the evaluations.
        setting: the setting of the run, with all its owners.
        majority: by owner, the accuracy of guessing the majority label.
    """
    rows = []
    for name, evaluations in found.by_owner.items():
        sizes = {"train_samples": setting.num_samples(name), "test_samples": evaluations[0].num_samples}
        control = {"majority_accuracy": majority[name]} if name in majority else {}
        rows.append({"owner": name, **sizes, **tested(evaluations, setting.task), **control})
    return table_of(rows)


def task_summary(task: Task | None) -> Row:
    """Return what the summary keeps of a task: its figures' directions, and the units in which a regression answers."""
    if task is None:
        return {}
    if not isinstance(task, SeveralTasks):
        return {"task": _summary(task) | task.units()}
    each = zip(task.each, task.weights, strict=True)
    own = {name: _summary(one) | one.units() | {"weight": weight} for (name, one), weight in each}
    return {"task": _summary(task) | {"tasks": own}}


def _summary(task: Task) -> Row:
    return {"kind": task.kind, "loss": task.loss, "primary": task.primary, "better": task.directions[task.primary]}


def is_best(before: Sequence[Row], row: Row, rules: EvaluationRules) -> bool:
    """Return whether a row has an evaluation that is better than all before it."""
    metric = primary([*before, row], rules.metric)
    found = metric.merit(row)
    return found is not None and all(found > other for r in before if (other := metric.merit(r)) is not None)


def wanted_targets(rules: EvaluationRules) -> list[float]:
    """Return the values of the primary metric for which the summary has steps and bytes, rising."""
    stops = (rules.target, rules.target_accuracy, rules.target_loss)
    return sorted({*rules.targets, *(target for target in stops if target is not None)})


def stop_reason(rows: Sequence[Row], rules: EvaluationRules) -> str | None:
    """Return why a run should stop before its last round; None where it should not."""
    metric = primary(rows, rules.metric)
    evaluated = [merit for row in rows if (merit := metric.merit(row)) is not None]
    if not evaluated or metric.merit(rows[-1]) is None:
        return None
    if rules.target_accuracy is not None and ACCURACY.is_reached(rows[-1], rules.target_accuracy):
        return f"target accuracy {rules.target_accuracy:g} reached"
    if rules.target_loss is not None and LOSS.is_reached(rows[-1], rules.target_loss):
        return f"target loss {rules.target_loss:g} reached"
    if rules.target is not None and metric.is_reached(rows[-1], rules.target):
        return f"target {metric.name} {rules.target:g} reached"
    patience = rules.patience
    if patience is not None and len(evaluated) > patience and max(evaluated[-patience:]) <= max(evaluated[:-patience]):
        return f"no better {metric.name} in {patience} evaluations"
    return None


async def validated(
    algorithm: Algorithm, models: Mapping[str, Sequence[Promise[Weights]]], at_cuts: AtCuts | None
) -> Row:
    """Return the columns ``val_loss``, ``val_accuracy`` and so on; empty where owners set nothing aside.

    Every model is evaluated on the samples of its own owners, and the figures are the means over the owners, alike for
    models of all owners and of single ones.

    Args:
        algorithm: the algorithm, attached to its parties.
        models: the promised states of each model by label, as `Algorithm.models` returns them.
        at_cuts: codecs at the cuts of the models; None evaluates them without.
    """
    setting = algorithm.setting
    held = {party.name: [domain.owner for domain in party.arguments["domains"]] for party in setting.own_validators}
    if not held:
        return {}
    asked: list[Promise[Evaluation]] = []
    for label, states in models.items():
        served = set(algorithm.owners_of(label))
        for name, owners in held.items():
            own = [owner for owner in owners if owner in served]
            handle: DomainEvaluatorHandle = algorithm.handles[name]
            if own:
                asked.append(handle.evaluate(*states, spec=algorithm.spec_of(label), at_cuts=at_cuts, owners=own))
    by_owner: dict[str, list[Evaluation]] = {name: [] for name in setting.owners}
    for found in await gather(*asked):
        for owner, evaluation in found.by_domain.items():
            by_owner[owner].append(evaluation)
    row = tested([evaluation for own in by_owner.values() for evaluation in own], setting.task)
    return {f"val_{name.removeprefix('test_')}": row[name] for name in row if name.startswith("test_")}
