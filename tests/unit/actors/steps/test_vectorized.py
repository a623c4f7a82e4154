"""Owners that are computed at once: near to one after another, and the same bits in whatever company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import distance, run_on, same, settings, train
from torch import Tensor, nn

from raysplit.actors.parts.losses import cross_entropy
from raysplit.actors.records import NonFiniteLoss
from raysplit.actors.steps import vectorized
from raysplit.actors.steps.vectorized import stacked_gradients
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config

ME = "unit.actors.steps.test_vectorized"
CNN: dict[str, Any] = {
    "model": {"name": "cnn8"},
    "data": {"name": "random", "num_classes": 5, "num_samples": 90, "input_shape": [1, 8, 8]},
    "partition": {"name": "quantity", "num_owners": 7},
    "algorithm": {"name": "fedavg"},
}
TRAINING: dict[str, Any] = {"rounds": 3, "batch_size": 4, "optimizer": {"lr": 0.05, "momentum": 0.9}}


def cnn(vectorize: int, **changes: Any) -> Any:
    training = {**TRAINING, "vectorize": vectorize, **changes.pop("training", {})}
    return train(**{**CNN, "training": training, **changes})


# -- the numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": {"name": "fedprox", "proximal_mu": 1.0}},
        {"training": {"clip": {"norm": 0.5}, "lr_schedule": "cosine", "warmup_steps": 3, "lr_schedule_per": "step"}},
        {"training": {"accumulate": 3, "cohort_size": 4}},
        {"training": {"owner_optimizer_state": "keep", "optimizer": {"name": "adamw", "lr": 0.003}}},
        {"links": {"weights": "int8"}},
    ],
)
def test_owners_at_once_are_near_to_one_after_another_and_the_same_in_any_company(changes: dict[str, Any]) -> None:
    """Shards differ in size, so that groups differ from step to step, down to a single owner."""
    alone, pairs, many = (cnn(vectorize, **changes) for vectorize in (1, 2, 64))
    assert same(pairs, many)
    assert 0 < distance(alone, many) < (0.05 if "links" in changes else 1e-3)


def test_local_models_are_near_to_those_that_train_one_after_another() -> None:
    alone, many = (cnn(vectorize, algorithm={"name": "local"}) for vectorize in (1, 64))
    for label, state in many.states.items():
        assert distance(alone.states[label], state) < 1e-3


def test_gradients_are_those_of_each_model_by_itself() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double() for _ in range(4)]
    xs, ys = torch.randn(4, 5, 6).double(), torch.randint(0, 3, (4, 5))
    values, found = stacked_gradients(models, xs.unbind(), ys.unbind(), cross_entropy, [1.0, 1.0, 0.25, 0.5])
    for model, x, y, share, value, gradients in zip(models, xs, ys, [1, 1, 0.25, 0.5], values, found, strict=True):
        loss = cross_entropy(model(x), y)
        (share * loss).backward()
        assert value == pytest.approx(float(loss.detach()), rel=1e-12)
        for p, g in zip(model.parameters(), gradients, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(g, p.grad, rtol=1e-10, atol=1e-14)


def test_tokens_frozen_weights_and_adapters() -> None:
    """Adapters of a language model alone are stacked; all owners share its frozen base."""
    lora = {"rank": 2, "alpha": 4, "targets": ["into", "out"]}
    changes: dict[str, Any] = {
        "task": "language_model",
        "model": {"name": "text_transformer", "width": 16, "blocks": 1, "lora": lora},
        "data": {"name": "text:python_topics", "length": 8, "train_samples": 60, "test_samples": 20},
        "partition": {"name": "iid", "num_owners": 4},
        "algorithm": {"name": "fedavg"},
    }
    training = {"rounds": 2, "batch_size": 5, "optimizer": {"lr": 0.5}}
    alone, pairs, many = (train(**changes, training={**training, "vectorize": n}) for n in (1, 2, 64))
    assert same(pairs, many)
    assert distance(alone, many) < 1e-4


def test_groups_are_as_large_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven owners with one batch each: at most so many of them compute at once, and all get their turn."""
    sizes: list[int] = []
    compute = vectorized._compute

    def counted(group: Any) -> None:
        sizes.append(len(group))
        compute(group)

    monkeypatch.setattr(vectorized, "_compute", counted)
    equal = {"partition": {"name": "iid", "num_owners": 9}, "training": {"rounds": 1, "max_steps": 1}}
    cnn(64, **equal)
    assert sizes == [9]
    sizes.clear()
    cnn(4, **equal)
    assert sum(sizes) == 9
    assert max(sizes) == 4


def test_a_death_leaves_no_trace() -> None:
    """Owners wait for one another when the aggregator dies; their round begins again."""
    changes = {**CNN, "training": {**TRAINING, "vectorize": 64}}
    cluster = FaultyCluster(LocalCluster(), [Fault(party="aggregator", at_call=9)])
    assert same(run_on(cluster, **changes), train(**changes))
    assert cluster.num_healed == 1


# -- what is wrong names the owner ------------------------------------------------------------------------------------


def spiteful(outputs: Tensor, y: Tensor) -> Tensor:
    """NaN for batches of one sample, which the smallest shards have."""
    return cross_entropy(outputs, y) / (len(y) > 1)


def test_a_loss_that_is_not_finite_names_its_owner() -> None:
    with pytest.raises(NonFiniteLoss, match="the loss of owner-"):
        cnn(64, training={"loss": f"{ME}:spiteful", "batch_size": 3})


class Strange(nn.Module):
    """A model whose passes torch.vmap cannot take."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return self.linear(flat * (2.0 if float(flat.sum().detach()) > 1e9 else 1.0))


def normed(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


def dropped(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, num_classes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": f"{ME}:Strange"}}, "by torch.vmap, which cannot take it: "),
        ({"model": {"name": f"{ME}:normed"}}, "running statistics, such as those of batch norm"),
        ({"model": {"name": f"{ME}:dropped"}}, "draws random numbers in training"),
        ({"model": {"name": "cnn8", "precision": "bf16"}}, "model.precision is bf16, which do not go together"),
        ({"model": {"name": "cnn8", "recompute": True}}, "model.recompute is true, which do not go together"),
        ({"privacy": {"weights": {"clip": 1.0, "noise": 1.0}, "rehearsal": True}}, "owners have guards"),
    ],
)
def test_what_cannot_be_computed_at_once_is_refused_before_the_run(changes: dict[str, Any], says: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=r"training\.vectorize") as caught:
        cnn(8, training={"last_batch": "drop"}, **changes)
    assert says in str(caught.value)


def test_gradients_that_are_not_the_model_s_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = vectorized.stacked_gradients

    def wrong(*given: Any) -> Any:
        values, gradients = honest(*given)
        return values, [tuple(2 * g for g in own) for own in gradients]

    monkeypatch.setattr(vectorized, "stacked_gradients", wrong)
    with pytest.raises(ValueError, match="are not those of the model by itself"):
        cnn(8)


def test_a_model_whose_numbers_depend_on_its_company_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernel may take another way for more models; places would then change weights without a word."""
    honest = vectorized.stacked_gradients

    def moody(modules: Any, *given: Any) -> Any:
        values, gradients = honest(modules, *given)
        return values, [tuple(g + len(modules) * 1e-9 for g in own) for own in gradients]

    monkeypatch.setattr(vectorized, "stacked_gradients", moody)
    with pytest.raises(ValueError, match="depend on how many owners are computed at once"):
        cnn(8)


@pytest.mark.parametrize("method", ["minibatch_sfl", "splitfed_v1", "mtsl", "centralised"])
def test_methods_whose_owners_meet_refuse_it(method: str) -> None:
    cut = {} if method == "centralised" else {"cut": 1}
    with pytest.raises(ConfigError, match=r"training\.vectorize is 8, and .*, or use one of local, fedavg"):
        check_config(settings(**{**CNN, "algorithm": {"name": method, **cut}, "training": {"vectorize": 8}}))
