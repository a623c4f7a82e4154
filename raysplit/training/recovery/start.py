"""Where an interrupted run goes on, and whether what was kept fits the parties that it is loaded into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.actors.guarding.owner import GUARD
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.arriving.errors import BadValue
from raysplit.experiment.fingerprint import fingerprint, numbers_depend_on
from raysplit.models.adapters.weights import digest
from raysplit.models.spec import ModelSpec
from raysplit.registry import shown
from raysplit.runs.records.files import set_aside
from raysplit.runs.records.read import read_rows
from raysplit.training.recovery.checkpoint import Checkpoint, CheckpointRefused, Checkpoints

WAY_OUT = "or train from the first round with --from-start (from_start=True), which sets aside what is there"


def start_of(plain: Mapping[str, Any], folder: Path, checkpoints: Checkpoints) -> Checkpoint | None:
    """Return the checkpoint that the run in a folder goes on from; None where no round has been finished.

    Args:
        plain: the plain description of the run.
        folder: its run folder.
        checkpoints: its checkpoints.

    Raises:
        ValueError: rounds or checkpoints are there, and none can be used. Nothing has been changed then.
    """
    try:
        found = checkpoints.newest(fingerprint(plain), numbers_depend_on(plain))
    except CheckpointRefused as refused:
        way_out = f"put back the settings or files that they were written with, {WAY_OUT}"
        raise CheckpointRefused(f"{refused}\n{way_out}") from refused
    if found is None and (rows := read_rows(folder)):
        reason = (
            "reliability.checkpoint_every is null"
            if plain["reliability"]["checkpoint_every"] is None
            else "put them back there if they are elsewhere"
        )
        raise ValueError(
            f"{folder} has {len(rows)} finished rounds and there are no checkpoints in {checkpoints.location} to go on "
            f"from: {reason}, {WAY_OUT}"
        )
    return found


def start_anew(folder: Path, checkpoints: Checkpoints) -> str:
    """Set aside what a run has written, so that it can start at its first round; return the name of that folder."""
    name = set_aside(folder)
    checkpoints.set_aside(name)
    return name


@contextmanager
def misfits_named(*, but: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what loading a state raises into `CheckpointRefused`, except for the exceptions ``but``."""
    try:
        yield
    except CheckpointRefused:
        raise
    except BadValue as error:  # of numbers in a state that are not finite, which `but` has too
        raise CheckpointRefused(f"the checkpoint does not fit the run: {error}; {WAY_OUT[3:]}") from error
    except but:
        raise
    except Exception as error:  # of torch, of a party or of an algorithm, about a state that anybody wrote
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise CheckpointRefused(
            f"the checkpoint does not fit the run: loading it ended with {type(error).__name__}: {first}; {WAY_OUT[3:]}"
        ) from error


def require_parties(kept: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `CheckpointRefused` if a checkpoint lacks the state of one of these parties, or the weights of a node."""
    missing = [name for name in names if name not in kept]
    if missing:
        raise CheckpointRefused(f"the checkpoint does not fit the run: it lacks the state of {', '.join(missing)}")
    for name, state in kept.items():  # such a compute node would go on from its first weights
        if {"average", "replicas"} <= state.keys() and state["average"] is None and not state["replicas"]:
            raise CheckpointRefused(f"the checkpoint does not fit the run: it has no weights of {name}")


def snapshot(algorithm: Algorithm, **fields: Any) -> Checkpoint:
    """Make a checkpoint of these fields, with the coordinator's state and the digest of the frozen weights."""
    return Checkpoint(memory=algorithm.state_dict(), base=base_of(algorithm.setting.spec), **fields)


@lru_cache(maxsize=4)
def base_of(spec: ModelSpec) -> dict[str, str]:
    """Return the digest of the frozen weights, and the path of those that were read; empty where all are trained."""
    fixed = spec.fixed_state()
    if not fixed:
        return {}
    path = {} if spec.tuning.weights is None else {"path": spec.tuning.weights.path}
    return {"digest": digest(fixed), **path}


def require_base(kept: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `CheckpointRefused` where the frozen weights of the run are not those of the checkpoint.

    Older checkpoints do not say which they were.
    """
    if kept and kept["digest"] != now.get("digest"):
        where = f" in {now['path']}" if "path" in now else ""
        raise CheckpointRefused(
            f"the checkpoint was trained beside frozen weights with the digest {kept['digest']}, and those of the run"
            f"{where} have {now.get('digest', 'none')} now; put back the file or the code that they come from, "
            f"{WAY_OUT}"
        )


def require_model(checkpoint: Checkpoint, algorithm: Algorithm) -> None:
    """Raise `CheckpointRefused` where a checkpoint is of other frozen weights or of weights of another form."""
    require_base(checkpoint.base, base_of(algorithm.setting.spec))
    models: dict[ModelSpec, Mapping[str, Tensor]] = {}
    for name, state in checkpoint.parties.items():
        spec = algorithm.spec_of_party(name)
        if spec not in models:
            models[spec] = spec.build().state_dict()
        require_weights(state, models[spec], f"parties.{name}")


def require_weights(state: Any, model: Mapping[str, Tensor], where: str = "parties") -> None:
    """Raise `CheckpointRefused` where a tensor under the name of a weight is not of its type and shape.

    Args:
        state: the states of parties, nested.
        model: the weights and buffers of the whole model by name.
        where: what ``state`` is, for the message.
    """
    if isinstance(state, Mapping):
        for key, value in state.items():
            if isinstance(value, Tensor) and key in model:
                require_same_form(value, model[key], f"{where}.{key}")
            else:
                require_weights(value, model, f"{where}.{key}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            require_weights(value, model, f"{where}.{index}")


def require_same_form(kept: Any, loaded: Any, where: str, *, plain: bool = True) -> None:
    """Raise `CheckpointRefused` where a state is not what became of it when loaded.

    Keys, types and shapes are compared, and ``plain`` values, which may have been cast on the way; but not those of a
    guard, whose ledger may have grown since.
    """
    if isinstance(kept, Mapping) and isinstance(loaded, Mapping):
        if kept.keys() != loaded.keys():
            keys = sorted(map(str, kept.keys() ^ loaded.keys()))
            raise CheckpointRefused(f"{where} of the checkpoint does not fit the run: it has other keys, {keys[0]!r}")
        for key in kept:
            require_same_form(kept[key], loaded[key], f"{where}.{key}", plain=plain and key != GUARD)
    elif isinstance(kept, list | tuple) and isinstance(loaded, list | tuple) and len(kept) == len(loaded):
        for index, (one, other) in enumerate(zip(kept, loaded, strict=True)):
            require_same_form(one, other, f"{where}.{index}", plain=plain)
    elif _form(kept) != _form(loaded):
        raise CheckpointRefused(
            f"{where} of the checkpoint does not fit the run: it is {_form(kept)}, and the run needs {_form(loaded)}"
        )
    elif plain and not isinstance(kept, Tensor) and kept != loaded and repr(kept) != repr(loaded):  # NaN is not itself
        raise CheckpointRefused(
            f"{where} of the checkpoint does not fit the run: {shown(kept)} is there, and became {shown(loaded)} here"
        )


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "entries by key"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return type(value).__name__
