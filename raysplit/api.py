"""The verbs of raysplit for Python programs; the command line is a thin layer over the same functions.

Every verb takes a configuration file, or the same sections as keyword arguments, or both: a section given as a mapping
without a ``name`` changes single settings of the file, any other takes the place of the file's section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from raysplit.config.build import build_dry, maker
from raysplit.config.errors import ConfigError
from raysplit.config.planned_cuts import with_plans
from raysplit.config.run import RunConfig, resolved
from raysplit.config.sources import Sections, Source, described, recorded, tree_of
from raysplit.experiment.experiment import Experiment
from raysplit.given import put, released
from raysplit.kept import load as load
from raysplit.kept import local_copy
from raysplit.kept import resume as resume
from raysplit.paths import expanded
from raysplit.prediction.closed_form import closed_form
from raysplit.prediction.plan_cuts import cut_problem, owner_ms
from raysplit.prediction.reference import Progress
from raysplit.prediction.simulate import Engine, Simulation
from raysplit.prediction.simulate import simulate as simulate_experiment
from raysplit.registry import one_of
from raysplit.runs.callback import Callback
from raysplit.runs.compare import RunComparison
from raysplit.runs.remote import new_folder
from raysplit.runs.report import readable_runs
from raysplit.runs.result import Result
from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.solve import solve_ilp, with_owner_time
from raysplit.sweeps.choice import checked_choice
from raysplit.sweeps.run import SweepResult, run_sweep
from raysplit.sweeps.sweep import Axis, cells, local_folder, with_seeds
from raysplit.trackers.given import Given, trackers_of
from raysplit.training.own_loop import in_a_thread, loop_is_running
from raysplit.training.session import train_new


def train(
    config: Source = None,
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    **sections: Unpack[Sections],
) -> Result:
    """Train a model across data owners, as a configuration file, keyword arguments or an `Experiment` says.

    Args:
        config: a YAML file, a mapping of sections, or an `Experiment`; None begins with the defaults.
        folder: where everything is recorded, a path or a URI; None keeps nothing beyond the result.
        overwrite: replace a run that is in the folder.
        callbacks: are called when something has happened in the run, see `Callback`.
        sections: ``seed``, ``model``, ``data``, ``partition``, ``owners``, ``algorithm``, ``training``,
            ``evaluation``, ``links``, ``cluster``, ``topology``, ``reliability``, ``output``: what the file takes, or
            objects.
            ``model`` is a class, a function or a `torch.nn.Module` (whose weights are the start); ``data`` a pair
            (train, test) of map-style sets or of pairs of arrays, or a `DataSet`; ``algorithm`` an `Algorithm` made
            with its options; ``cluster`` may be ``"local"`` or ``"ray"``.

    Returns:
        The metrics, the traffic and the trained weights.

    Raises:
        ConfigError: an argument is unknown or wrong; the message has the nearest name or the rule.
        ValueError: the settings do not fit the data or the model, or the folder holds a run.
        RayUnreachable, PlacementError: no Ray cluster, or no room on it.
        NonFiniteLoss: training diverged; the folder has what was reached.

    Example:
        >>> training = {"rounds": 2, "max_steps": 5, "optimizer": {"lr": 0.1}}
        >>> result = raysplit.train(model="mlp", data="digits", training=training, cluster="local")
        >>> result.stopped, len(result.metrics), 0 < result.accuracy <= 1
        ('all rounds done', 2, True)
    """
    if isinstance(config, Experiment):
        _refuse_sections(sections)
        with released():
            experiment = recorded(config)
            work = partial(train_new, lambda device: experiment, config.cluster, config.reliability)
            return _recorded(work, folder, overwrite, callbacks)
    with released():
        return train_config(described(config, sections), folder=folder, overwrite=overwrite, callbacks=callbacks)


def train_config(
    config: RunConfig,
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    keep_ray: bool = False,
) -> Result:
    """Train a checked configuration; ``keep_ray`` stays connected for further runs. Otherwise as `train`."""
    planned = resolved(with_plans(config))
    work = partial(train_new, maker(planned), planned.cluster, planned.reliability, keep_ray=keep_ray)
    trackers = planned.output.trackers
    return _recorded(work, folder, overwrite or planned.output.overwrite, callbacks, trackers)


def _recorded(
    work: Callable[..., Result],
    folder: str | Path | None,
    overwrite: bool,
    callbacks: Sequence[Callback],
    trackers: Sequence[Given] = (),
) -> Result:
    if folder is None:
        return work(callbacks=[*trackers_of(trackers, None), *callbacks])
    with new_folder(expanded(str(folder)), overwrite=overwrite) as (local, copies):
        told = [*trackers_of(trackers, local), *copies, *callbacks]
        return work(callbacks=told, folder=local, overwrite=overwrite)


def compare(folders: Sequence[str | Path]) -> RunComparison:
    """Put runs side by side: what each reached, and what it took in rounds, bytes and seconds.

    Example:
        >>> comparison = raysplit.compare(["runs/a", "runs/b"])
        >>> comparison.table.column("algorithm").to_pylist()
        ['fedavg', 'fedavg']
    """
    if isinstance(folders, str | Path):
        raise ConfigError(f"compare takes a list of run folders, got {folders!r}; write compare([{str(folders)!r}])")
    runs, left_out = readable_runs([local_copy(folder) for folder in folders])
    return RunComparison(tuple(runs), left_out)


def simulate(
    config: Source = None,
    *,
    rounds: int = 1,
    engine: Engine = "auto",
    progress: Progress | None = None,
    **sections: Unpack[Sections],
) -> Simulation:
    """Predict how long rounds take on the machines of a topology, without computing anything.

    Args:
        config, sections: as for `train`; a ``topology`` is needed.
        rounds: how many rounds to simulate.
        engine: ``reference`` runs the coroutines, ``compiled`` a recording of them, which takes a fraction of the time;
            both give the same events. ``auto`` takes the compiled one for long simulations, where it can run them.
        progress: function that is told now and then how many events have happened, and of how many if that is known.

    Example:
        >>> simulation = raysplit.simulate("examples/mpsl_simulate.yaml", rounds=2)
        >>> len(simulation.round_s), simulation.timeline.bottleneck().device
        (2, 'node-3')
    """
    experiment = _without_data(config, sections, planned=True)

    def work() -> Simulation:
        found = simulate_experiment(experiment, rounds=rounds, engine=engine, progress=progress)
        return found.beside(closed_form(experiment))

    return in_a_thread(work) if loop_is_running() else work()


def plan(config: Source = None, *, objective: str = "sum_of_max", **sections: Unpack[Sections]) -> Plan:
    """Choose the cuts and compute nodes of a model for the machines of a topology.

    Args:
        config, sections: as for `train`; a ``topology`` with profiles is needed.
        objective: ``sum_of_max`` (the paper's), ``bottleneck`` (the true rate of a full pipeline) or ``price``.

    Example:
        >>> plan = raysplit.plan("examples/mpsl_simulate.yaml", algorithm={"units": [2, 34]})
        >>> plan.cuts, plan.nodes
        ((2, 18, 31, 35), ('node-1', 'node-2', 'node-3'))
    """
    experiment = _without_data(config, sections, planned=False)
    one_of("objective", objective, ["sum_of_max", "bottleneck", "price"])
    problem = cut_problem(experiment, objective=objective)  # type: ignore[arg-type]
    of_owner = partial(owner_ms, experiment, problem)
    fixed = with_owner_time(problem, of_owner)
    chosen = solve_ilp(fixed)
    return chosen if fixed is problem else replace(chosen, owner_ms=of_owner(chosen.cuts[0], chosen.cuts[-1]))


def sweep(
    config: Source = None,
    *,
    over: Mapping[str, Sequence[Any]],
    folder: str | Path = "runs/sweep",
    parallel: int = 1,
    target: float | None = None,
    seeds: int | None = None,
    follow: Sequence[str] = (),
    choose: str | None = None,
    **sections: Unpack[Sections],
) -> SweepResult:
    """Run every combination of some settings' values; runs that have finished are kept.

    Args:
        config, sections: as for `train`.
        over: the values by setting, such as ``{"partition.alpha": [0.1, 1], "seed": [0, 1, 2]}``.
        folder: of the sweep; each run has a folder below ``cells`` in it.
        parallel: so many runs at a time, each in one process as a Ray task.
        target: an accuracy, or a loss for tasks without labels; the table tells what it took to reach it.
        seeds: so many seeds, from 0 on.
        follow: further settings that take the value of the seed, such as ``data.seed``.
        choose: ``"validation_loss"`` gives every method and seed the run and the round of its lowest loss on the
            samples that owners set aside (``data.validation``), over the swept settings of ``training``; the result
            then has the chosen `SweepResult.methods` and their paired `SweepResult.differences`.

    Example:
        >>> quick = {"model": "mlp", "training": {"rounds": 1, "max_steps": 2}, "cluster": "local"}
        >>> grid = raysplit.sweep(over={"training.batch_size": [8, 32]}, **quick)
        >>> len(grid.data), grid.failed
        (2, {})
    """
    axes = with_seeds([Axis(key=key, values=tuple(values)) for key, values in over.items()], seeds)
    with released() as objects:
        grid = cells(tree_of(config, sections), axes, follow)
        among = None if choose is None else checked_choice(choose, grid, axes)
        train_one = partial(train_cell, objects=objects)
        place = local_folder(str(folder))
        return run_sweep(grid, place, train=train_one, parallel=parallel, target=target, choose=among)


def train_cell(config: RunConfig, folder: Path, objects: Mapping[str, Any] | None = None) -> None:
    """Train a configuration into a folder, as one run of many; ``objects`` are those that it names, by name."""
    for name, value in (objects or {}).items():
        put(name, value)
    train_config(config, folder=folder, keep_ray=True)


def _without_data(config: Source, sections: Mapping[str, Any], *, planned: bool) -> Experiment:
    """An experiment whose tensors are sizes, with ``cuts: auto`` planned or left to be planned."""
    if isinstance(config, Experiment):
        _refuse_sections(sections)
        return config
    with released():
        checked = described(config, sections)
        return build_dry(with_plans(checked) if planned else checked)


def _refuse_sections(sections: Mapping[str, Any]) -> None:
    if sections:
        raise ConfigError(f"an Experiment is described to the end; leave out {', '.join(sections)}")
