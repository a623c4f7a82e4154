"""The backbone/head model of arXiv 2407.05982: exact sizes, the structure of a head, gradients, weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.algorithms.mtl_split.mtl_split import decaying
from raysplit.models.classifier.heads import (
    BACKBONES,
    MultiTaskClassifier,
    build_classifier,
    fan_out,
    freeze_backbone,
    load_backbone,
    num_features,
    num_parameters,
    task_head,
)
from raysplit.models.classifier.losses import joint_loss, task_losses
from raysplit.schedulers.learning_rate import SCHEDULES


@pytest.mark.parametrize(
    ("name", "parameters", "z_at_64", "z_at_224"),
    [
        ("vgg16", 14_714_688, 2_048, 25_088),
        ("vgg16_bn", 14_723_136, 2_048, 25_088),
        ("resnet18", 11_176_512, 2_048, 25_088),
        ("mobilenet_v3_small", 927_008, 2_304, 28_224),
        ("efficientnet_b0", 4_007_548, 5_120, 62_720),
        ("small", 97_440, 2_048, 25_088),
    ],
)
def test_backbones_have_the_published_sizes(name: str, parameters: int, z_at_64: int, z_at_224: int) -> None:
    with torch.device("meta"):
        backbone = BACKBONES[name].build()
    assert num_parameters(backbone) == parameters
    assert num_features(backbone, 64) == z_at_64
    assert num_features(backbone, 224) == z_at_224


@pytest.mark.parametrize(
    ("features", "classes", "parameters"),
    [
        (2_048, 8, 526_600), (2_048, 4, 525_572),
        (2_304, 8, 592_136), (2_304, 4, 591_108),
        (5_120, 8, 1_313_032), (5_120, 4, 1_312_004),
        (25_088, 3, 6_423_555), (25_088, 2, 6_423_298), (25_088, 6, 6_424_326),
        (28_224, 3, 7_226_371), (28_224, 2, 7_226_114), (28_224, 6, 7_227_142),
        (62_720, 3, 16_057_347), (62_720, 2, 16_057_090), (62_720, 6, 16_058_118),
    ],
)  # fmt: skip
def test_a_head_has_the_published_size(features: int, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert num_parameters(task_head(features, classes)) == parameters


def test_dropout_comes_before_the_relu() -> None:
    kinds = [type(layer) for layer in task_head(8, 3)]
    assert kinds == [nn.Linear, nn.Dropout, nn.ReLU, nn.Linear]
    assert task_head(8, 3)[1].p == 0.1


def test_only_the_asked_tasks_are_answered() -> None:
    model = build_classifier("small", {"size": 8, "shape": 4}, image_size=64, seed=1).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert {task: tuple(logits.shape) for task, logits in model(x).items()} == {"size": (2, 8), "shape": (2, 4)}
    assert list(model(x, tasks=["shape"])) == ["shape"]
    assert torch.equal(model(x)["shape"], model.answer(model.features(x), ["shape"])["shape"])
    with pytest.raises(ValueError, match="unknown task 'colour'; this model has size, shape"):
        model(x, tasks=["colour"])


def test_two_passes_in_eval_mode_are_identical() -> None:
    model = build_classifier("mobilenet_v3_small", {"size": 8, "shape": 4}, image_size=64, seed=1).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = model(x), model(x)
    assert all(torch.equal(first[task], second[task]) for task in model.tasks)


def test_a_single_task_network_starts_with_the_weights_of_the_multi_task_one() -> None:
    state = torch.random.get_rng_state()
    both = build_classifier("small", {"size": 8, "shape": 4}, image_size=64, seed=3).state_dict()
    alone = build_classifier("small", {"shape": 4}, image_size=64, seed=3).state_dict()
    assert all(torch.equal(value, both[name]) for name, value in alone.items())
    other = build_classifier("small", {"shape": 4}, image_size=64, seed=4).state_dict()
    assert not torch.equal(other["heads.shape.0.weight"], alone["heads.shape.0.weight"])
    assert torch.equal(state, torch.random.get_rng_state()), "building a model leaves the global stream alone"


def _gradients(model: MultiTaskClassifier, x: torch.Tensor, y: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=False)
    joint_loss(task_losses(model(x, tasks=list(y)), y)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def test_the_joint_gradient_is_the_sum_of_the_tasks_gradients() -> None:
    model = build_classifier("small", {"size": 8, "shape": 4}, image_size=64, seed=5).double().eval()
    stream = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 64, 64, generator=stream, dtype=torch.float64)
    y = {"size": torch.tensor([0, 3, 7, 1]), "shape": torch.tensor([3, 0, 1, 2])}
    joint = _gradients(model, x, y)
    size, kind = _gradients(model, x, {"size": y["size"]}), _gradients(model, x, {"shape": y["shape"]})
    for name, gradient in joint.items():
        assert torch.allclose(gradient, size[name] + kind[name], rtol=1e-12, atol=1e-12), name
    assert all(not size[name].any() for name in size if name.startswith("heads.shape"))
    assert all(torch.equal(joint[name], size[name]) for name in size if name.startswith("heads.size"))


def test_multi_task_training_with_one_task_is_single_task_training() -> None:
    """Written out: the single-task loop calls backbone, head and cross-entropy itself."""
    stream = torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 3, 64, 64, generator=stream), torch.arange(8) % 4

    multi = build_classifier("small", {"shape": 4}, image_size=64, seed=6).train()
    optimizer = torch.optim.AdamW(multi.parameters(), lr=1e-3, weight_decay=1e-5)
    torch.manual_seed(9)  # dropout
    for _ in range(3):
        optimizer.zero_grad()
        joint_loss(task_losses(multi(x), {"shape": y})).backward()
        optimizer.step()

    single = build_classifier("small", {"shape": 4}, image_size=64, seed=6).train()
    optimizer = torch.optim.AdamW(single.parameters(), lr=1e-3, weight_decay=1e-5)
    torch.manual_seed(9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(single.heads["shape"](single.backbone(x).flatten(1)), y).backward()
        optimizer.step()
    states = multi.state_dict(), single.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_rate_falls_tenfold_every_half_run() -> None:
    step = SCHEDULES["step"]
    assert [step(e, 4) for e in range(4)] == pytest.approx([1, 1, 0.1, 0.1])
    assert [step(e, 5) for e in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [step(e, 3) for e in range(3)] == pytest.approx([1, 0.1, 0.01])
    assert step(0, 1) == 1.0


@pytest.mark.parametrize("max_epochs", [2, 5, 30])
def test_the_rate_is_that_of_torchs_step_schedule(max_epochs: int) -> None:
    spec = decaying(OptimizerSpec(name="adamw", lr=1e-4))
    optimizer = spec.build([nn.Parameter(torch.zeros(1))])
    assert optimizer is not None
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(1e-6)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=max_epochs // 2, gamma=0.1)
    for epoch in range(max_epochs):
        assert 1e-4 * SCHEDULES["step"](epoch, max_epochs) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_a_given_weight_decay_is_kept() -> None:
    given = OptimizerSpec(name="adamw", lr=1e-3, options={"weight_decay": 0.0})
    assert decaying(given) is given
    assert decaying(OptimizerSpec(name="sgd", lr=1e-3)).options == {}


def test_the_joint_loss_is_the_plain_sum() -> None:
    assert joint_loss({"size": torch.tensor(2.0), "shape": torch.tensor(3.0)}).item() == 5.0


def test_gradients_of_the_features_are_summed_in_the_order_of_the_tasks() -> None:
    """1e8 + 1 - 1e8 is 0 in float32 in this order, and 1 in another; autograd alone would begin with the last."""
    z = torch.ones(1, requires_grad=True)
    copies = fan_out(z, 3)
    sum(copy * weight for copy, weight in zip(copies, (1.0, 1e8, -1e8), strict=True)).backward()
    assert z.grad.item() == 0.0
    z = torch.ones(1, requires_grad=True)
    copies = fan_out(z, 3)
    sum(copy * weight for copy, weight in zip(copies, (1e8, -1e8, 1.0), strict=True)).backward()
    assert z.grad.item() == 1.0


def test_pooled_features_are_the_means_of_the_channels() -> None:
    model = build_classifier("mobilenet_v3_small", {"a": 2}, image_size=64, seed=1, cut="pooled").eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = model.backbone(x)
    assert maps.shape == (2, 576, 2, 2)
    torch.testing.assert_close(model.features(x), maps.flatten(2).sum(2) / 4)
    assert num_parameters(model.heads) == 576 * 256 + 256 + 256 * 2 + 2
    assert model.trunk()(x).equal(model.features(x))


def test_pretrained_weights_come_from_the_whole_networks_file_or_the_trunks(tmp_path: Path) -> None:
    donor = build_classifier("mobilenet_v3_small", {"a": 2}, image_size=64, seed=1).backbone.state_dict()
    whole = {f"features.{name}": value for name, value in donor.items()} | {"classifier.0.weight": torch.zeros(3)}
    torch.save(whole, tmp_path / "whole.pt")
    torch.save(donor, tmp_path / "trunk.pt")
    for file in ("whole.pt", "trunk.pt"):
        model = build_classifier("mobilenet_v3_small", {"a": 2}, image_size=64, seed=2)
        head = model.heads["a"][0].weight.clone()
        load_backbone(model, "mobilenet_v3_small", tmp_path / file)
        assert all(torch.equal(value, donor[name]) for name, value in model.backbone.state_dict().items())
        assert torch.equal(model.heads["a"][0].weight, head)


def test_a_foreign_weight_file_is_refused(tmp_path: Path) -> None:
    model = build_classifier("small", {"a": 2}, image_size=64, seed=1)
    state = model.backbone.state_dict()
    torch.save({**state, "0.weight": torch.zeros(4)}, tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match=r"weight '0\.weight' in .* has shape"):
        load_backbone(model, "small", tmp_path / "wrong.pt")
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match=r"has no weight '0\.weight' of small"):
        load_backbone(model, "small", tmp_path / "empty.pt")


def test_a_frozen_backbone_keeps_weights_and_statistics() -> None:
    model = build_classifier("resnet18", {"a": 2}, image_size=64, seed=1)
    freeze_backbone(model)
    model.train()
    assert model.heads["a"].training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    joint_loss(task_losses(model(x), {"a": torch.tensor([0, 1])})).backward()
    optimizer.step()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert all(name.startswith("heads.") for name in changed)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown backbone 'vgg'; did you mean 'vgg16'\? \(one of efficientnet_b0"):
        build_classifier("vgg", {"a": 2}, image_size=64, seed=1)
    with pytest.raises(ValueError, match="task 'a' has 1 classes"):
        build_classifier("small", {"a": 1}, image_size=64, seed=1)
    with pytest.raises(ValueError, match=r"cannot be called 'type', torch needs that name; .* 'type_task'"):
        build_classifier("small", {"type": 2}, image_size=64, seed=1)
    with pytest.raises(ValueError, match=r"cannot be called 'a\.b', .* 'a_b_task'"):
        build_classifier("small", {"a.b": 2}, image_size=64, seed=1)
    with pytest.raises(ValueError, match="needs at least one head"):
        build_classifier("small", {}, image_size=64, seed=1)
    with pytest.raises(ValueError, match="16 x 16 are too small"):
        build_classifier("vgg16", {"a": 2}, image_size=16, seed=1)
