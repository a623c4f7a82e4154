"""What crosses the cuts of a model that is trained on an owner's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import as_tuple, gradients, leaves
from raysplit.actors.parts.losses import resolve_loss, wire_labels
from raysplit.cluster.links.kinds import Kind
from raysplit.data.inputs import feed
from raysplit.data.transforms import transformed
from raysplit.experiment.experiment import Experiment
from raysplit.models.backward import backward
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.optimizer_step import use_up_gradients
from raysplit.seeding import derive, generator, keyed_draws


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Tensors that cross together.

    Attributes:
        kind: kind of value.
        cut: number of the cut, counted from 0; -1 for weights.
        tensors: the tensors of one batch, or of one model.
    """

    kind: Kind
    cut: int
    tensors: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Their size without a codec."""
        return sum(tensor.nbytes for tensor in self.tensors)


def crossings(experiment: Experiment, *, steps: int) -> list[Crossing]:
    """Train the model for some steps on the first owner's samples, and return what crosses in the step after them.

    Smashed data and gradients are those of one batch at each cut, weights the difference that these steps have made.
    The optimizer is the run's.
    """
    algorithm, setting = experiment.begin(), experiment.setting
    name, data = next(iter(setting.owners.items()))
    parts = setting.spec.parts(algorithm.placed_cuts)
    before = {key: value.clone() for part in parts for key, value in part.state_dict().items()}
    built = [setting.optimizer.build(part.parameters()) for part in parts]
    optimizers = [optimizer for optimizer in built if optimizer is not None]
    loss, size = resolve_loss(setting.training.loss), min(setting.training.batch_size, len(data.shard))
    draws = generator(setting.seed, "codecs", "batches")
    found: list[Crossing] = []
    for step in range(steps + 1):
        indices = torch.from_numpy(draws.permutation(len(data.shard))[:size])
        samples = data.shard.take(indices)

        def stream(step: int = step) -> int:
            return derive(setting.seed, name, "codecs", step)

        x = setting.spec.cast(transformed(samples.x, data.transform, stream))
        with keyed_draws(stream()):
            found = _step(parts, x, wire_labels(samples.y), loss, isinstance(setting.spec, ClassifierSpec))
        for optimizer in optimizers if step < steps else ():
            use_up_gradients(optimizer)
    after = {key: value for part in parts for key, value in part.state_dict().items()}
    changes = [after[key] - before[key] for key in after if after[key].is_floating_point()]
    return [*found, Crossing(kind="weights", cut=-1, tensors=tuple(changes))]


def _step(parts: Sequence[nn.Module], x: Any, y: Any, loss: Any, has_heads: bool) -> list[Crossing]:
    """Run one batch forward and backward, and return what crosses each cut."""
    for part in parts:
        part.zero_grad()
    made: list[Any] = [feed(parts[0], x)]
    sent: list[tuple[Tensor, ...]] = []
    if has_heads and len(parts) > 1:
        sent.append(leaves(made[0]))
        outputs: Any = {task: output for heads in parts[1:] for task, output in heads(*sent[0]).items()}
    else:
        for part in parts[1:]:
            sent.append(leaves(made[-1]))
            made.append(part(*sent[-1]))
        outputs = made.pop()
    loss(outputs, y).backward()
    for z, arrived in reversed([*zip(made, sent, strict=True)]):
        pairs = [(t, g) for t, g in zip(as_tuple(z), as_tuple(gradients(arrived)), strict=True) if t.requires_grad]
        if pairs:
            backward([t for t, _ in pairs], [g for _, g in pairs])
    smashed = [Crossing(kind="smashed", cut=i, tensors=tuple(t.detach() for t in z)) for i, z in enumerate(sent)]
    return smashed + [Crossing(kind="gradients", cut=i, tensors=as_tuple(gradients(z))) for i, z in enumerate(sent)]
