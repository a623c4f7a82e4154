"""Whether model, loss, data and batches fit together, tried on two samples before anything is started."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from raysplit.actors.parts.leaves import as_tuple
from raysplit.actors.parts.losses import cross_entropy, resolve_loss, wire_labels
from raysplit.actors.steps.vectorized import require_steady
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import Cut, Setting
from raysplit.data.inputs import feed
from raysplit.data.samples import Samples
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws
from raysplit.tasks import SeveralTasks, Task
from raysplit.tasks.outputs import as_tensors

logger = logging.getLogger(__name__)

_TOO_FEW = "Expected more than 1 value per channel"  # how torch's normalizations refuse a batch of one sample


def refuse_unfit(algorithm: Algorithm) -> None:
    """Raise ``ValueError`` for a loss or a last batch with which training would fail, with the way out."""
    refuse_unfit_loss(algorithm.setting)
    refuse_single_samples(algorithm)
    refuse_unstackable(algorithm.setting)


def refuse_unstackable(setting: Setting) -> None:
    """Raise ``ValueError`` where owners cannot be computed at once and ``training.vectorize`` asks for it."""
    if setting.vectorize == 1:
        return
    reasons = [
        (setting.precision != "full", "model.precision is bf16"),
        (setting.recompute, "model.recompute is true"),
        (setting.is_guarded, "owners have guards (privacy), which see the passes of each owner"),
        (setting.device != "cpu", f"the device is {setting.device}, and stacked kernels are tried on processors alone"),
    ]
    for applies, what in reasons:
        if applies:
            raise ValueError(
                f"training.vectorize is {setting.vectorize}, and {what}, which do not go together; leave one of them "
                f"out"
            )
    found = _two_samples(setting)
    if found is None:
        raise ValueError(
            f"training.vectorize is {setting.vectorize}, and no samples are here on which to try the model stacked, "
            f"since owners read their own; leave it out"
        )
    rows = max(max(setting.training.batch_sizes(setting.num_samples(owner))) for owner in setting.owners)
    x, y = (pytree.tree_map(lambda two: _repeated(two, rows), value) for value in (found[0], wire_labels(found[1])))
    require_steady(setting.spec.build(), x, y, resolve_loss(setting.training.loss))


def _repeated(two: Tensor, rows: int) -> Tensor:
    """Repeat samples until there are so many."""
    return two[torch.arange(rows) % len(two)]


def refuse_unfit_loss(setting: Setting) -> None:
    """Raise ``ValueError`` for a loss that does not take the model's outputs and the targets of the data."""
    found = _two_samples(setting)
    if found is None:
        return
    x, targets = found
    name, loss = setting.training.loss, resolve_loss(setting.training.loss)
    model = setting.spec.build().eval()
    with torch.no_grad(), keyed_draws(setting.seed):
        outputs = feed(model, x)
        if isinstance(loss, Task):
            _try_task(loss, outputs, targets)
            return
        what = f"training.loss is {name}, the model's outputs are {_shown(outputs)} and the targets {_shown(targets)}"
        if loss is cross_entropy and isinstance(outputs, Tensor) and outputs.ndim > 1:
            _require_classes(outputs.shape[1], setting.spec, what)
        try:
            with warnings.catch_warnings(), torch.enable_grad():  # so that a loss that cuts the gradient off shows
                warnings.filterwarnings("error", message="Using a target size")  # torch's word for what broadcasts
                loss(_with_gradient(outputs), wire_labels(targets))
        except Exception as error:
            raise ValueError(f"{what}: {error}") from error
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and _broadcasts(loss, outputs, targets):
        logger.warning(
            "%s: the loss of two samples is not the mean of their losses, as where [2, 1] and [2] broadcast to [2, 2]; "
            "if it does not compare samples on purpose, let the model return one number per sample without a dimension",
            what,
        )


def _try_task(task: Task, outputs: Any, targets: Any) -> None:
    """Raise ``ValueError`` where the task cannot compare the model's outputs with the targets of two samples."""
    output = task.answered(outputs)
    if isinstance(task, SeveralTasks) and (missing := [name for name in task.tasks if name not in output]):
        raise ValueError(
            f"the model returns {', '.join(as_tensors(outputs))}, and no entry for the task {missing[0]!r}; let it "
            f"return one for each task, or leave the task out of the data"
        )
    for name, own in task.each if isinstance(task, SeveralTasks) else ():
        try:
            _try_task(own, output[name], targets[name])
        except ValueError as error:
            raise ValueError(f"the task {name!r}: {error}") from error
    try:
        with torch.enable_grad():
            task(_with_gradient(output), wire_labels(targets))
        task.figures(task.sums(output, targets))
    except Exception as error:
        raise ValueError(
            f"task is {task.kind}, the model's outputs are {_shown(output)} and the targets {_shown(targets)}: {error}"
        ) from error


def _broadcasts(loss: Any, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a loss seems to compare each output [B, 1] with each target [B]."""
    if outputs.shape[1:] != (1,) or targets.ndim != 1:
        return False
    made, right = torch.arange(2.0, dtype=outputs.dtype)[:, None], wire_labels(torch.arange(2).to(targets.dtype))
    try:
        with torch.no_grad():
            together = float(loss(made, right))
            alone = sum(float(loss(made[row : row + 1], right[row : row + 1])) for row in range(2)) / 2
    except Exception:
        return False
    return abs(together - alone) > 1e-4 * max(1.0, abs(alone))


def _with_gradient(outputs: Any) -> Any:
    """Return outputs of which a loss can take the gradient, as in training: no leaves, which it may not write to."""
    if isinstance(outputs, Mapping):
        return {task: _with_gradient(value) for task, value in outputs.items()}
    is_float = isinstance(outputs, Tensor) and outputs.is_floating_point()
    return outputs.detach().requires_grad_().clone() if is_float else outputs


def _two_samples(setting: Setting) -> tuple[Any, Any] | None:
    """Transform two samples of the test set, or of an owner where there is none; None if no samples are at hand."""
    if setting.evaluators:
        given = setting.evaluators[0].arguments
        view = given["domains"][0] if "domains" in given else None
        samples, transform = (view.samples, view.transform) if view else (given["samples"], given["transform"])
    else:
        data = next(iter(setting.owners.values()))
        samples, transform = data.shard, data.eval_transform
    if not isinstance(samples, Samples):
        return None
    two = samples.take(range(min(2, len(samples))))
    return setting.spec.cast(transform(two.x, torch.Generator().manual_seed(0))), two.y


def _require_classes(num_outputs: int, spec: ModelSpec, what: str) -> None:
    if num_outputs < spec.num_classes:
        raise ValueError(
            f"{what}: the data have {spec.num_classes} classes, and cross_entropy needs an output for each; use a "
            f"model with {spec.num_classes} outputs"
        )


def _shown(values: Any) -> str:
    if isinstance(values, Mapping):
        return ", ".join(f"{task} {_shown(value)}" for task, value in values.items())
    return " and ".join(f"{str(v.dtype).removeprefix('torch.')} {list(v.shape)}" for v in as_tuple(values))


def refuse_single_samples(algorithm: Algorithm) -> None:
    """Raise ``ValueError`` if an owner has a batch of one sample and the model cannot train on one."""
    setting = algorithm.setting
    sizes = {name: setting.num_samples(name) for name in setting.owners}
    context = algorithm.context(0, list(sizes))
    single = [
        name
        for name, size in sizes.items()
        if size and algorithm.local_training(name).smallest_batch(size, context.steps(name)) == 1
    ]
    for owner, cause in _causes(algorithm, single).items():
        rules, size = algorithm.local_training(owner), sizes[owner]
        if size == 1 or rules.batch_size == 1:
            why = f"{owner} has {size} sample{'s' if size > 1 else ''} in batches of {rules.batch_size}"
            way_out = (
                "a partition that gives each owner more samples, or fewer owners" if size == 1 else "larger batches"
            )
        else:
            why = f"{owner} has {size} samples, of which batches of {rules.batch_size} leave one for the last batch"
            way_out = "training.last_batch: merge or drop, or another training.batch_size"
        raise ValueError(f"{why}, and {cause} cannot train on one sample; use {way_out}, or a model without batch norm")


def _causes(algorithm: Algorithm, owners: Sequence[str]) -> dict[str, str]:
    """Return by owner the layer that cannot train on one sample of it, for owners that have one."""
    found: dict[tuple[ModelSpec, tuple[Cut, ...]], str] = {}
    causes = {}
    for owner in owners:
        spec, cuts = key = algorithm.seen_alone(owner)
        if key not in found:
            found[key] = _failing_layer(spec.parts(cuts)[0] if cuts else spec.build(), spec, algorithm.setting.seed)
        if found[key]:
            causes[owner] = found[key]
    return causes


def _failing_layer(model: nn.Module, spec: ModelSpec, seed: int) -> str:
    """Train-mode forward pass of one example sample; return the layer that cannot do it, or an empty text."""
    with torch.no_grad(), keyed_draws(seed):
        try:
            feed(model.train(), spec.example(1))
        except ValueError as error:
            if not str(error).startswith(_TOO_FEW):
                raise
            norms = [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
            return f"the model's normalization ({norms[0]})" if norms else "the model's normalization"
    return ""
