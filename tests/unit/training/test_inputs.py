"""Data whose inputs are not one floating tensor, trained from a configuration to the last weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import same, settings, train

from raysplit.actors.parts.stage import PartRecipe
from raysplit.cli.results.torch_program import program_of
from raysplit.config.build import build
from raysplit.config.run import check_config, dump_config
from raysplit.data.inputs import feed
from raysplit.training.preflight import _sizes

TOKENS: dict[str, Any] = {
    "model": {"name": "input_support:bag_of_tokens", "dtype": "float64"},
    "data": {"name": "input_support:tokens"},
    "training": {"rounds": 6, "batch_size": 10, "optimizer": {"lr": 0.5, "momentum": 0.9}},
}
BOTH: dict[str, Any] = {
    **TOKENS,
    "model": {"name": "input_support:TwoInputs", "dtype": "float64"},
    "data": {"name": "input_support:tokens_and_numbers"},
}
KINDS = [pytest.param(TOKENS, 1, id="tokens"), pytest.param(BOTH, "join", id="tokens and numbers")]


def spec_of(changes: dict[str, Any]) -> Any:
    return build(check_config(settings(**changes))).setting.spec


@pytest.mark.parametrize(("changes", "cut"), KINDS)
@pytest.mark.parametrize("name", ["fedavg", "minibatch_sfl"])
def test_they_learn(name: str, changes: dict[str, Any], cut: int | str) -> None:
    assert train(algorithm={"name": name, "cut": cut}, **changes).accuracy > 0.7


@pytest.mark.parametrize(("changes", "cut"), KINDS)
@pytest.mark.parametrize("name", ["fedavg", "splitnn", "splitfed_v1", "minibatch_sfl"])
def test_with_one_owner_every_method_is_centralised_training(
    name: str, changes: dict[str, Any], cut: int | str
) -> None:
    one = {**changes, "partition__num_owners": 1, "training": {**changes["training"], "rounds": 1}}
    central = train(algorithm={"name": "centralised"}, **one)
    assert same(train(algorithm={"name": name, "cut": cut}, **one), central)


@pytest.mark.parametrize(("changes", "cut"), KINDS)
def test_memory_is_estimated_from_the_example(changes: dict[str, Any], cut: int | str) -> None:
    _, _, sent = _sizes(PartRecipe(spec=spec_of(changes), cuts=(cut,)))
    assert sent == [8 * (6 * 5 if changes is TOKENS else 7)]


@pytest.mark.parametrize(("changes", "cut"), KINDS)
def test_an_exported_program_takes_them(tmp_path: Path, changes: dict[str, Any], cut: int | str) -> None:
    config = check_config(settings(algorithm={"name": "fedavg"}, **changes))
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    spec = spec_of(changes)
    model = spec.build().eval()
    program = program_of(tmp_path, model.state_dict()).module()
    batch = spec.example(5)
    assert torch.equal(feed(program, batch), feed(model, batch))


def test_domains_are_for_pictures() -> None:
    with pytest.raises(
        ValueError, match=r"pictures, one floating input of a fixed shape, and these data have x \(torch.int64"
    ):
        spec_of({**TOKENS, "owners": {"domain": "invert"}})


@pytest.mark.parametrize(("changes", "cut"), KINDS)
@pytest.mark.parametrize("name", ["fedem", "mtsl"])
def test_other_methods_take_them_too(name: str, changes: dict[str, Any], cut: int | str) -> None:
    options = {"num_learners": 2} if name == "fedem" else {"cut": cut}
    few = {**changes, "training": {**changes["training"], "rounds": 1}}
    assert train(algorithm={"name": name, **options}, **few).states
