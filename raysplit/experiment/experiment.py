"""A run as one object: what is trained, on which data, by which method, under which rules, where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import Setting
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.errors import ConfigError
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import ElasticRules, EvaluationRules, ReliabilityRules
from raysplit.experiment.topology import Topology


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, described to the end: whatever runs, predicts or records it reads this and no configuration.

    `raysplit.train` makes one from a file or from keyword arguments; a program of your own can make it directly.

    Attributes:
        algorithm: the method and its options; `begin` gives it the setting.
        setting: model, owners with their data, training rules, seed.
        parts: of each owner, the numbers of its samples in the training set, in owner order; none where nobody knows.
        evaluation: when to evaluate, and when to stop.
        reliability: what is kept, and what follows from a loss.
        links: how what parties send one another is written.
        cluster: where parties live.
        topology: described machines and links, if there are some.
        plain: the whole description as plain data, which ``config.yaml`` keeps and the fingerprint is of.
    """

    algorithm: Algorithm
    setting: Setting
    parts: tuple[np.ndarray, ...] = ()
    evaluation: EvaluationRules = field(default_factory=EvaluationRules)
    reliability: ReliabilityRules = field(default_factory=ReliabilityRules)
    links: LinkOptions = field(default_factory=LinkOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    topology: Topology | None = None
    plain: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def begin(self) -> Algorithm:
        """The algorithm at the beginning of a run. Raises ``ValueError`` where it cannot train this setting."""
        return self.algorithm.bound(self.setting)

    @property
    def seed(self) -> int:
        """The seed of every random stream."""
        return self.setting.seed

    @property
    def elastic(self) -> ElasticRules | None:
        """How parties may come and go; None where all are there from the beginning to the end."""
        return self.cluster.elastic

    @property
    def batch_size(self) -> int:
        """Samples per mini-batch of an owner."""
        return self.setting.training.batch_size

    @property
    def method(self) -> str:
        """The name of the algorithm as it was given: a built-in one, or an import path."""
        return str(self.section("algorithm").get("name", self.algorithm.name))

    @property
    def run_name(self) -> str | None:
        """The name that was given to the run."""
        name = self.section("output").get("name")
        return None if name is None else str(name)

    @property
    def required_topology(self) -> Topology:
        """The topology. Raises `ConfigError` where there is none."""
        if self.topology is None:
            raise ConfigError(
                "this needs a topology: the devices, with their profiles and links, of owners and nodes; see "
                "examples/mpsl_simulate.yaml"
            )
        return self.topology

    def section(self, name: str) -> Mapping[str, Any]:
        """One section of the plain description; empty where it has none."""
        return self.plain.get(name) or {}
