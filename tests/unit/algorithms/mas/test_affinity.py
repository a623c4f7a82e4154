"""The look-ahead affinity: values worked out by hand, limits, invariances, and that measuring changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysplit.algorithms.mas.affinity import correlate_losses, measure, measure_gradients
from raysplit.models.dense.losses import TASKS, Loss, Task, task_losses
from raysplit.models.dense.net import MultiTaskModel, build_mas_model


class Scalar(nn.Module):
    """An encoder that gives its one parameter for each input row."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.theta.expand(len(x))


def quadratic(prediction: Tensor, target: Tensor) -> Tensor:
    return (0.5 * (prediction - target) ** 2 + 0.1).mean()


def smooth(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 2 + 0.1).mean()


def scaled(loss: Loss, factor: float) -> Loss:
    return lambda prediction, target: factor * loss(prediction, target)


def toy(tasks: str = "abc", encoder: Callable[[], nn.Module] | None = None) -> MultiTaskModel:
    torch.manual_seed(0)
    body = encoder() if encoder else nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
    return MultiTaskModel(body, nn.ModuleDict({task: nn.Linear(5, 2) for task in tasks})).double()


def batch(tasks: str = "abc") -> tuple[Tensor, dict[str, Tensor]]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(7, 4, generator=source, dtype=torch.float64)
    return x, {task: torch.randn(7, 2, generator=source, dtype=torch.float64) for task in tasks}


def test_three_quadratics_by_hand() -> None:
    """L_j = (theta - c_j)^2 / 2 + 0.1 at theta = 0, one step of 0.1 for each task.

    The published look-ahead gradient carries 1/sqrt(3); lr = 0.1 * sqrt(3) undoes it.
    """
    model = MultiTaskModel(Scalar(), nn.ModuleDict({task: nn.Identity() for task in "abc"}))
    targets = {task: torch.tensor([c], dtype=torch.float64) for task, c in zip("abc", (1.0, 1.2, -1.0), strict=True)}
    found = measure(
        model,
        torch.zeros(1, 1),
        targets,
        dict.fromkeys("abc", quadratic),
        lr=0.1 * 3**0.5,
        weight_decay=0.0,
        normalise_by_lr=False,
    )
    assert found.tasks == ("a", "b", "c")
    expected = [(0.158333, 0.140244, -0.175), (0.188, 0.166829, -0.212), (-0.175, -0.152439, 0.158333)]
    for row, wanted in zip(found.values, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)


def test_weight_decay_pulls_the_encoder_towards_zero() -> None:
    """theta = target = 2: no gradient, so the step is decay alone, to 2 - 0.1 * 0.5 * 2 = 1.9."""
    model = MultiTaskModel(Scalar(), nn.ModuleDict({"a": nn.Identity()}))
    nn.init.constant_(model.encoder.theta, 2.0)  # type: ignore[arg-type]
    targets = {"a": torch.tensor([2.0], dtype=torch.float64)}
    found = measure(model, torch.zeros(1, 1), targets, {"a": quadratic}, lr=0.1, weight_decay=0.5)
    assert found.values[0][0] == pytest.approx((1 - (0.005 + 0.1) / 0.1) / 0.1)


def test_identical_tasks_have_equal_affinities() -> None:
    model = toy()
    for task in "bc":
        model.decoders[task].load_state_dict(model.decoders["a"].state_dict())
    x, targets = batch()
    found = measure(model, x, dict.fromkeys("abc", targets["a"]), dict.fromkeys("abc", smooth), lr=0.1)
    assert len({value for row in found.values for value in row}) == 1
    assert found.values[0][0] > 0


def test_the_scale_of_the_recipients_loss_does_not_matter() -> None:
    x, targets = batch()
    plain = measure(toy(), x, targets, dict.fromkeys("abc", smooth), lr=0.1)
    losses = {"a": smooth, "b": scaled(smooth, 8.0), "c": smooth}
    larger = measure(toy(), x, targets, losses, lr=0.1)
    for source in (0, 2):
        assert larger.values[source][1] == pytest.approx(plain.values[source][1], rel=1e-12)


def test_affinity_is_linear_in_the_sources_loss_to_first_order() -> None:
    x, targets = batch()
    losses = {"a": smooth, "b": scaled(smooth, 3.0), "c": smooth}
    settings = {"lr": 1e-6, "weight_decay": 0.0}
    plain = measure(toy(), x, targets, dict.fromkeys("abc", smooth), **settings)  # type: ignore[arg-type]
    larger = measure(toy(), x, targets, losses, **settings)  # type: ignore[arg-type]
    for recipient in (0, 2):
        assert larger.values[1][recipient] == pytest.approx(3 * plain.values[1][recipient], rel=1e-3)


def test_small_steps_give_the_product_of_the_gradients() -> None:
    """S -> g_i . g_j / L_j, with g_i as trained (1/sqrt n) and g_j the true gradient; the error shrinks with lr."""
    model, (x, targets) = toy(), batch()
    gradients, values = [], []
    for task in model.tasks:
        loss = smooth(model.decoders[task](model.encoder(x)), targets[task])
        parts = torch.autograd.grad(loss, list(model.encoder.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
        values.append(loss.detach())
    g = torch.stack(gradients)
    limit = g @ g.T / 3**0.5 / torch.stack(values)
    errors = []
    for lr in (1e-1, 1e-2, 1e-3):
        found = measure(model, x, targets, dict.fromkeys("abc", smooth), lr=lr, weight_decay=0.0)
        errors.append((torch.tensor(found.values, dtype=torch.float64) - limit).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.05)


def test_the_inner_product_is_the_first_order_of_the_look_ahead() -> None:
    """With weight decay too, which pulls the encoder towards zero in the look-ahead step as well."""
    model, (x, targets), losses = toy(), batch(), dict.fromkeys("abc", smooth)
    before = [p.clone() for p in model.parameters()]
    found = measure_gradients(model, x, targets, losses, weight_decay=0.3)
    ahead = measure(model, x, targets, losses, lr=1e-6, weight_decay=0.3)
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(ahead.values), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_the_cosine_of_gradients_is_symmetric_and_one_with_itself() -> None:
    x, targets = batch()
    found = torch.tensor(measure_gradients(toy(), x, targets, dict.fromkeys("abc", smooth), cosine=True).values)
    torch.testing.assert_close(found.diagonal(), torch.ones(3))
    torch.testing.assert_close(found, found.T)
    assert (found.abs() <= 1 + 1e-6).all()


def test_correlated_losses_by_hand() -> None:
    """The losses at 0 are (1, 4, 9, 16) / 2, the same doubled, and (16, 9, 4, 1) / 2; a fourth task has no variance."""
    model = MultiTaskModel(Scalar(), nn.ModuleDict({task: nn.Identity() for task in "abce"}))
    rows = {"a": [1.0, 2, 3, 4], "b": [2**0.5, 8**0.5, 18**0.5, 32**0.5], "c": [4.0, 3, 2, 1], "e": [1.0, 1, 1, 1]}
    targets = {task: torch.tensor(row, dtype=torch.float64) for task, row in rows.items()}
    found = correlate_losses(model, torch.zeros(4, 1), targets, dict.fromkeys("abce", quadratic)).values
    ac = float(np.corrcoef([1, 4, 9, 16], [16, 9, 4, 1])[0, 1])
    expected = [(1, 1, ac, 0), (1, 1, ac, 0), (ac, ac, 1, 0), (0, 0, 0, 0)]
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)


def test_losses_are_correlated_over_samples_with_both_targets() -> None:
    """The last sample has no target of the second task: its loss of 0 would be counted as an easy sample."""
    model, (x, targets) = toy("ab"), batch("ab")
    losses = dict.fromkeys("ab", Task(letter="b", name="b", num_channels=2, loss=smooth).mean_loss)
    without = {task: target[:-1] for task, target in targets.items()}
    targets["b"][-1] = torch.nan
    random, parameters = torch.random.get_rng_state(), [p.clone() for p in model.parameters()]
    found = correlate_losses(model, x, targets, losses)
    assert found.values[0][1] == pytest.approx(correlate_losses(model, x[:-1], without, losses).values[0][1], rel=1e-9)
    assert found.values[0][1] == found.values[1][0] != 0
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))


class Apart(nn.Module):
    """An encoder whose first parameter feeds the first output column only, and so on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], dim=1)


class Column(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, z: Tensor) -> Tensor:
        return z[:, self.number : self.number + 1].expand(-1, 2)


def test_tasks_on_disjoint_encoder_parameters_do_not_affect_each_other() -> None:
    torch.manual_seed(0)
    model = MultiTaskModel(Apart(), nn.ModuleDict({"a": Column(0), "b": Column(1)})).double()
    x, targets = batch("ab")
    found = measure(model, x, targets, dict.fromkeys("ab", smooth), lr=0.1, weight_decay=0.0)
    assert found.values[0][1] == 0.0
    assert found.values[1][0] == 0.0
    assert found.values[0][0] > 0


def test_a_recipient_without_loss_has_nothing_to_gain() -> None:
    x, targets = batch("ab")
    losses = {"a": smooth, "b": scaled(smooth, 0.0)}
    found = measure(toy("ab"), x, targets, losses, lr=0.1)
    assert [row[1] for row in found.values] == [0.0, 0.0]


def test_dividing_by_the_learning_rate_is_a_switch() -> None:
    x, targets = batch()
    losses = dict.fromkeys("abc", smooth)
    divided = measure(toy(), x, targets, losses, lr=0.25)
    plain = measure(toy(), x, targets, losses, lr=0.25, normalise_by_lr=False)
    assert [4 * value for row in plain.values for value in row] == [value for row in divided.values for value in row]


def train(*, every: int | None, freeze: bool, dropout: bool = False) -> dict[str, Tensor]:
    """Three SGD steps on a small Xception net, measuring every `every` batches."""
    model = build_mas_model(("d", "k"), image_size=32, width=0.1)
    if dropout:
        model = MultiTaskModel(nn.Sequential(model.encoder, nn.Dropout(0.5)), model.decoders)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    source = torch.Generator().manual_seed(5)
    torch.manual_seed(11)
    losses = {task: TASKS[task].loss for task in model.tasks}
    for step in range(3):
        x = torch.rand(2, 3, 32, 32, generator=source)
        targets = {task: torch.rand(2, 1, 32, 32, generator=source) for task in model.tasks}
        if every and step % every == 0:
            measure(model, x, targets, losses, lr=0.01, freeze_running_statistics=freeze)
        optimiser.zero_grad()
        torch.stack(list(task_losses(model(x), targets).values())).sum().backward()
        optimiser.step()
    return model.state_dict()


@pytest.mark.parametrize("dropout", [False, True])
def test_measuring_does_not_change_training(dropout: bool) -> None:
    plain = train(every=None, freeze=True, dropout=dropout)
    torch.testing.assert_close(train(every=1, freeze=True, dropout=dropout), plain, rtol=0, atol=0)


def test_without_the_freeze_only_running_statistics_differ() -> None:
    plain, measured = train(every=None, freeze=False), train(every=1, freeze=False)
    differing = {name for name in plain if not torch.equal(plain[name], measured[name])}
    assert differing
    assert all("running_" in name or "num_batches_tracked" in name for name in differing)
    passes = {name: int(measured[name] - plain[name]) for name in plain if "num_batches_tracked" in name}
    assert set(passes.values()) == {2 * 3}  # two tasks look ahead on each of three batches
