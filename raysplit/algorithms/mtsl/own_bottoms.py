"""Bottoms of other architectures in front of the same shared top (arXiv 2406.00150)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from raysplit.algorithms.mtsl.joined_model import graft
from raysplit.algorithms.setting import AUTO, placed
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.spec import ModelSpec


class Bottom(BaseModel):
    """A bottom: the units before ``cut`` of the network ``model``. Further keys are passed to the network.

    The cut ``auto`` is the first one, from 1 on, at which the inputs stay at the owner.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    model: str
    cut: int | str = AUTO

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def bottoms_of(
    owners: Sequence[str], spec: ModelSpec, cut: int | str, bottoms: Mapping[str, Bottom] | Sequence[Bottom]
) -> dict[str, ModelSpec]:
    """Build every owner's whole model: its bottom in front of the shared top of ``spec`` cut at ``cut``.

    Args:
        bottoms: bottoms by owner, or a list assigned in turn (owner n has number n mod length); owners without one
            have the bottom of ``spec``.

    Raises:
        ValueError: for a bottom that does not fit the top, and for a multi-task classifier, which has one backbone.
    """
    if bottoms and isinstance(spec, ClassifierSpec):
        raise ValueError(
            f"algorithm.bottoms puts other networks in front of the top of model.name {spec.name}, whose heads take "
            f"the features of its own backbone; leave bottoms out, or train data with one label per sample"
        )
    if isinstance(bottoms, Mapping):
        own = dict(bottoms)
    else:
        own = {name: bottoms[i % len(bottoms)] for i, name in enumerate(owners)} if bottoms else {}
    return {name: _grafted(name, spec, cut, own[name]) if name in own else spec for name in owners}


def _grafted(owner: str, spec: ModelSpec, cut: int | str, bottom: Bottom) -> ModelSpec:
    whole = replace(spec, name=bottom.model, options=bottom.options)
    return graft(whole, placed(bottom.cut, whole), spec, cut, owner=owner)
