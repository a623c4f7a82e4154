"""Small runs whose numbers can be compared exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.contract import Cluster
from raysplit.cluster.links.coding import coded, decoded
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.result import Result
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile
from raysplit.training.loop import run

State = Mapping[str, Tensor]

BASE: dict[str, Any] = {
    "seed": 3,
    "model": {"name": "mlp", "hidden": [16, 12], "dtype": "float64"},
    "data": {"name": "random", "num_classes": 5, "num_samples": 300, "dim": 10, "seed": 1},
    "partition": {"name": "iid", "num_owners": 3},
    "algorithm": {"name": "minibatch_sfl"},
    "training": {"rounds": 2, "batch_size": 16, "local_epochs": 1, "optimizer": {"lr": 0.1}},
    "cluster": {"kind": "local"},
}


def settings(**changes: Any) -> dict[str, Any]:
    """The base settings with sections changed: ``settings(algorithm={"name": "fedavg"}, model__name="cnn8")``.

    A section given as a whole replaces the base's; ``section__key`` changes one key.
    """
    tree: dict[str, Any] = {section: dict(v) if isinstance(v, dict) else v for section, v in BASE.items()}
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        if leaf:
            tree.setdefault(section, {})[leaf] = value
        else:
            tree[section] = value
    return tree


def run_on(cluster: Cluster, **changes: Any) -> Result:
    config = check_config(settings(**changes))
    return asyncio.run(run(build(config), cluster))


def train(**changes: Any) -> Result:
    """Train the base settings with changes on a `LocalCluster`."""
    return run_on(LocalCluster(links=check_config(settings(**changes)).links.link_rules()), **changes)


def weights(result: Result) -> State:
    return result.states["global"]


def same(a: Result | State, b: Result | State) -> bool:
    """Bitwise equality of all weights and buffers."""
    a, b = (weights(x) if isinstance(x, Result) else x for x in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def distance(a: Result | State, b: Result | State) -> float:
    """The largest absolute difference between two models."""
    a, b = (weights(x) if isinstance(x, Result) else x for x in (a, b))
    assert a.keys() == b.keys()
    return max(float((a[key].double() - b[key].double()).abs().max()) for key in a)


def dropout_net(num_classes: int) -> nn.Module:
    """Dropout before and after the cuts."""
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, num_classes)
    )


def conv_net(num_classes: int) -> nn.Module:
    """A convolution, whose kernels round in another order where models are stacked."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(40, num_classes))


def plain_net(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 12), nn.Linear(12, num_classes))


def normed_net(num_classes: int) -> nn.Module:
    """Two units with batch norm, and two without."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU())
    second = nn.Sequential(nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU())
    return nn.Sequential(first, second, nn.Linear(12, 8), nn.Linear(8, num_classes))


def coded_net(num_classes: int, codec: str = "float16") -> nn.Module:
    """The same with a codec behind its third module when it is trained, both ways."""
    net = plain_net(num_classes)
    both = codec_named(codec)
    net[2].register_forward_hook(lambda module, _, z: _AtCut.apply(z, both) if module.training else z)
    return net


class _AtCut(torch.autograd.Function):
    """A link inside of a model: what arrives on the way back is taken for the gradient of what left."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, codec: Any) -> Tensor:
        ctx.codec = codec
        return _across(z, codec)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return _across(g, ctx.codec), None


def _across(values: Tensor, codec: Any) -> Tensor:
    at = Passage("", "", "smashed", None, "", memory=Memory())
    sent = coded(codec, values, at)
    return values.clone() if sent is None else decoded(codec, sent, at)


def smoothed(logits: Any, y: Any) -> Tensor:
    """A loss of one's own, for single labels and for labels by task; torch's takes labels as int64 only."""
    if isinstance(logits, Tensor):
        return F.cross_entropy(logits, y, label_smoothing=0.2)
    return torch.stack([F.cross_entropy(logits[task], y[task], label_smoothing=0.2) for task in logits]).sum()


TOY_SECONDS = ((2, 1, 0.5), (3, 4, 0.25), (1, 2, 0.125), (1, 1, 1))
"""Forward, backward, update of each unit, which are easy to add."""


def toy_profile(
    folder: Path,
    *,
    batch_size: int,
    activations: Sequence[int],
    parameters: Sequence[int],
    shapes: Sequence[str] = ("",) * 4,
    weights: Sequence[tuple[str, ...]] = ((),) * 4,
) -> str:
    """A profile of four units that take `TOY_SECONDS`, with bytes for each; the path of its file."""
    units = tuple(
        UnitProfile(
            name=f"unit{i}",
            forward_ms=1e3 * forward,
            backward_ms=1e3 * backward,
            update_ms=1e3 * update,
            activation_bytes=activations[i],
            parameter_bytes=parameters[i],
            activation_shapes=(shapes[i],) if shapes[i] else (),
            parameter_shapes=weights[i],
        )
        for i, (forward, backward, update) in enumerate(TOY_SECONDS)
    )
    path = folder / "toy.parquet"
    Profile(model="toy", device="toy", batch_size=batch_size, units=units).to_parquet(path)
    return str(path)


def metrics_row(number: int, **more: Any) -> dict[str, Any]:
    """A line of ``metrics.jsonl`` as a run writes it; ``more`` replaces and adds entries."""
    usual = {"train_loss": 2.0, "num_owners": 1, "num_samples": 10, "server_steps": 0, "steps_total": number}
    times = {"seconds": 0.5, "train_seconds_total": 0.5 * number, "samples_per_s": 20.0}
    return {"round": number, **usual, **times, "bytes": 0, "bytes_total": 0} | more
