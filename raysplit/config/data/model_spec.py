"""The model of a run, as its settings and its data describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.algorithms import resolve_algorithm
from raysplit.config.data.tasks import HEADS, task_settings
from raysplit.config.run import RunConfig
from raysplit.data.inputs import with_sent
from raysplit.data.samples import DataSet
from raysplit.experiment.several.tasks import several_tasks
from raysplit.given import held, is_given
from raysplit.models.classifier.heads import OF_HEADS
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.models.given_model import GivenModel
from raysplit.models.sources.hugging_face import found_weights, resolved
from raysplit.models.spec import ModelSpec
from raysplit.tasks import SeveralTasks


def model_spec(config: RunConfig, data: DataSet) -> ModelSpec:
    """Describe the model for the data.

    Where samples have a target per task, it has one head or decoder per task, or the outputs of all side by side.
    """
    fields: dict[str, Any] = {
        "name": resolved(config.model.name),
        "inputs": with_sent(data.inputs, config.model.send_inputs),
        "num_classes": data.num_classes,
        "sizes": data.sizes,
        "options": config.model.options,
        "seed": config.seed,
        "dtype": config.model.dtype,
        "front_end": config.model.front_end,
        "tuning": replace(config.model.tuning(), folder=found_weights(config.model.name)),
        "ends": "together" if resolve_algorithm(config.algorithm.name).keeps_both_ends else "apart",
        "given": GivenModel(held(config.model.name)) if is_given(config.model.name) else None,
    }
    if isinstance(data.train.y, Tensor):
        return ModelSpec(**fields)
    several = several_tasks(task_settings(config), data, config.data.name)
    if several is not None and config.model.name != HEADS:
        return ModelSpec(**fields | {"num_classes": sum(task.num_outputs for _, task in several.each)})
    if several is not None:
        return ClassifierSpec(**fields | {"options": _head_options(config, _names(several, data)) | _kinds(several)})
    if data.classes is not None and data.classes.keys() == data.train.y.keys():
        return ClassifierSpec(**fields | {"options": _head_options(config, data.classes)})
    if config.training.loss == "cross_entropy":
        raise ValueError(
            f"data {config.data.name!r} have a target for each of the tasks {', '.join(data.train.y)}, for which there "
            "is no single cross-entropy; set training.loss to task_sum for dense tasks, or say the kind of each with "
            "data.tasks"
        )
    fields["options"] = {**config.model.options, "tasks": tuple(data.train.y)}
    return MultiTaskSpec(**fields)


def _names(several: SeveralTasks, data: DataSet) -> dict[str, tuple[str, ...]]:
    """Name the outputs of each head: the classes of the data, or else numbers."""
    names = data.classes or {}
    return {
        name: names[name]
        if task.kind == "classification" and name in names
        else tuple(map(str, range(task.num_outputs)))
        for name, task in several.each
    }


def _kinds(several: SeveralTasks) -> dict[str, Any]:
    """Return the option of a model with heads that says which are no classifications; empty where all are."""
    kinds = [(name, task.kind) for name, task in several.each if task.kind != "classification"]
    for name, kind in kinds:
        if kind not in OF_HEADS:
            raise ValueError(
                f"the task {name!r} is {kind}, and the heads of {HEADS} answer {', '.join(OF_HEADS)}; take a model of "
                f"your own that returns a mapping with an entry for each task, or leave the task out with model.tasks"
            )
    return {"kinds": kinds} if kinds else {}


def _head_options(config: RunConfig, classes: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the options of a multi-task classifier with heads for ``model.tasks``, by default all tasks."""
    options = dict(config.model.options)
    tasks = options.pop("tasks", list(classes))
    unknown = [task for task in tasks if task not in classes]
    if config.model.name != HEADS or unknown or not tasks:
        raise ValueError(
            f"data {config.data.name!r} have a class label for each of the tasks {', '.join(classes)}; set model.name "
            f"to multi_task and model.tasks to some of them, got {config.model.name!r} and {tasks}"
        )
    if options.get("weights"):  # every party reads the file from its own working directory
        options["weights"] = str(Path(options["weights"]).resolve())
    return options | {"classes": [(task, classes[task]) for task in tasks]}
