"""Base weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformer import LORA, TRANSFORMER, U_SHAPE, run, small, transformer
from support import same, weights
from torch import Tensor

import raysplit
from raysplit.models.adapters.weights import digest, write_weights


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
    model = {"name": TRANSFORMER, "lora": LORA, "weights": str(base)}
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
