"""FedEM (Marfoq et al. 2021, arXiv 2108.10252): equal to FedAvg with one learner, a mixture with more."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import torch
from support import same, settings, train, weights
from torch import Tensor, nn

import raysplit
from raysplit.actors.data_owner import Batch
from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.fedem.fedem import sample_losses, weighted_loss
from raysplit.algorithms.fedem.mixture import MIXTURE, Mixture, MixtureSpec, mixed
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.result import Result
from raysplit.tasks import make_task

MOMENTUM = {"rounds": 3, "batch_size": 16, "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}}
TASKS = {"name": "main_label", "num_owners": 5, "alpha": 0.2, "samples_per_owner": 50, "test_samples_per_owner": 40}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_learner_is_fedavg_bit_for_bit(dtype: str) -> None:
    changes: dict[str, Any] = {"training": MOMENTUM, "model__dtype": dtype}
    one = train(algorithm={"name": "fedem", "num_learners": 1}, **changes)
    fedavg = weights(train(algorithm={"name": "fedavg"}, **changes))
    for state in one.states.values():
        learner = {key.removeprefix("learners.0."): value for key, value in state.items() if key != MIXTURE}
        assert same(learner, fedavg)
        assert state[MIXTURE].tolist() == [1.0]


def test_learners_begin_apart_and_the_first_as_the_plain_model() -> None:
    spec = build(check_config(settings())).setting.spec
    mixture = MixtureSpec.of(spec, 3).build()
    assert isinstance(mixture, Mixture)
    states = [learner.state_dict() for learner in mixture.learners]
    assert same(states[0], spec.build().state_dict())
    assert not same(states[0], states[1])
    assert not same(states[1], states[2])
    assert mixture.mixture.tolist() == pytest.approx([1 / 3] * 3)


def test_prediction_is_the_mixture_of_the_learners_probabilities() -> None:
    spec = build(check_config(settings())).setting.spec
    mixture = MixtureSpec.of(spec, 2).build()
    assert isinstance(mixture, Mixture)
    mixture.mixture.copy_(torch.tensor([0.25, 0.75]))
    x = torch.randn(4, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = (learner(x).softmax(1) for learner in mixture.learners)
    torch.testing.assert_close(mixture(x).exp(), 0.25 * first + 0.75 * second)


def test_weights_are_the_mean_responsibilities_under_the_learners_of_the_round() -> None:
    """The E-step by hand, from the learners that everybody starts from."""
    setting = build(check_config(settings(algorithm={"name": "fedem", "num_learners": 2}))).setting
    kind = resolve_algorithm("fedem")
    algorithm = kind(setting, kind.options_type(num_learners=2))

    async def after_a_round() -> dict[str, Any]:
        algorithm.attach(await LocalCluster().deploy(algorithm.parties()))
        await algorithm.round(algorithm.context(0, list(setting.owners)))
        return {name: await algorithm.handles[name].weights() for name in setting.owners}

    states = asyncio.run(after_a_round())
    learners = [spec.build() for spec in MixtureSpec.of(setting.spec, 2).learner_specs()]
    for name, data in setting.owners.items():
        x = data.transform(data.shard.x, torch.Generator()).double()
        likelihoods = [
            learner(x).softmax(1)[torch.arange(len(x)), data.shard.y].detach() for learner in learners
        ]  # exp(-cross-entropy) is the probability of the label
        q = torch.stack([likelihood / sum(likelihoods) for likelihood in likelihoods], 1)
        torch.testing.assert_close(states[name][MIXTURE], q.mean(0))


def test_owners_of_different_tasks_mix_differently_and_learn() -> None:
    training = {"rounds": 12, "batch_size": 16, "optimizer": {"lr": 0.3}}
    result = train(algorithm={"name": "fedem"}, partition=TASKS, training=training)
    mixtures = torch.stack([state[MIXTURE] for state in result.states.values()])
    torch.testing.assert_close(mixtures.sum(1), torch.ones(5, dtype=torch.float64))
    assert float(mixtures.std(0).max()) > 0.01
    assert result.rows[-1]["train_loss"] < 0.7 * result.rows[0]["train_loss"]


def test_a_round_sends_all_learners_down_and_up() -> None:
    """Eight bytes per weight and learner in float32; the mixture itself stays at home."""
    num_weights = 10 * 16 + 16 + 16 * 12 + 12 + 12 * 5 + 5
    result = train(algorithm={"name": "fedem", "num_learners": 3}, model__dtype="float32", training__rounds=1)
    assert result.rows[0]["bytes"] == 3 * 8 * 3 * num_weights


def test_another_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss is 'mse', and fedem trains with cross_entropy or any task only"):
        train(algorithm={"name": "fedem"}, training__loss="mse")


def test_sample_losses_are_cross_entropies() -> None:
    setting = build(check_config(settings())).setting
    mixture = MixtureSpec.of(setting.spec, 2).build()
    assert isinstance(mixture, Mixture)
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 4, 1], dtype=torch.int32)
    losses = sample_losses(mixture, Batch(x=x, y=y, indices=torch.arange(3)), "cpu", make_task("classification", 5))
    expected = -mixture.learners[1](x).log_softmax(1)[1, 4]
    torch.testing.assert_close(losses[1, 1], expected)


# -- other tasks than one class per sample ------------------------------------------------------------------------


NAN = math.nan


class Named(nn.Module):
    """Given outputs, whatever the inputs are."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, x: Tensor) -> Tensor:
        return self.output


@pytest.mark.parametrize(
    ("kind", "outputs", "y", "expected"),
    [
        # two numbers for each sample, of which one is missing: squared errors by sample
        (
            "regression",
            ([[1.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [1.0, 1.0]]),
            [[0.0, 0.0], [1.0, NAN]],
            [[5, 1], [0, 0]],
        ),
        # two tokens for each sample, of two equally likely ones; the second sample has one token
        (
            "language_model",
            ([[[0.0, 0.0]] * 2] * 2, [[[0.0, math.log(3)]] * 2] * 2),
            [[0, 1], [0, -100]],
            [[2 * math.log(2), math.log(2)], [math.log(4) + math.log(4 / 3), math.log(4)]],
        ),
        # a picture of two pixels, one of which does not count
        ("segmentation", ([[[[0.0, 0.0]], [[0.0, 0.0]]]], [[[[0.0, 0.0]]] * 2]), [[[1, 255]]], [[math.log(2)]] * 2),
        ("multi_label", ([[0.0, 0.0]], [[math.log(3), 0.0]]), [[1.0, NAN]], [[math.log(2)], [math.log(4 / 3)]]),
    ],
)
def test_a_samples_loss_is_the_sum_over_its_targets(kind: str, outputs: Any, y: Any, expected: Any) -> None:
    """By hand; from it follow the responsibilities and, divided by the counted targets, the loss of the M-step."""
    task = make_task(kind, 2)
    mixture = Mixture([Named(output) for output in outputs], torch.float32, kind)
    targets = torch.tensor(y)
    batch = Batch(x=torch.zeros(len(targets), 1), y=targets, indices=torch.arange(len(targets)))
    losses = sample_losses(mixture, batch, "cpu", task)
    torch.testing.assert_close(losses, torch.tensor(expected).float())
    q = torch.softmax(mixture.mixture.log() - losses.T, 1)
    weighted = weighted_loss(mixture, batch, "cpu", q, task)
    torch.testing.assert_close(weighted, (q.T * losses).sum() / task.count(targets))


def test_a_missing_label_counts_in_no_mean() -> None:
    """The M-step took the mean over all rows, of which those without a label have no loss."""
    task = make_task("classification", 2)
    mixture = Mixture([Named([[0.0, 0.0], [0.0, 9.0]])], torch.float32, "classification")
    batch = Batch(x=torch.zeros(2, 1), y=torch.tensor([0, -100]), indices=torch.arange(2))
    assert weighted_loss(mixture, batch, "cpu", torch.ones(2, 1), task).item() == pytest.approx(math.log(2))


def test_answers_are_mixed_by_the_kind_of_the_task() -> None:
    weights = torch.tensor([0.25, 0.75]).log()
    numbers = mixed("regression", [torch.tensor([[1.0]]), torch.tensor([[5.0]])], weights)
    torch.testing.assert_close(numbers, torch.tensor([[4.0]]))
    logits = [torch.tensor([[0.0]]), torch.tensor([[math.log(3)]])]
    torch.testing.assert_close(mixed("multi_label", logits, weights).sigmoid(), torch.tensor([[0.125 + 0.5625]]))
    tokens = [torch.tensor([[[0.0, 0.0, math.log(2)]]]), torch.tensor([[[0.0, 0.0, 0.0]]])]
    expected = torch.tensor([[[0.3125, 0.3125, 0.375]]])
    torch.testing.assert_close(mixed("language_model", tokens, weights).exp(), expected)
    pixels = [token.movedim(-1, 1)[..., None] for token in tokens]
    torch.testing.assert_close(mixed("segmentation", pixels, weights).exp()[0, :, 0, 0], expected[0, 0])


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"name": "diabetes"}, "model": {"name": "mlp", "hidden": [6]}, "task": "regression"},
        {
            "data": {"name": "text:python_topics", "length": 8, "train_samples": 60, "test_samples": 20},
            "model": {"name": "text_transformer", "width": 8, "blocks": 1, "heads": 2},
            "task": "language_model",
        },
    ],
    ids=["regression", "language_model"],
)
def test_one_learner_is_fedavg_for_other_tasks(changes: dict[str, Any]) -> None:
    def outcome(algorithm: dict[str, Any]) -> Result:
        return raysplit.train(
            **changes,
            partition={"name": "iid", "num_owners": 2},
            algorithm=algorithm,
            training={"rounds": 2, "local_epochs": 1, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 1e-2}},
            cluster="local",
        )

    fedavg = outcome({"name": "fedavg"})
    one = outcome({"name": "fedem", "num_learners": 1})
    for state in one.states.values():
        assert same({k.removeprefix("learners.0."): v for k, v in state.items() if k != MIXTURE}, weights(fedavg))
    two = outcome({"name": "fedem", "num_learners": 2})
    assert two.rows[-1]["train_loss"] < two.rows[0]["train_loss"]
    assert math.isfinite(two.rows[-1]["primary"])
