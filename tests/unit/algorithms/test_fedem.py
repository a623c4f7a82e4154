"""FedEM (Marfoq et al. 2021, arXiv 2108.10252): equal to FedAvg with one learner, a mixture with more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from support import same, settings, train, weights

from raysplit.actors.data_owner import Batch
from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.fedem.fedem import sample_losses
from raysplit.algorithms.fedem.mixture import MIXTURE, Mixture, MixtureSpec
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config

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
    with pytest.raises(ValueError, match="loss is 'mse', and fedem trains with cross_entropy only"):
        train(algorithm={"name": "fedem"}, training__loss="mse")


def test_sample_losses_are_cross_entropies() -> None:
    setting = build(check_config(settings())).setting
    mixture = MixtureSpec.of(setting.spec, 2).build()
    assert isinstance(mixture, Mixture)
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 4, 1], dtype=torch.int32)
    losses = sample_losses(mixture, Batch(x=x, y=y, indices=torch.arange(3)), "cpu")
    expected = -mixture.learners[1](x).log_softmax(1)[1, 4]
    torch.testing.assert_close(losses[1, 1], expected)
