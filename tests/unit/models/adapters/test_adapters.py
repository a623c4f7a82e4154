"""Low-rank adapters: split = unsplit in bits, what they begin as, what their average loses, and their export."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformer import ADAM, LORA, TRANSFORMER, U_SHAPE, run, small, spec
from support import run_on, same, train, weights
from torch import Tensor, nn

import raysplit
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.models.adapters.gap import gap_terms, relative_gap
from raysplit.models.adapters.lora import LoraRules, adapters_of
from raysplit.models.adapters.tuning import Tuning


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
    model = {"name": TRANSFORMER, "lora": LORA}
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


def test_an_adapter_file_loads_in_peft_and_merges(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from click.testing import CliRunner

    from raysplit.cli.main import cli

    model = {"name": TRANSFORMER, "lora": {"rank": 2, "alpha": 6, "targets": ["query", "up"]}, "train": ["6.*"]}
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
