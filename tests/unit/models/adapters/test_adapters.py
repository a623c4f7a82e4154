"""Frozen weights and low-rank adapters: what is not trained exists once, and nobody averages, sends or keeps it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run_on, same, settings, train, weights
from torch import Tensor, nn

import raysplit
from raysplit.actors.parts.stage import PartRecipe
from raysplit.cluster.device import Inline
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.adapters.gap import gap_terms, relative_gap
from raysplit.models.adapters.lora import LoraRules, adapters_of
from raysplit.models.adapters.tuning import Tuning
from raysplit.models.adapters.weights import digest, write_weights
from raysplit.models.spec import ModelSpec

ME = "unit.models.adapters.test_adapters"
ADAM = {"name": "adamw", "lr": 0.01}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}


class Block(nn.Module):
    """Attention over the positions of an input, and a layer on each, with dropout."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.norm, self.query, self.key, self.value = nn.LayerNorm(width), *(nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        scores = self.query(y) @ self.key(y).transpose(1, 2) / math.sqrt(y.shape[-1])
        x = x + self.drop(self.out(scores.softmax(-1) @ self.value(y)))
        y = self.down(torch.relu(self.up(x)))
        return x + y


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (5, 2))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def transformer(num_classes: int, p: float = 0.1) -> nn.Module:
    """A small transformer over five positions of two numbers."""
    return nn.Sequential(
        Rows(), nn.Linear(2, 8), Block(8, p), Block(8, p), Block(8, p), Mean(), nn.Linear(8, num_classes)
    )


def run(algorithm: Any = "fedavg", *, model: dict[str, Any] | None = None, **more: Any) -> Any:
    given = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    training = {"rounds": 2, "batch_size": 16, "optimizer": ADAM, **more.pop("training", {})}
    network = {"name": f"{ME}:transformer", "lora": LORA, **(model or {})}
    return train(algorithm=given, model=network, training=training, partition__num_owners=4, **more)


def spec(**tuning: Any) -> ModelSpec:
    return ModelSpec(
        name=f"{ME}:transformer", input_shape=(10,), num_classes=5, seed=3, tuning=Tuning(**tuning), options={"p": 0.0}
    )


U_SHAPE = {"name": "mpsl", "cuts": ["2", "3"]}


@pytest.mark.parametrize("algorithm", [U_SHAPE, {"name": "splitfed_v1", "cut": "3"}])
@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.1}, ADAM])
def test_adapters_in_every_part_are_those_of_the_uncut_model(algorithm: dict[str, Any], optimizer: Any) -> None:
    """Four owners, dropout in base and adapters: losses and averaged adapters in bits."""
    whole, split = (run(a, training={"optimizer": optimizer}) for a in ("fedavg", algorithm))
    assert same(split, whole)
    assert [row["train_loss"] for row in split.rows] == [row["train_loss"] for row in whole.rows]
    assert [row["lora_gap"] for row in split.rows] == pytest.approx([row["lora_gap"] for row in whole.rows])
    assert whole.rows[0]["lora_gap"] > 0


@pytest.mark.parametrize("name", ["splitnn", "splitfed_v2", "minibatch_sfl", "fedem", "mtsl", "local", "fedprox"])
def test_every_method_trains_adapters_alone(name: str) -> None:
    result = run(
        {"name": name, **({"cut": "3"} if name in ("splitnn", "splitfed_v2", "minibatch_sfl", "mtsl") else {})}
    )
    assert result.rows[-1]["train_loss"] < 2
    if name not in ("fedem", "mtsl", "local"):
        base = spec().build().state_dict()
        assert all(torch.equal(weights(result)[key], base[key]) for key in base)


@pytest.mark.parametrize(("party", "at_call"), [("node-1", 12), ("aggregator", 3)])
def test_a_death_leaves_no_trace_in_the_adapters(party: str, at_call: int) -> None:
    model = {"name": f"{ME}:transformer", "lora": LORA}
    training = {"rounds": 2, "batch_size": 32, "optimizer": ADAM}
    cluster = FaultyCluster(LocalCluster(), [Fault(party=party, at_call=at_call)])
    assert same(
        run_on(cluster, algorithm=U_SHAPE, model=model, training=training),
        train(algorithm=U_SHAPE, model=model, training=training),
    )
    assert cluster.num_healed == 1


def test_an_adapter_begins_as_the_base() -> None:
    x = torch.randn(3, 10)
    adapted, base = spec(lora=LoraRules(rank=3, dropout=0.2)).build().eval(), spec().build().eval()
    assert torch.equal(adapted(x), base(x))
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert names[:2] == ["1.lora_a", "1.lora_b"]
    assert {name.rpartition(".")[2] for name in names} == {"lora_a", "lora_b"}
    assert len(adapters_of(adapted)) == 2 + 3 * 6
    drawn = adapted.get_submodule("2.query").lora_a
    assert isinstance(drawn, Tensor)
    assert drawn.abs().max() <= 1 / math.sqrt(8)


def test_the_linear_layer_of_gpt2_is_adapted_with_its_weight_transposed() -> None:
    layers = pytest.importorskip("transformers.pytorch_utils")
    base = nn.Sequential(layers.Conv1D(6, 4), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(3, 5, 4)
    before = base(x)
    tuned = Tuning(lora=LoraRules(rank=2, alpha=2)).applied(base, 0)
    assert torch.equal(tuned(x), before)
    layer = adapters_of(tuned)["0"]
    assert (layer.lora_a.shape, layer.lora_b.shape, layer.weight.shape) == ((2, 4), (6, 2), (4, 6))
    layer.lora_b.data.normal_()
    plain = layers.Conv1D(6, 4)
    plain.weight.data, plain.bias.data = layer.weight + (layer.lora_b @ layer.lora_a).T, layer.bias
    assert (layer(x) - plain(x)).abs().max() < 1e-5


def test_only_a_named_head_is_trained_beside_the_adapters() -> None:
    tuned = spec(lora=LoraRules(targets=("query", "value")), train=("6.*",)).build()
    trained = {name for name, p in tuned.named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora" not in name} == {"6.weight", "6.bias"}
    assert {name for name in trained if "lora" in name} == {
        f"{block}.{layer}.lora_{factor}" for block in (2, 3, 4) for layer in ("query", "value") for factor in "ab"
    }


def test_ffa_leaves_a_as_drawn_and_is_exact() -> None:
    rules = {**LORA, "aggregate": "ffa"}
    result, separate = run(model={"lora": rules}), run()
    drawn = spec(lora=LoraRules(**rules)).build().state_dict()
    assert all(torch.equal(value, drawn[key]) for key, value in weights(result).items() if key.endswith("lora_a"))
    assert "lora_gap" not in result.rows[0] or result.rows[0]["lora_gap"] == 0.0
    sent = [sum(link.num_bytes for link in each.links) for each in (result, separate)]
    assert sent[0] < 0.7 * sent[1]
    assert same(run(U_SHAPE, model={"lora": rules}), result)


def test_the_gap_by_hand() -> None:
    """Owners (1, 1) and (3, 3): the mean product is 5, the product of the means 4."""

    def state(b: float, a: float) -> dict[str, Tensor]:
        return {"x.lora_a": torch.tensor([[a]]), "x.lora_b": torch.tensor([[b]])}

    terms = gap_terms([state(1, 1), state(3, 3)], [0.5, 0.5], state(2, 2))
    assert terms is not None
    assert relative_gap([terms]) == pytest.approx(0.2)
    same_owners = gap_terms([state(2, 3), state(2, 3)], [0.5, 0.5], state(2, 3))
    assert same_owners is not None
    assert relative_gap([same_owners]) == 0.0
    assert gap_terms([{"w": torch.ones(1)}], [1.0], {"w": torch.ones(1)}) is None


# -- frozen weights ----------------------------------------------------------------------------------------------------


def test_frozen_weights_exist_once_in_a_process() -> None:
    tuned = spec(lora=LoraRules(rank=2))
    for cuts in ((), ("2", "3")):
        recipes = [PartRecipe(spec=tuned, cuts=cuts, index=index) for index in range(len(cuts) + 1)]
        owners = [[recipe.build(Inline()).part for recipe in recipes] for _ in range(3)]
        for part, *others in zip(*owners, strict=True):
            frozen = {name: id(p) for name, p in part.module.named_parameters() if not p.requires_grad}
            trained = {name: id(p) for name, p in part.module.named_parameters() if p.requires_grad}
            assert frozen
            for other in others:
                found = dict(other.module.named_parameters())
                assert {name: id(found[name]) for name in frozen} == frozen
                assert all(id(found[name]) != number for name, number in trained.items())
    part = owners[0][0]
    packed = part.pack()
    assert sum(t.numel() for t in packed.tensors) == sum(
        p.numel() for p in tuned.parts(cuts)[0].parameters() if p.requires_grad
    )


def test_what_is_loaded_does_not_change_what_is_shared() -> None:
    tuned = spec(lora=LoraRules(rank=2))
    part = PartRecipe(spec=tuned).build(Inline()).part
    part.load_weights({name: torch.ones_like(p) for name, p in part.module.state_dict().items()})
    assert torch.equal(tuned.build().state_dict()["1.weight"], spec().build().state_dict()["1.weight"])
    assert bool((part.module.get_parameter("1.lora_b") == 1).all())


def test_nothing_returns_where_everything_in_front_is_frozen() -> None:
    """The owners' part is frozen as a whole: no gradient comes back, and there is nothing to average."""
    frozen, usual = (
        run({"name": name, "cut": "3"}, model={"lora": None, "freeze": freeze}, training={"rounds": 1})
        for name, freeze in (("splitfed_v1", ["1.*", "2.*", "3.*"]), ("splitfed_v1", []))
    )
    kinds = [
        {kind.kind: kind.num_bytes for link in r.links for kind in link.kinds if link.source == "server"}
        for r in (frozen, usual)
    ]
    assert kinds[0].get("gradients", 0) == 0 < kinds[1]["gradients"]
    assert same(run("fedavg", model={"lora": None, "freeze": ["1.*", "2.*", "3.*"]}, training={"rounds": 1}), frozen)
    joint = run({"name": "minibatch_sfl", "cut": "3"}, model={"lora": None, "freeze": ["1.*", "2.*", "3.*"]})
    assert gradient_bytes(joint) == 0


def gradient_bytes(result: Any) -> int:
    return sum(kind.num_bytes for link in result.links for kind in link.kinds if kind.kind == "gradients")


def test_only_what_train_names_is_trained() -> None:
    result = run("fedavg", model={"lora": None, "train": ["6.*"]})
    base = spec().build().state_dict()
    changed = {key for key, value in weights(result).items() if not torch.equal(value, base[key])}
    assert changed == {"6.weight", "6.bias"}


def test_checkpoints_have_what_is_trained_alone(tmp_path: Path) -> None:
    """At most 16 bytes per trained number and holder, and 64 KiB."""
    model = {"name": f"{ME}:wide", "lora": {"rank": 2}}
    folder = tmp_path / "run"
    training = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 1e-3, "momentum": 0.9}}
    raysplit.train(**{**small(), "model": model, "training": training}, folder=folder)
    (newest,) = sorted((folder / "checkpoints").glob("round-*.ckpt"))[-1:]
    trained, holders = 2 * (10 + 400 + 400 + 5), 2 + 1 + 1  # owners, aggregator, server
    assert newest.stat().st_size < 16 * trained * holders + 2**16
    assert newest.stat().st_size < 4 * 400 * 410  # the base once


def wide(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(10, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, num_classes))


def small() -> dict[str, Any]:
    return {
        "data": {"name": "random", "num_classes": 5, "num_samples": 60, "dim": 10, "seed": 1},
        "partition": {"name": "iid", "num_owners": 2},
        "algorithm": {"name": "splitfed_v1", "cut": 3},
        "training": {"rounds": 2, "batch_size": 16},
        "cluster": "local",
    }


# -- a base from a file ------------------------------------------------------------------------------------------------


def base_file(path: Path, change: float = 0.0) -> Path:
    torch.manual_seed(5)
    state = {name: value.clone() for name, value in transformer(5).state_dict().items()}
    state["1.weight"][0, 0] += change
    write_weights(state, path)
    return path


def test_a_run_begins_from_the_weights_in_a_file(tmp_path: Path) -> None:
    base = base_file(tmp_path / "base.safetensors")
    result = run(U_SHAPE, model={"weights": str(base)})
    state = weights(result)
    assert same({key: state[key] for key in transformer(5).state_dict()}, from_file(base))
    assert same(result, run(model={"weights": str(base)}))


def from_file(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    return dict(safetensors.torch.load_file(str(path)))


def test_a_base_that_changed_by_one_bit_is_refused_when_a_run_is_resumed(tmp_path: Path) -> None:
    base = base_file(tmp_path / "base.safetensors")
    model = {"name": f"{ME}:transformer", "lora": LORA, "weights": str(base)}
    given = {**small(), "model": model, "algorithm": {"name": "splitfed_v1", "cut": "3"}}
    training = {"rounds": 3, "batch_size": 16}

    class Stop(raysplit.Callback):
        def round_ended(self, row: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raysplit.train(**{**given, "training": training}, folder=tmp_path / "run", callbacks=[Stop()])
    base_file(base, change=2.0**-20)
    with pytest.raises(ValueError, match="frozen weights"):
        raysplit.resume(tmp_path / "run")
    base_file(base)
    assert same(raysplit.resume(tmp_path / "run"), raysplit.train(**{**given, "training": training}))


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    good = from_file(base_file(tmp_path / "base.safetensors"))
    cases = {
        "has '9.weight', which the model has not": {**good, "9.weight": torch.zeros(1)},
        r"'6.weight' has the shape \[1, 8\]": {**good, "6.weight": torch.zeros(1, 8)},
        "lacks '6.weight', which is frozen": {name: v for name, v in good.items() if name != "6.weight"},
    }
    for number, (message, state) in enumerate(cases.items()):
        path = tmp_path / f"{number}.safetensors"
        write_weights(state, path)
        with pytest.raises(ValueError, match=message):
            run(model={"weights": str(path)})
    with pytest.raises(ValueError, match="no such file"):
        run(model={"weights": str(tmp_path / "none.safetensors")})
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        run(model={"weights": str(tmp_path / "torn.safetensors")})


def test_a_digest_tells_one_bit_apart() -> None:
    state = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.int64)}
    assert digest(state) == digest(dict(reversed(state.items())))
    assert digest(state) != digest({**state, "b": torch.tensor([0.0, 1.0, 2.0000002])})
    assert digest(state) != digest({**state, "b": torch.arange(3.0)[None]})


# -- refusals ----------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8)


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (Block, ("nothing",), "no module of the model is called so"),
        (Block, ("norm",), "it is a LayerNorm"),
        (Tied, ("head",), "tied to 'embed.weight'"),
        (Torchs, ("linear1",), "uses its weight without calling it"),
    ],
)
def test_layers_that_cannot_be_adapted_are_refused(model: Any, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tuning(lora=LoraRules(targets=targets)).applied(model(8, 0.1) if model is Block else model(), 0)


def test_an_adapter_that_the_model_never_calls_is_refused() -> None:
    with pytest.raises(ValueError, match="never calls 'idle'"):
        run(model={"name": f"{ME}:forgetful"})


class Forgetful(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(10, num_classes), nn.Linear(10, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.used(x) + x @ self.idle.weight.T
        return y


def forgetful(num_classes: int) -> nn.Module:
    return Forgetful(num_classes)


def test_all_linear_leaves_tied_layers_out() -> None:
    assert set(adapters_of(Tuning(lora=LoraRules()).applied(Tied(), 0))) == {"middle"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"lora": None, "freeze": ["nowhere.*"]}, "model.freeze: 'nowhere"),
        ({"lora": None, "train": ["nowhere.*"]}, "model.train: 'nowhere"),
        ({"lora": None, "freeze": ["*"]}, "leave no weight to train"),
    ],
)
def test_patterns_that_fit_nothing_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model=model)


def test_two_rules_for_the_same_weights_are_refused() -> None:
    for other in ({"train": ["a"]}, {"lora": {}}):
        with pytest.raises(ConfigError, match="leave one out"):
            check_config(settings(model={"name": "mlp", "freeze": ["b"], **other}))
    with pytest.raises(ConfigError, match=r"model\.lora is set, and mas"):
        check_config(settings(algorithm={"name": "mas"}, model={"name": "mas", "lora": {}}))


# -- export ------------------------------------------------------------------------------------------------------------


def test_an_adapter_file_loads_in_peft_and_merges(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from click.testing import CliRunner

    from raysplit.cli.main import cli

    model = {"name": f"{ME}:transformer", "lora": {"rank": 2, "alpha": 6, "targets": ["query", "up"]}, "train": ["6.*"]}
    given = {**small(), "model": model, "algorithm": {"name": "splitfed_v1", "cut": "3"}}
    result = raysplit.train(
        **{**given, "training": {"rounds": 2, "batch_size": 8, "optimizer": {"lr": 0.5}}}, folder=tmp_path / "run"
    )
    x, wanted = torch.randn(4, 10), result.model()
    for option, target in (("--adapter", "adapter"), ("--merge", "merged.pt")):
        told = CliRunner().invoke(cli, ["export", str(tmp_path / "run"), str(tmp_path / target), option])
        assert told.exit_code == 0, told.output
    plain = replace(spec(), seed=0)
    base = plain.build().eval()
    loaded = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert (wanted(x) - loaded(x)).abs().max() < 1e-6
    merged = plain.build().eval()
    merged.load_state_dict(torch.load(tmp_path / "merged.pt"))
    assert (wanted(x) - merged(x)).abs().max() < 1e-5
    assert (wanted(x) - plain.build().eval()(x)).abs().max() > 1e-2
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (2, 6.0, ["6"])
