"""The verbs of Python: files, mappings and keyword arguments mean the same run, also inside a running event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from disturbed import Killed, Killer
from support import same, settings, train
from torch import nn

import raysplit


def test_a_file_a_mapping_and_keyword_arguments_are_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings()), encoding="utf-8")
    whole = train()
    for found in (raysplit.train(path), raysplit.train(settings()), raysplit.train(**settings())):
        assert same(found, whole)


def test_sections_change_settings_of_a_file_or_take_the_place_of_its_section(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings()), encoding="utf-8")
    found = raysplit.train(path, training={"rounds": 1}, algorithm="fedavg")
    assert len(found.rows) == 1
    assert same(found, train(training__rounds=1, algorithm={"name": "fedavg"}))


def test_a_result_tells_what_came_of_it(tmp_path: Path) -> None:
    result = raysplit.train(**settings(), folder=tmp_path / "run")
    assert result.accuracy == result.rows[-1]["test_accuracy"]
    assert result.metrics.equals(pa.parquet.read_table(tmp_path / "run" / "metrics.parquet"))
    assert result.traffic.equals(pa.parquet.read_table(tmp_path / "run" / "traffic.parquet"))
    assert result.traffic.column_names[:4] == ["source", "destination", "num_bytes", "num_messages"]
    assert result.folder == tmp_path / "run"
    model = result.model()
    assert not model.training
    assert all(torch.equal(value, result.states["global"][key]) for key, value in model.state_dict().items())
    assert str(result).startswith(f"test accuracy {result.accuracy:.1%}, test loss ")


def test_methods_with_many_models_are_asked_for_one() -> None:
    result = raysplit.train(**settings(algorithm={"name": "local"}))
    assert result.labels == ("owner-0", "owner-1", "owner-2")
    assert isinstance(result.model("owner-1"), nn.Module)
    with pytest.raises(ValueError, match="no label was given; this run has the models owner-0, owner-1, owner-2"):
        result.model()
    with pytest.raises(ValueError, match="there is no model 'owner-9'"):
        result.model("owner-9")


def test_a_run_is_loaded_as_it_ended(tmp_path: Path) -> None:
    result = raysplit.train(**settings(), folder=tmp_path / "run")
    found = raysplit.load(tmp_path / "run")
    assert same(found, result)
    assert (found.rows, found.links, found.stopped) == (result.rows, result.links, "all rounds done")
    x = torch.zeros(1, 10, dtype=torch.float64)
    assert torch.equal(found.model()(x), result.model()(x))
    with pytest.raises(ValueError, match="is not a run folder"):
        raysplit.load(tmp_path)


def test_a_run_that_was_cut_short_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        raysplit.train(**settings(), folder=tmp_path / "run", callbacks=[Killer(1)])
    assert raysplit.load(tmp_path / "run").stopped == "cut short"
    assert same(raysplit.resume(tmp_path / "run"), train())


def test_runs_are_compared(tmp_path: Path) -> None:
    for name in ("fedavg", "local"):
        raysplit.train(**settings(algorithm={"name": name}), folder=tmp_path / name)
    found = raysplit.compare([tmp_path / "fedavg", tmp_path / "local"])
    assert found.table.column("label").to_pylist() == ["FedAvg", "Local only"]
    assert found.reached(2.0).column("rounds").to_pylist() == [None, None]
    assert str(found).splitlines()[0].startswith("FedAvg      accuracy ")
    with pytest.raises(raysplit.ConfigError, match=r"takes a list of run folders, got .*; write compare\(\["):
        raysplit.compare(str(tmp_path / "fedavg"))


def test_a_sweep_keeps_what_has_finished(tmp_path: Path) -> None:
    found = raysplit.sweep(settings(training__rounds=1), over={"seed": [1, 2]}, folder=tmp_path / "sweep")
    assert not found.failed
    assert found.table.num_rows == 1  # seeds are one line
    assert len(list((tmp_path / "sweep" / "cells").iterdir())) == 2
    assert str(found) == (tmp_path / "sweep" / "table.md").read_text(encoding="utf-8")


def test_a_sweep_that_fails_in_part_says_so(tmp_path: Path) -> None:
    rates = {"training.optimizer.lr": [1e200, 0.1]}
    found = raysplit.sweep(settings(training__rounds=1), over=rates, folder=tmp_path / "sweep")
    assert list(found.failed) == ["training.optimizer.lr=1e+200"]


# -- an event loop that runs already -----------------------------------------------------------------------------------


def test_training_works_inside_a_running_event_loop() -> None:
    """As in a notebook, whose cells run inside of one."""

    async def cell() -> raysplit.Result:
        return raysplit.train(**settings())

    assert same(asyncio.run(cell()), train())


def test_an_error_inside_a_running_event_loop_is_raised_there() -> None:
    async def cell() -> None:
        raysplit.train(**settings(training__optimizer={"lr": 1e200}))

    with pytest.raises(raysplit.NonFiniteLoss):
        asyncio.run(cell())


def test_simulating_works_inside_a_running_event_loop() -> None:
    path = Path(__file__).parents[2] / "examples" / "mpsl_simulate.yaml"
    few = {"partition": {"num_owners": 3}}
    plain = raysplit.simulate(path, **few)

    async def cell() -> tuple[float, ...]:
        return raysplit.simulate(path, **few).round_s

    assert asyncio.run(cell()) == plain.round_s
    assert plain.closed_form is not None
    assert plain.timeline.bottleneck() is not None


def test_threads_of_torch_are_left_as_they_were() -> None:
    torch.set_num_threads(2)
    raysplit.train(**settings(training__rounds=1))
    assert torch.get_num_threads() == 2
