"""The samples that a measurement is about: those of the owner, and those of the attacker.

The owner's are the first ones of its shard in an order that the seed gives; the attacker's are disjoint from its shard:
samples that other owners or the test set have, as a stand-in for public data of the same law, or another data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysplit.algorithms.setting import OwnerData
from raysplit.config.run import RunConfig
from raysplit.data.datasets import load_dataset
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform, normalisation
from raysplit.experiment.experiment import Experiment
from raysplit.models.spec import ModelSpec
from raysplit.registry import number_of
from raysplit.seeding import generator, torch_generator

SAME = "same"
"""The attacker's samples are those of the data set that the owner does not hold."""
MOST_AUX = 4000
_LEAST_AUX = 32
_ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True)
class UnitRange:
    """The map between inputs of a model and the unit range, in which pictures are compared.

    Attributes:
        low: the input [...] that is 0 in the unit range.
        span: the difference [...] between the inputs that are 1 and 0.
    """

    low: Tensor
    span: Tensor

    def unit(self, x: Tensor) -> Tensor:
        """Return inputs [n, ...] in the unit range."""
        return ((x.float() - self.low) / self.span).clamp(0, 1)

    def inputs(self, unit: Tensor) -> Tensor:
        """Return what the model takes for samples [n, ...] in the unit range."""
        return unit * self.span + self.low

    @classmethod
    def of(cls, transform: Transform, x: Tensor) -> UnitRange:
        """Take the range from a normalization of pictures, or else from inputs ``x`` [m, ...] of the attacker."""
        normal = normalisation(transform)
        if normal is not None:
            shape = (-1,) + (1,) * (x.ndim - 2)
            mean, std = (torch.tensor(values).view(shape) for values in (normal.mean, normal.std))
            found = cls(low=-mean / std, span=1 / std)
            if found._holds(x):
                return found
        plain = cls(low=torch.zeros(()), span=torch.ones(()))
        if plain._holds(x):
            return plain
        if x.ndim == 4:
            low, high = x.min(), x.max()
        else:
            low, high = x.amin(dim=0), x.amax(dim=0)
        return cls(low=low.float(), span=(high - low).float().clamp(min=1e-6))

    def _holds(self, x: Tensor) -> bool:
        unit = (x.float() - self.low) / self.span
        return bool(unit.min() >= -_ROUNDING and unit.max() <= 1 + _ROUNDING)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Samples in the unit range.

    Attributes:
        x: the samples [n, ...].
        y: their class labels [n]; None where there is no single class label.
    """

    x: Tensor
    y: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True, eq=False)
class Samplings:
    """All samples of a measurement.

    Attributes:
        victims: those of the owner that are attacked.
        indices: their positions in the owner's shard.
        aux: those of the attacker.
        aux_name: ``same``, or the name of the attacker's data set.
        unseen: test samples, which nobody was trained on.
        unit: the map to the unit range.
    """

    victims: Rows
    indices: Tensor
    aux: Rows
    aux_name: str
    unseen: Rows
    unit: UnitRange


def sampled(
    experiment: Experiment, config: RunConfig, owner: str, spec: ModelSpec, *, rows: int, aux: str, seed: int
) -> Samplings:
    """Choose the samples of a measurement of one owner.

    Raises:
        ValueError: the data have tokens or several inputs, or no samples are left for the attacker.
    """
    require_rows(spec)
    data = experiment.setting.owners[owner]
    order = generator(seed, owner, "leak", "victims").permutation(len(data.shard))[:rows]
    victims = _drawn(data.shard, order, data.eval_transform, spec)
    unseen = [_drawn(held, np.arange(len(held)), data.eval_transform, spec) for held in _tests(experiment, owner)]
    others = _of_others(experiment, owner, data, spec, seed) if aux == SAME else [_named(config, aux, spec, seed)]
    known = _capped([*others, *unseen] if aux == SAME else others, seed)
    if len(known[0]) < _LEAST_AUX:
        raise ValueError(
            f"attackers learn from samples of their own, and only {number_of(len(known[0]), 'sample')} of these data "
            f"are not {owner}'s; give more test samples or another set of such inputs: --aux NAME"
        )
    unit = UnitRange.of(data.eval_transform, known[0])
    return Samplings(
        victims=Rows(x=unit.unit(victims[0]), y=victims[1]),
        indices=torch.from_numpy(order),
        aux=Rows(x=unit.unit(known[0]), y=known[1]),
        aux_name=aux,
        unseen=_rows(unseen, unit, known[0]),
        unit=unit,
    )


def require_rows(spec: ModelSpec) -> None:
    """Raise ``ValueError`` unless the model takes one floating input of a fixed shape."""
    inputs = dict(spec.inputs)
    if spec.input_shape and len(inputs) <= 1 and all(entry.dtype.is_floating_point for entry in inputs.values()):
        return
    kinds = ", ".join(f"{name} ({entry.dtype}, {list(entry.shape)})" for name, entry in inputs.items())
    raise ValueError(
        f"reconstructions are measured for one input of numbers with a fixed shape, and this model takes {kinds}; for "
        f"tokens and several inputs no attack is built yet"
    )


_Drawn = tuple[Tensor, Tensor | None]


def _drawn(samples: Samples, indices: np.ndarray, transform: Transform, spec: ModelSpec) -> _Drawn:
    taken = samples.take(indices)
    gen = torch_generator(spec.seed, "leak", "transform")
    x = spec.cast(transform(taken.x, gen))
    assert isinstance(x, Tensor)
    y = taken.y
    is_class = isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()
    return x.float(), y.long() if is_class and isinstance(y, Tensor) and bool((y >= 0).all()) else None


def _tests(experiment: Experiment, owner: str) -> list[Samples]:
    """Return the test samples of the run, from the parties that evaluate."""
    parties = [party.arguments for party in experiment.setting.evaluators]
    found = [given["samples"] for given in parties if "samples" in given]
    if not found:
        found = [domain.samples for given in parties for domain in given.get("domains", ()) if domain.owner == owner]
    own = experiment.setting.owners[owner].test
    return found or ([own] if own is not None else [])


def _of_others(experiment: Experiment, owner: str, own: OwnerData, spec: ModelSpec, seed: int) -> list[_Drawn]:
    """Return samples of other owners that this one does not hold, as it would see them."""
    parts = dict(zip(experiment.setting.owners, experiment.parts, strict=False))
    held = set(parts.get(owner, ()))
    found = []
    for name, data in experiment.setting.owners.items():
        indices = parts.get(name)
        keep = [i for i in range(len(data.shard)) if indices is None or indices[i] not in held]
        if name != owner and keep:
            chosen = generator(seed, owner, "leak", "aux", name).permutation(np.array(keep))[:MOST_AUX]
            found.append(_drawn(data.shard, chosen, own.eval_transform, spec))
    return found


def _named(config: RunConfig, name: str, spec: ModelSpec, seed: int) -> _Drawn:
    data = load_dataset(name, root=config.data.root, download=config.data.download, augment=False)
    if data.input_shape != spec.input_shape:
        raise ValueError(
            f"--aux {name} has samples of shape {list(data.input_shape)} and the model takes {list(spec.input_shape)}; "
            f"name a set of the same shape"
        )
    order = generator(seed, "leak", "aux").permutation(len(data.train))[:MOST_AUX]
    return _drawn(data.train, order, data.eval_transform, spec)


def _capped(found: Sequence[_Drawn], seed: int) -> _Drawn:
    if not found:
        return torch.zeros(0), None
    x = torch.cat([x for x, _ in found])
    labels = [y for _, y in found if y is not None]
    order = torch.from_numpy(generator(seed, "leak", "aux order").permutation(len(x))[:MOST_AUX])
    return x[order], torch.cat(labels)[order] if len(labels) == len(found) else None


def _rows(found: Sequence[_Drawn], unit: UnitRange, like: Tensor) -> Rows:
    if not found:
        return Rows(x=like[:0])
    labels = [y for _, y in found if y is not None]
    return Rows(
        x=unit.unit(torch.cat([x for x, _ in found])), y=torch.cat(labels) if len(labels) == len(found) else None
    )
