"""The verbs for runs that are in a folder: `resume` goes on with one, `load` reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from raysplit.config.build import build, maker
from raysplit.config.objects import section
from raysplit.config.run import load_recorded
from raysplit.given import released
from raysplit.models.spec import ModelSpec
from raysplit.paths import expanded, is_uri
from raysplit.runs.callback import Callback
from raysplit.runs.records.origin import require_own
from raysplit.runs.records.read import read_metrics, read_models, read_settings, read_traffic, stop_of
from raysplit.runs.remote import existing_folder, fetched
from raysplit.runs.result import Result
from raysplit.trackers.given import trackers_of
from raysplit.training.session import train_on

Allow = Callable[[Path, str], None]
"""Function that is called with a run folder and what is about to be done, before anything that its configuration names
is imported; it raises where the user does not allow that."""


def resume(
    folder: str | Path,
    *,
    callbacks: Sequence[Callback] = (),
    from_start: bool = False,
    trust: bool = False,
    model: Any = None,
    data: Any = None,
    algorithm: Any = None,
) -> Result:
    """Go on with a run that was cut short, to the weights that it would have ended with undisturbed.

    Args:
        folder: of the run, a path or a URI.
        callbacks: as for `train`.
        from_start: train from the first round, and set aside in the folder what it has, in ``earlier-1``.
        trust: import and run the code, and use the places, that the configuration names, also where this user has not
            written it.
        model, data, algorithm: the objects that the run was started with, where it was started with objects; others
            are refused.

    Raises:
        ValueError: there is no run, it has finished, it has rounds or checkpoints and none can be used, or the objects
            are missing or others.
        NotTrusted: somebody else's configuration names code or places; the message has them.
    """
    allow = no_questions if trust else require_own
    objects = {"model": model, "data": data, "algorithm": algorithm}
    return resume_run(folder, allow=allow, from_start=from_start, callbacks=callbacks, **objects)


def no_questions(folder: Path, what: str) -> None:
    """Allow everything that the configuration of a run asks for."""


def resume_run(
    folder: str | Path,
    *,
    allow: Allow,
    from_start: bool = False,
    callbacks: Sequence[Callback] = (),
    **objects: Any,
) -> Result:
    """Go on with a run as `resume` does, if ``allow`` does not raise."""
    with released(), existing_folder(expanded(str(folder))) as (local, copies):
        allow(local, "resume")
        _given_again(local, **objects)
        config = load_recorded(local)
        work = partial(train_on, maker(config), config.cluster, config.reliability, local, from_start=from_start)
        trackers = trackers_of(config.output.trackers, local)
        return work(callbacks=[*trackers, *copies, *callbacks])


def _given_again(folder: Path, **objects: Any) -> None:
    """Have the objects that a run was started with under the names that its configuration has for them."""
    for key, value in objects.items():
        if key == "data" and value is not None and not isinstance(value, Mapping):  # read as the run read it
            value = {**read_settings(folder).get("data", {}), "name": value}
        if value is not None:
            section(key, value)


def load(
    folder: str | Path, *, trust: bool = False, model: Any = None, data: Any = None, algorithm: Any = None
) -> Result:
    """Read a run, finished or not, from its folder or URI; nothing that its configuration names is imported.

    Args:
        trust: let `Result.model` import and run the code that the configuration names, also where this user has not
            written it.
        model, data, algorithm: the objects that the run was started with; `Result.model` builds the model with them.

    Raises ``ValueError`` where there is no run, or one without a finished round.

    Example:
        >>> raysplit.load("runs/mine").metrics.column("round").to_pylist()
        [1]
    """
    local = local_copy(folder)
    read_settings(local)
    _given_again(local, model=model, data=data, algorithm=algorithm)
    states = read_models(local)
    return Result(
        rows=tuple(read_metrics(local)),
        states=states,
        links=read_traffic(local),
        stopped=stop_of(local),
        folder=local,
        specs=lambda: _specs(local, states, no_questions if trust else require_own),
    )


def _specs(folder: Path, labels: Iterable[str], allow: Allow) -> dict[str, ModelSpec]:
    allow(folder, "building the model")
    algorithm = build(load_recorded(folder)).begin()
    return {label: algorithm.spec_of(label) for label in labels}


def local_copy(folder: str | Path) -> Path:
    """Return the folder of a run to read; of a run at a URI, that of its copy."""
    location = expanded(str(folder))
    return fetched(location) if is_uri(location) else Path(location)
