"""Controls for the figures of a run: what one gets without looking at the inputs.

The majority label of each owner: for tasks with few labels (Zheng, Eryilmaz, 2024, arXiv 2406.00150) a high accuracy
proves little by itself, because an owner with one label is always right.

The naive model of a task: it always gives what the training targets of all owners say, the commonest class, the mean,
the tokens' frequencies. The sums that this takes are a statistic of the owners' targets, as the class counts of
``data.json`` are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor

from raysplit.algorithms.setting import OwnerData
from raysplit.cluster.contract import PartySpec
from raysplit.data.samples import Samples
from raysplit.data.targets.of_samples import kind_of, statistic_of, targets_of
from raysplit.experiment.experiment import Experiment
from raysplit.tasks import Task
from raysplit.tasks.task import Sums, added
from raysplit.training.evaluating import Tested
from raysplit.training.metrics import Row, evaluation_row

logger = logging.getLogger(__name__)


class Controls:
    """The columns of an evaluation with the controls of a run, which are computed once.

    Attributes:
        majority: by owner, the accuracy of guessing its majority label.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._task = experiment.setting.task
        self._naive = naive_figures(experiment)
        self.majority = majority_accuracies(experiment.setting.owners)

    def row(self, tested: Tested) -> Row:
        """Return the columns of an evaluation; whose test targets leave a figure open is told in the log."""
        if self._task is not None:
            _tell_open(self._task, tested)
        return evaluation_row(tested, self._task, self._naive) | majority_row(self.majority, tested.by_owner)

    def uncoded(self, tested: Tested) -> Row:
        """Return the columns of an evaluation without the codecs at the cuts."""
        row = evaluation_row(tested, self._task)
        return {f"{key}_uncoded": row[key] for key in ("test_accuracy", "test_loss", "primary") if key in row}


def _tell_open(task: Task, tested: Tested) -> None:
    """Warn of owners whose test targets do not determine a figure: R2 of a constant, or nothing that counts."""
    for whose, evaluations in {"the test set": tested.evaluations, **tested.by_owner}.items():
        for evaluation in evaluations:
            figures = task.figures(evaluation.sums)
            if not figures:
                logger.warning("%s has no target that counts, so that it has no figures", whose)
            elif math.isnan(figures.get("r2", 0.0)):
                logger.warning("the targets of %s are constant, so that its R2 is NaN", whose)


def majority_accuracies(owners: Mapping[str, OwnerData]) -> dict[str, float]:
    """Return the accuracy, on its own test samples, of always guessing an owner's most frequent training label.

    Owners without test samples of their own, with samples that do not have a single class label, or whose training
    samples only they read, have none.
    """
    shares = {}
    for name, data in owners.items():
        if data.test is None or not isinstance(data.shard, Samples):
            continue
        y, test_y = data.shard.y, data.test.y
        if isinstance(y, Tensor) and isinstance(test_y, Tensor) and kind_of(data.shard) == "classification":
            shares[name] = float((test_y == y.mode().values).double().mean())
    return shares


def majority_row(shares: Mapping[str, float], tested: Collection[str]) -> dict[str, float]:
    """Return the column for a round: the mean over the owners that were tested on their own samples."""
    found = [share for name, share in shares.items() if name in tested]
    return {"majority_accuracy": sum(found) / len(found)} if found else {}


def naive_figures(experiment: Experiment) -> dict[str, float]:
    """Return the figures on the test samples of the run by name; empty where they are left out.

    They are left out without a task, by ``evaluation.naive``, where the task has too many outputs, and where owners
    read their targets themselves.
    """
    setting = experiment.setting
    task = setting.task
    shards = [owner.shard for owner in setting.owners.values()]
    is_here = all(isinstance(shard, Samples) for shard in shards)
    if task is None or not experiment.evaluation.naive or not task.has_naive or not is_here:
        return {}
    return _figures(task, statistic_of(task, shards), list(_tests(setting.evaluators)) or _own(experiment))


def _figures(task: Task, statistic: Sums, tests: list[Samples]) -> dict[str, float]:
    sums: Sums = {}
    for samples in tests:
        for y in targets_of(samples):
            sums = added(sums, task.naive(statistic, y))
    return task.naive_figures(sums) if sums else {}


def _tests(evaluators: tuple[PartySpec, ...]) -> Iterator[Samples]:
    for party in evaluators:
        if "samples" in party.arguments:
            yield party.arguments["samples"]
        else:
            yield from (domain.samples for domain in party.arguments["domains"])


def _own(experiment: Experiment) -> list[Samples]:
    return [owner.test for owner in experiment.setting.owners.values() if owner.test is not None]
