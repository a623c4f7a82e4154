"""The description of a run as one object: algorithm, data, rules and cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysplit.actors.aggregation import UpdateRules
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.guarding import check_guards
from raysplit.algorithms.setting import Setting
from raysplit.algorithms.unused import RunOutline
from raysplit.cluster.links.rules import LinkRules
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.errors import ConfigError
from raysplit.experiment.fingerprint import fingerprint
from raysplit.experiment.link_checks import check_links, check_parties
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import ElasticRules, EvaluationRules, ReliabilityRules
from raysplit.experiment.topology import Topology
from raysplit.guards.account.ledger import FOLDER as LEDGERS
from raysplit.guards.links import guarded_rules
from raysplit.guards.rules import PrivacyRules
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.cohort import CohortRules
from raysplit.schedulers.rules import Rules
from raysplit.tasks import loss_name


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Complete description of a run, which training, prediction and recording read instead of a configuration.

    `raysplit.train` makes one from a file or from keyword arguments, and also takes one that your program has made.

    Attributes:
        algorithm: the algorithm and its options; `begin` gives it the setting.
        setting: the model, the owners with their data, the training rules and the seed.
        parts: for each owner, in owner order, the indices of its samples in the training set; none if unknown.
        evaluation: when to evaluate and when to stop.
        reliability: which checkpoints to keep, and what to do after a loss.
        links: the codec for each kind of value that parties send.
        cluster: the processes and devices of the parties.
        topology: the described machines and links; None where there are none.
        plain: the whole description as plain data, which ``config.yaml`` keeps and the fingerprint is computed from.
        about_data: what the data hold and what is done with them, which ``data.json`` keeps.

    Example:
        >>> from raysplit.config.build import build
        >>> from raysplit.config.run import load_config
        >>> settings = ["cluster.kind=local", "training.rounds=1", "training.max_steps=1"]
        >>> experiment = build(load_config("examples/minibatch_sfl_digits.yaml", settings))
        >>> experiment.algorithm.title, len(experiment.setting.owners)
        ('MiniBatch-SFL', 10)
        >>> raysplit.train(experiment).stopped
        'all rounds done'
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
    about_data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def begin(self, folder: Path | None = None) -> Algorithm:
        """Return the algorithm at the start of a run.

        Args:
            folder: the run folder, where the owners' ledgers are kept unless ``privacy.ledger`` says otherwise.

        Raises:
            ValueError: the algorithm cannot train the setting, or the codecs or the guards do not fit it.
        """
        rules = self.link_rules()
        check_links(self.links, self.reliability, self.batch_size)
        setting = self.setting
        if rules.keeps_state or rules.guarded:
            setting = replace(setting, links_keep_state=True)
        if rules.guarded:
            digest = fingerprint(self.plain) if self.plain else ""
            setting = replace(setting, ledgers=self.ledgers_in(folder), digest=digest)
        algorithm = self.algorithm.bound(setting)
        check_guards(algorithm)
        check_parties(self.links, algorithm)
        return algorithm

    def ledgers_in(self, folder: Path | None) -> str | None:
        """Return the folder of the owners' ledgers for a run folder; None where they are kept in memory alone."""
        within = None if folder is None else str(folder.absolute() / LEDGERS)
        return self.setting.privacy.ledger or within

    def require_codecs(self) -> None:
        """Raise `ConfigError` where the codecs have not been chosen yet."""
        if self.links.auto:
            raise ConfigError(
                "links: auto is planned from a configuration; train or simulate that, or give an Experiment the links "
                "that raysplit plan --codecs auto prints"
            )

    def link_rules(self) -> LinkRules:
        """Return the processing of the values that parties send."""
        rules = self.links.link_rules(seed=self.seed, num_classes=_most_classes(self.setting.spec))
        return guarded_rules(rules, self.setting.privacy) if self.setting.is_guarded else rules

    @property
    def outline(self) -> RunOutline:
        """What the rules tell of the run without its data."""
        setting, updates, cohort = self.setting, self.setting.updates, self.setting.cohort
        values = {
            "training.server_optimizer": (setting.server_optimizer, setting.optimizer),
            "training.buffers": (setting.buffers, "average"),
            "training.cohort_size": (setting.cohort_size, None),
            "training.accumulate": (setting.training.accumulate, 1),
            "training.clip": (setting.clip, None),
            "training.vectorize": (setting.vectorize, 1),
            "training.warmup_steps": (setting.warmup_steps, 0),
            "training.lr_schedule_per": (setting.lr_schedule_per, "round"),
            "model.precision": (setting.precision, "full"),
            "model.recompute": (setting.recompute, False),
            "model.freeze": (setting.spec.tuning.freeze, ()),
            "model.train": (setting.spec.tuning.train, ()),
            "model.lora": (setting.spec.tuning.lora, None),
            "model.init": (setting.init, "seed"),
            "training.weight_by": (setting.weight_by, "samples"),
            "evaluation.divergence_every": (self.evaluation.divergence_every, None),
            "cluster.elastic": (self.elastic, None),
        }
        given: list[tuple[str, type[Rules], Rules]] = [
            ("reliability", UpdateRules, updates),
            ("reliability", CohortRules, cohort),
            ("links", LinkOptions, self.links),
            ("privacy", PrivacyRules, setting.privacy),
        ]
        for section, kind, rules in given:
            plain = kind()
            values |= {f"{section}.{key}": (getattr(rules, key), getattr(plain, key)) for key in kind.model_fields}
        return RunOutline(
            owners=tuple(setting.owners),
            rounds=setting.rounds,
            loss=loss_name(setting.task.kind) if setting.task else str(setting.training.loss),
            cohort_size=setting.cohort_size,
            updates=updates,
            cohort=cohort,
            may_lose_owners=cohort.is_open or self.reliability.drops_owners,
            min_owners=self.elastic.min_owners if self.elastic else None,
            given={key: value for key, (value, default) in values.items() if value != default},
        )

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.setting.seed

    @property
    def elastic(self) -> ElasticRules | None:
        """Rules for parties that come and go; None where the parties are fixed."""
        return self.cluster.elastic

    @property
    def batch_size(self) -> int:
        """Number of samples in a mini-batch of an owner."""
        return self.setting.training.batch_size

    @property
    def method(self) -> str:
        """Name of the algorithm as it was given: a built-in name or an import path."""
        return str(self.section("algorithm").get("name", self.algorithm.name))

    @property
    def run_name(self) -> str | None:
        """Name that the run was given; None where it was given none."""
        name = self.section("output").get("name")
        return None if name is None else str(name)

    @property
    def required_topology(self) -> Topology:
        """Topology of the run. Raises `ConfigError` where there is none."""
        if self.topology is None:
            raise ConfigError(
                "this needs a topology, which describes the devices, profiles and links of owners and nodes; see "
                "examples/mpsl_simulate.yaml"
            )
        return self.topology

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section of the plain description; empty where it has none."""
        return self.plain.get(name) or {}


def _most_classes(spec: ModelSpec) -> int:
    """Return the largest number of classes that labels have, over all tasks; 0 for a model of sizes only."""
    if isinstance(spec, ClassifierSpec):
        return max(map(len, spec.classes.values()))
    return spec.num_classes if isinstance(spec, ModelSpec) else 0
