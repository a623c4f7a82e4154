"""The settings that the numbers of a run depend on, for recovery and for sweeps alike."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.links import LinkOptions
from raysplit.guards.rules import OFF

_RELIABILITY = ("aggregation", "tolerated", "max_update_norm", "over_selection", "round_deadline_s", "late", "quorum")
"""Rules of ``reliability`` that change the numbers of an undisturbed run."""
_CLUSTER = ("device", "elastic")
"""Settings of ``cluster`` that change the numbers: another device rounds otherwise, and elastic owners come and go."""


_NEWER: dict[str, Any] = {
    "values": None,
    "max_value": None,
    "layout": None,
    "renumber_labels": False,
    "pad_to": None,
    "pad_multiple": 1,
    "truncate": False,
    "validation": 0.0,
    "by_owner": None,
    "digests": {},
    "tasks": None,
}
"""Settings of the data, with their defaults, that run folders may be older than."""
_PLACING = ("resources", "labels")
"""Settings of an owner's own source that say at which place it is read."""
_UNKNOWN = object()
_NO_NUMBERS = {"ledger", "budget", "secret_file"}
"""Settings of privacy that change no numbers: a place, a limit, and the name of a file whose content does."""
_NEWER_OF_MODELS: Mapping[str, Any] = {
    "freeze": [],
    "train": [],
    "lora": None,
    "weights": None,
    "precision": "full",
    "recompute": False,
    "init": "seed",
}
_NEWER_OF_TRAINING: Mapping[str, Any] = {
    "accumulate": 1,
    "vectorize": 1,
    "clip": None,
    "lr_schedule_per": "round",
    "warmup_steps": 0,
}
"""The same of models and of training."""


def _without_newer(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section without settings that run folders may be older than."""
    kept = {key: value for key, value in training.items() if _NEWER_OF_TRAINING.get(key, _UNKNOWN) != value}
    for name in ("optimizer", "server_optimizer"):
        if kept.get(name):
            kept[name] = {key: value for key, value in kept[name].items() if key != "groups" or value}
    return kept


def _read(sources: Any) -> Any:
    """Return what owners read, without where their places are."""
    if not isinstance(sources, Mapping):
        return sources
    return {
        owner: {key: value for key, value in source.items() if key not in _PLACING} for owner, source in sources.items()
    }


def numbers_depend_on(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a plain configuration that the numbers of a run depend on.

    Two runs with the same part have the same weights; where it differs, neither stands for the other.
    """
    tree = copy.deepcopy({key: section for key, section in plain.items() if key not in ("cluster", "output")})
    if tree.get("links") == LinkOptions().model_dump(mode="json"):  # a run folder may be older than this section
        del tree["links"]
    else:
        newer_links = {"rules": [], "warmup_rounds": 0, "auto": False, "budget_z": 0.01, "budget_g": 0.1}
        links = [(key, value) for key, value in tree.get("links", {}).items() if key != "report_every"]
        tree |= {"links": {k: v for k, v in links if newer_links.get(k, _UNKNOWN) != v}} if links else {}
    privacy = {key: value for key, value in tree.pop("privacy", {}).items() if key not in _NO_NUMBERS}
    if privacy and privacy != OFF.model_dump(mode="json", exclude=_NO_NUMBERS):
        tree["privacy"] = privacy
    if not tree.get("owners", {}).get("tasks", True):
        del tree["owners"]["tasks"]
    if tree.get("task") is None:
        tree.pop("task", None)
    if not tree.get("model", {}).get("send_inputs", True):  # nor does it have these keys
        del tree["model"]["send_inputs"]
    if tree["training"].get("weight_by") == "samples":
        del tree["training"]["weight_by"]
    if tree.get("model", {}).get("front_end") in ("auto", "fx"):
        del tree["model"]["front_end"]
    if tree["training"].get("last_batch") == "keep":
        del tree["training"]["last_batch"]
    tree["training"] = _without_newer(tree["training"])
    if "model" in tree:
        tree["model"] = {k: v for k, v in tree["model"].items() if _NEWER_OF_MODELS.get(k, _UNKNOWN) != v}
    if "data" in tree:
        kept = {key: value for key, value in tree["data"].items() if _NEWER.get(key, _UNKNOWN) != value}
        tree["data"] = kept | ({"by_owner": _read(kept["by_owner"])} if "by_owner" in kept else {})
    newer = {"metric": None, "target_loss": None, "links": "as_trained", "target": None, "naive": True}
    tree["evaluation"] = {k: v for k, v in tree["evaluation"].items() if k not in newer or v != newer[k]}
    tree["reliability"] = {key: tree["reliability"][key] for key in _RELIABILITY}
    usual = ClusterOptions().model_dump(mode="json")
    cluster = {key: plain["cluster"][key] for key in _CLUSTER if plain.get("cluster", {}).get(key) != usual[key]}
    return tree | ({"cluster": cluster} if cluster else {})


def fingerprint(plain: Mapping[str, Any]) -> str:
    """Compute a digest of `numbers_depend_on`."""
    return hashlib.sha256(json.dumps(numbers_depend_on(plain), sort_keys=True).encode()).hexdigest()
