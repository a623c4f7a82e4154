"""The parties of an algorithm: the records from which they are deployed, and the handles that reach them afterwards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.steps.rules import StepRules
from raysplit.actors.verbs import AggregatorHandle, NodeHandle, OwnerHandle
from raysplit.algorithms.resumable import Resumable
from raysplit.algorithms.setting import AGGREGATOR, SERVER, Cut, placed
from raysplit.cluster.contract import Cluster, Handle, PartySpec
from raysplit.data.batches import LocalTraining
from raysplit.models.frozen import trained_state
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import StepRates


class Deployment(Resumable):
    """The half of an `Algorithm` that describes parties and looks up their handles; methods use it, few override it."""

    owner_type: ClassVar[type[DataOwner]] = DataOwner
    """The class of the owners; a subclass may add verbs and, in its ``state_dict``, further state to resume from."""
    aggregator_type: ClassVar[type[Aggregator]] = Aggregator
    """The class of the aggregator, which may be extended likewise."""

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts of the model, rising: unit counts, or names of modules after which to cut. Empty by default."""
        return ()

    @property
    def placed_cuts(self) -> tuple[Cut, ...]:
        """The `cuts` with ``auto`` replaced by the first cut at which the model's inputs stay at their owner."""
        return tuple(placed(cut, self.setting.spec) for cut in self.cuts)

    # -- records of parties --------------------------------------------------------------------------------------

    def recipe(self, index: int, **changes: Any) -> PartRecipe:
        """Describe how one part of the model is built and trained.

        Args:
            index: the part's number, from 0 at the inputs. Part 0 uses the owners' optimizer, others the server's.
            changes: fields of `PartRecipe` to replace, such as ``optimizer``, ``spec`` or ``proximal_mu``.
        """
        setting = self.setting
        recipe = PartRecipe(
            spec=setting.spec,
            cuts=self.placed_cuts,
            index=index,
            optimizer=setting.optimizer if index == 0 else setting.server_optimizer,
            seed=setting.seed,
            buffers=setting.buffers,
            rules=self.step_rules,
            device=setting.device,
            most_rows=self._most_rows,
            vectorize=setting.vectorize,
        )
        return replace(recipe, **changes)

    @cached_property
    def _most_rows(self) -> int:
        """The largest number of samples of a batch of any owner."""
        setting = self.setting
        return max(max(self.local_training(name).batch_sizes(setting.num_samples(name))) for name in setting.owners)

    @property
    def step_rules(self) -> StepRules:
        """The rules of the steps of all parts."""
        setting = self.setting
        per_step = setting.lr_schedule if setting.lr_schedule_per == "step" else "constant"
        rates = None
        if setting.warmup_steps or per_step != "constant":
            rates = StepRates(
                schedule=per_step,
                rounds=setting.rounds,
                steps=max(self.local_training(name).num_steps(self.num_steps(name)) for name in setting.owners),
                warmup_steps=setting.warmup_steps,
            )
        return StepRules(rates=rates, clip=setting.clip, precision=setting.precision, recompute=setting.recompute)

    @abstractmethod
    def num_steps(self, owner: str) -> int:
        """Mini-batches of an owner in a round."""

    def owner_parties(self, *recipes: PartRecipe) -> list[PartySpec]:
        """Describe every owner of the setting, each with its own samples and these parts, in owner order."""
        return [self.owner_party(name, *recipes) for name in self.setting.owners]

    def owner_party(self, name: str, *recipes: PartRecipe) -> PartySpec:
        """Describe one owner with its own samples and these parts."""
        setting, data = self.setting, self.setting.owners[name]
        recipes = tuple(setting.guarded(recipe, is_first=i == 0) for i, recipe in enumerate(recipes))
        guard = setting.guard_of(recipes)
        return PartySpec(
            name=name,
            role="owner",
            build=self.owner_type,
            arguments={
                "shard": data.shard,
                "test": data.test,
                "transform": data.transform,
                "eval_transform": data.eval_transform,
                "recipes": recipes,
                "training": self.local_training(name),
                **({} if guard is None else {"guard": guard}),
            },
        )

    def node_party(self, name: str, recipe: PartRecipe, **arguments: Any) -> PartySpec:
        """Describe a compute node that trains one part; ``arguments`` are further ones of `ComputeNode`.

        Raises:
            ValueError: if replicas are to be averaged at the node by rules that judge whole models.
        """
        if arguments.get("copies") == "per_owner" and self.setting.updates.judge_whole_models:
            raise ValueError(
                f"{type(self).__name__} averages replicas at its compute nodes, where reliability.aggregation krum and "
                f"max_update_norm would judge each part by itself; leave them out, or average at an aggregator"
            )
        return PartySpec(
            name=name,
            role="node",
            build=ComputeNode,
            arguments={
                "recipe": recipe,
                "loss": self.setting.node_loss,
                "rules": self.setting.updates,
                **arguments,
            },
        )

    def aggregator_party(self, *indices: int, **arguments: Any) -> PartySpec:
        """Describe the aggregator of the parts with these numbers.

        Args:
            indices: parts to average; the aggregator starts with their initial weights.
            arguments: further arguments of `aggregator_type`.
        """
        parts = self.setting.spec.parts(self.placed_cuts)
        state: dict[str, Tensor] = {k: v for index in indices for k, v in trained_state(parts[index]).items()}
        return PartySpec(
            name=AGGREGATOR,
            role="aggregator",
            build=self.aggregator_type,
            arguments={"state": state, "rules": self.setting.updates, **arguments},
        )

    def local_training(self, owner: str) -> LocalTraining:
        """Rules by which this owner goes through its data; the same for all owners by default."""
        return self.setting.training

    def learners(self) -> Sequence[PartRecipe]:
        """Describe the models that every owner builds beside its parts later in the run, for the memory estimate."""
        return ()

    def seen_alone(self, owner: str) -> tuple[ModelSpec, tuple[Cut, ...]]:
        """Return an owner's model, and the cuts before which it sees the owner's batches by themselves.

        Without cuts the whole model does. Where a server joins the rows of all owners, the parts behind the first cut
        see those, so that they may have batch norm though an owner has a batch of one sample.
        """
        return self.setting.spec, ()

    # -- handles of parties --------------------------------------------------------------------------------------

    def attach(self, handles: Mapping[str, Handle], cluster: Cluster | None = None) -> None:
        """Store the handles of the deployed parties by name.

        Args:
            handles: one for each record of `Algorithm.parties`, and for the evaluators.
            cluster: the cluster itself, for algorithms that add parties later.
        """
        self.handles = dict(handles)
        self.cluster = cluster

    def owner(self, name: str) -> OwnerHandle:
        """The handle of a data owner."""
        return self.handles[name]

    def node(self, name: str = SERVER) -> NodeHandle:
        """The handle of a compute node."""
        return self.handles[name]

    def aggregator(self, name: str = AGGREGATOR) -> AggregatorHandle:
        """The handle of an aggregator."""
        return self.handles[name]

    def peers(self, *names: str) -> dict[str, Handle]:
        """The handles of these parties by name, as `Team` takes them."""
        return {name: self.handles[name] for name in names}
