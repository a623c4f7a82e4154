"""Estimate of the memory of a run before it starts: weights, gradients, optimizers, activations and processes.

The activations are the outputs of all layers for a batch, without the buffers of kernels; a process counts with the
memory that importing torch takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raysplit.actors.parts.leaves import as_tuple
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.owner_store import STORE
from raysplit.actors.parts.stage import PartRecipe
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.codecs.memory import Remembered, Skip
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.links.tensors import num_bytes
from raysplit.data.inputs import feed
from raysplit.data.samples import Samples
from raysplit.experiment.experiment import Experiment
from raysplit.models.optimizer_step import use_up_gradients

_MIB = 2**20
PROCESS_BYTES = 400 * _MIB
"""Private memory of a process that trains, beside what grows with models and data."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Estimated bytes of the models and of the cohort's updates, of the samples and the processes, of what codecs keep
    and send, and of tensors in transit in the object store."""

    models_bytes: int
    samples_bytes: int
    processes_bytes: int
    in_flight_bytes: int
    codecs_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.models_bytes + self.samples_bytes + self.processes_bytes + self.codecs_bytes


class _Resting:
    """The parts of owners that rest between two accesses: few are live, others are packed, in memory up to a limit."""

    def __init__(self) -> None:
        self._owners: set[str] = set()
        self._live_bytes = self._packed_bytes = 0
        self._at_once = 1

    def add(self, owner: str, live_bytes: int, packed_bytes: int, at_once: int) -> None:
        """Add a part of an owner, of which so many are computed at once."""
        self._owners.add(owner)
        self._at_once = max(self._at_once, at_once)
        self._live_bytes += live_bytes
        self._packed_bytes += packed_bytes

    def num_bytes(self, num_places: int) -> int:
        """Return the bytes of all of them in so many processes."""
        num_owners, of_each = max(1, len(self._owners)), self._packed_bytes / max(1, len(self._owners))
        most = max(self._at_once, STORE.max_at_hand, STORE.max_bytes_at_hand / max(1, of_each))
        share = min(1.0, num_places * most / num_owners)
        packed = min(self._packed_bytes * (1 - share), num_places * STORE.max_packed_bytes)
        return round(self._live_bytes * share + packed)


class TooLittleMemory(ValueError):
    """Exception for a run that needs more memory than there is; the message has the numbers and the way out."""


def estimate(
    parties: Sequence[PartySpec],
    *,
    batch_size: int,
    num_owners: int,
    num_places: int,
    all_owners: int | None = None,
    learners: Sequence[PartRecipe] = (),
    rules: LinkRules = PLAIN,
) -> Needs:
    """Estimate the memory of the parties.

    Args:
        parties: the parties.
        batch_size: samples in a mini-batch.
        num_owners: owners that take part in a round; a node has a replica for each, where replicas are equal between
            rounds.
        num_places: processes.
        all_owners: all owners; a node has a replica for each, where a replica keeps momentum or statistics of its own.
        learners: models that every owner builds only later, when its groups of tasks start.
        rules: codecs of the run: error feedback keeps what is left out of every weight of an owner, and a codec that
            remembers samples the smashed data of each sample at both ends. Both are in the latest checkpoint too, which
            the coordinator keeps, and in the next one while it is made. Owners keep weights that were coded on their
            way to them, to which their differences are coded.

    An average is formed once all updates of the cohort are there, so they count, and so does their coded form.
    """
    models = samples = crossing = residuals = caches = updates = coded = references = 0
    is_averaged = any(party.role == "aggregator" for party in parties)
    share_of_cohort = min(1.0, num_owners / max(1, all_owners or num_owners))
    is_coded_down = any(p.role == "aggregator" and rules.codec(p.name, "weights") is not None for p in parties)
    resting = _Resting()
    known: dict[str, tuple[list[int], list[int], list[int]]] = {}
    state_copies: dict[str, int] = {}
    for party in parties:
        for recipe in [*recipes_of(party), *(learners if party.role == "owner" else ())]:
            key = f"{recipe.spec} {recipe.cuts}"
            if key not in known:  # most owners share their recipes
                known[key] = _sizes(recipe)
            optimizer = str(recipe.optimizer)
            if optimizer not in state_copies:
                state_copies[optimizer] = _state_copies(recipe.optimizer)
            weights, outputs, sent = known[key]
            copies = 1
            if party.arguments.get("copies") == "per_owner":
                forgets = party.arguments.get("restart_optimizer") or not state_copies[optimizer]
                copies = num_owners if forgets and recipe.buffers == "average" else all_owners or num_owners
            kept = weights[recipe.index] * (2 + state_copies[optimizer])
            live = kept + outputs[recipe.index] * batch_size
            if party.role == "owner" and getattr(party.build, "may_rest", False) and "guard" not in party.arguments:
                stacked = 2 * weights[recipe.index] if recipe.vectorize > 1 else 0  # weights and gradients
                resting.add(party.name, live + stacked, kept - weights[recipe.index], recipe.vectorize)
            else:
                models += copies * live
            crossing = max(crossing, *sent)
            updates += weights[recipe.index] if party.role == "owner" and is_averaged else 0
            if party.role == "owner" and (codec := rules.codec(party.name, "weights")) is not None:
                coded += weights[recipe.index] // 2
                references += weights[recipe.index] if is_coded_down else 0
                residuals += weights[recipe.index] if isinstance(codec, Feedback) else 0
            if party.role == "owner" and isinstance(rules.codec(party.name, "smashed"), Remembered | Skip):
                caches += len(party.arguments["shard"]) * (sent[0] if recipe.index == 0 else 0)
        held = [party.arguments.get(name) for name in ("shard", "samples")]
        samples += sum(num_bytes(each.x) for each in held if isinstance(each, Samples))  # others are read elsewhere
    kept = residuals + 2 * caches
    return Needs(
        models_bytes=models + resting.num_bytes(num_places) + round(updates * share_of_cohort),
        samples_bytes=samples,
        processes_bytes=num_places * PROCESS_BYTES,
        codecs_bytes=references + 3 * kept + round(coded * share_of_cohort),  # in use, in two checkpoints
        in_flight_bytes=2 * num_owners * crossing * batch_size,  # one batch per owner, forward and back
    )


def expected_needs(
    experiment: Experiment, algorithm: Algorithm, parties: Sequence[PartySpec], resources: Mapping[str, float]
) -> Needs:
    """Estimate the memory of an experiment on a cluster with these Ray resources."""
    options, setting = experiment.cluster, experiment.setting
    places = max(1, int(resources.get("CPU", 1))) if options.places == "auto" else options.places
    return estimate(
        parties,
        batch_size=experiment.batch_size,
        num_owners=setting.cohort.num_drawn(len(setting.owners), setting.cohort_size),
        all_owners=len(setting.owners),
        num_places=len(parties) if options.sharing == "alone" else places,
        learners=algorithm.learners(),
        rules=experiment.link_rules(),
    )


def deployed_parties(algorithm: Algorithm) -> list[PartySpec]:
    """Return all parties that a run deploys at its start: the algorithm's, and those that evaluate."""
    setting = algorithm.setting
    return [*algorithm.parties(), *setting.evaluators, *setting.validators, *setting.own_validators]


def try_parts(parties: Sequence[PartySpec], learners: Sequence[PartRecipe] = ()) -> None:
    """Build every different part once, and run it on an example batch, before anything is started.

    Raises whatever the model raises, and ``ValueError`` where it cannot be cut as it should be.
    """
    tried: set[str] = set()
    for recipe in [recipe for party in parties for recipe in recipes_of(party)] + list(learners):
        key = f"{recipe.spec} {recipe.cuts}"
        if key not in tried:
            tried.add(key)
            _sizes(recipe)


def refuse_too_little(needs: Needs, resources: Mapping[str, float]) -> None:
    """Raise `TooLittleMemory` where a cluster with these Ray resources has too little memory."""
    memory, store = resources.get("memory"), resources.get("object_store_memory")
    kept = f", {_mib(needs.codecs_bytes)} for what codecs keep" if needs.codecs_bytes else ""
    if memory is not None and needs.memory_bytes > memory:
        raise TooLittleMemory(
            f"the run needs about {_mib(needs.memory_bytes)} of memory ({_mib(needs.models_bytes)} for weights, "
            f"optimizers and activations, {_mib(needs.samples_bytes)} for samples, {_mib(needs.processes_bytes)} for "
            f"processes{kept}) and the cluster has {_mib(memory)}; use a smaller training.batch_size, fewer owners or "
            f"cluster.places, or more machines (reliability.preflight: false skips this check)"
        )
    if store is not None and needs.in_flight_bytes > store:
        raise TooLittleMemory(
            f"up to {_mib(needs.in_flight_bytes)} of tensors are in transit at a time and the object store has "
            f"{_mib(store)}; raise cluster.object_store_mib, or use a smaller training.batch_size or cohort_size "
            f"(reliability.preflight: false skips this check)"
        )


def recipes_of(party: PartySpec) -> list[PartRecipe]:
    """Return the recipes of the parts that a party holds, of like ones by owner one."""
    given: Any = party.arguments.get("recipes", party.arguments.get("recipe", ()))
    if isinstance(given, PartRecipe):
        return [given]
    if isinstance(given, Mapping):  # by owner; each kind of part counts as if all owners had it
        return list({(recipe.spec, recipe.cuts, recipe.index): recipe for recipe in given.values()}.values())
    return list(given)


def _sizes(recipe: PartRecipe) -> tuple[list[int], list[int], list[int]]:
    """Return by part the bytes of the weights and, for one sample, of all layers' outputs and of the part's output."""
    spec = recipe.spec
    z: Any = spec.example()
    weights, outputs, sent = [], [], []
    for part in spec.parts(recipe.cuts):
        made: list[int] = []
        hooks = [
            module.register_forward_hook(lambda _, __, output, made=made: made.append(num_bytes(output)))
            for module in part.modules()
            if not list(module.children())
        ]
        with torch.no_grad():
            output = feed(part.eval(), z) if isinstance(z, Mapping) else part.eval()(*as_tuple(z))
        for hook in hooks:
            hook.remove()
        weights.append(num_bytes(part.state_dict()))
        outputs.append(sum(made))
        if isinstance(output, Mapping):  # the answers of heads are not sent; the next heads take the same input
            sent.append(0)
        else:
            z = output
            sent.append(num_bytes(z))
    return weights, outputs, sent[:-1] or [0]


def _state_copies(optimizer: OptimizerSpec) -> int:
    """Return the number of tensors that the optimizer keeps per weight, each of its size."""
    weight = torch.nn.Parameter(torch.zeros(3))
    built = optimizer.build([weight])
    assert built is not None
    weight.grad = torch.zeros(3)
    use_up_gradients(built)  # the optimizer's own step() loads the compiler
    return sum(isinstance(v, Tensor) and v.shape == weight.shape for v in built.state[weight].values())


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"
