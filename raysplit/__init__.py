"""Split and multi-task training of neural networks across data owners that keep their data, on Ray.

The verbs are `train`, `resume`, `load`, `compare`, `sweep`, `simulate` and `plan`; the other names are for those who
write an algorithm, a callback or a cluster of their own. Everything here is loaded when it is first used, so that
``import raysplit`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysplit.actors.aggregator import Aggregator as Aggregator
    from raysplit.actors.compute_node import ComputeNode as ComputeNode
    from raysplit.actors.data_owner import DataOwner as DataOwner
    from raysplit.actors.records import BadValue as BadValue
    from raysplit.actors.records import NonFiniteLoss as NonFiniteLoss
    from raysplit.actors.records import RoundContext as RoundContext
    from raysplit.algorithms.base import Algorithm as Algorithm
    from raysplit.algorithms.setting import Options as Options
    from raysplit.algorithms.setting import RoundReport as RoundReport
    from raysplit.algorithms.setting import Setting as Setting
    from raysplit.algorithms.setting import Team as Team
    from raysplit.api import compare as compare
    from raysplit.api import load as load
    from raysplit.api import plan as plan
    from raysplit.api import resume as resume
    from raysplit.api import simulate as simulate
    from raysplit.api import sweep as sweep
    from raysplit.api import train as train
    from raysplit.cluster.contract import PartySpec as PartySpec
    from raysplit.cluster.contract import PlaceLost as PlaceLost
    from raysplit.cluster.contract import gather as gather
    from raysplit.cluster.local.cluster import LocalCluster as LocalCluster
    from raysplit.cluster.on_ray.cluster import RayCluster as RayCluster
    from raysplit.data.samples import DataSet as DataSet
    from raysplit.data.samples import Samples as Samples
    from raysplit.experiment.errors import ConfigError as ConfigError
    from raysplit.experiment.experiment import Experiment as Experiment
    from raysplit.models.cutting.split import leaf as leaf
    from raysplit.models.cutting.split import merge as merge
    from raysplit.models.cutting.split import trace as trace
    from raysplit.runs.callback import Callback as Callback
    from raysplit.runs.result import Result as Result

__version__ = "0.2.0"

_HOME = {
    "train": "api",
    "resume": "api",
    "load": "api",
    "compare": "api",
    "sweep": "api",
    "simulate": "api",
    "plan": "api",
    "Experiment": "experiment.experiment",
    "Result": "runs.result",
    "Callback": "runs.callback",
    "Algorithm": "algorithms.base",
    "Options": "algorithms.setting",
    "Setting": "algorithms.setting",
    "Team": "algorithms.setting",
    "RoundContext": "actors.records",
    "RoundReport": "algorithms.setting",
    "DataOwner": "actors.data_owner",
    "ComputeNode": "actors.compute_node",
    "Aggregator": "actors.aggregator",
    "PartySpec": "cluster.contract",
    "gather": "cluster.contract",
    "LocalCluster": "cluster.local.cluster",
    "RayCluster": "cluster.on_ray.cluster",
    "Samples": "data.samples",
    "DataSet": "data.samples",
    "trace": "models.cutting.split",
    "leaf": "models.cutting.split",
    "merge": "models.cutting.split",
    "ConfigError": "experiment.errors",
    "BadValue": "actors.records",
    "NonFiniteLoss": "actors.records",
    "PlaceLost": "cluster.contract",
}
"""The names of the door, and the modules that they come from."""

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raysplit' has no attribute {name!r}; it has {', '.join(_HOME)}")
    return getattr(importlib.import_module(f"raysplit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
