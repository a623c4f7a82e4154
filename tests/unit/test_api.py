"""The verbs of Python: files, keyword arguments and objects mean the same run, and mistakes name the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from disturbed import Killed, Killer
from support import same, settings, train
from torch import nn
from torch.utils.data import TensorDataset

import raysplit
from raysplit.algorithms.base import AGGREGATOR
from raysplit.algorithms.fedavg import FedAvg, train_and_submit
from raysplit.runs.folder import Row

LOCAL: dict[str, Any] = {"cluster": "local", "training": {"rounds": 2, "optimizer": {"lr": 0.1}}}


def arrays(num: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in four features, far apart."""
    y = np.arange(num) % 3
    x = np.random.default_rng(seed).normal(0, 0.1, (num, 4)) + np.eye(3, 4)[y]
    return x.astype(np.float32), y


TRAIN, TEST = arrays(), arrays(60, seed=1)


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(input_shape[0], width)
        self.last = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


class GentleOptions(raysplit.Options):
    gentle: bool = True


class Gentle(FedAvg):
    """FedAvg by another name, with an option."""

    name, title, options_type = "gentle", "Gentle", GentleOptions

    async def round(self, context: raysplit.RoundContext) -> raysplit.RoundReport:
        assert self.options.gentle
        await self.handles[AGGREGATOR].begin(context)
        team = raysplit.Team(peers={AGGREGATOR: self.handles[AGGREGATOR]})
        state = self.handles[AGGREGATOR].current()
        return raysplit.RoundReport(owners=await self.run_owners(train_and_submit, team, context, state))


# -- a file, a mapping, keyword arguments ----------------------------------------------------------------------------


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


# -- objects ---------------------------------------------------------------------------------------------------------


def test_a_class_two_arrays_and_a_method_in_hand(tmp_path: Path) -> None:
    result = raysplit.train(
        model=Net, data=(TRAIN, TEST), algorithm=Gentle(gentle=True), folder=tmp_path / "run", **LOCAL
    )
    assert isinstance(result.model(), Net)
    assert same(result, raysplit.train(model=Net, data=(TRAIN, TEST), algorithm="fedavg", **LOCAL))
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["algorithm"].endswith(":Gentle")


def test_arrays_tensors_and_map_style_sets_are_the_same_data() -> None:
    both = [TensorDataset(torch.from_numpy(x), torch.from_numpy(y)) for x, y in (TRAIN, TEST)]
    tensors = [tuple(map(torch.from_numpy, side)) for side in (TRAIN, TEST)]
    results = [raysplit.train(model=Net, data=data, **LOCAL) for data in ((TRAIN, TEST), both, tensors)]
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_the_weights_of_a_module_are_the_start() -> None:
    torch.manual_seed(1)
    module = Net((4,), 3)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    still = {"cluster": "local", "training": {"rounds": 1, "optimizer": {"lr": 0.0}}}
    result = raysplit.train(model=module, data=(TRAIN, TEST), algorithm="fedavg", **still)
    assert all(torch.allclose(result.states["global"][key], value) for key, value in before.items())
    trained = raysplit.train(model=module, data=(TRAIN, TEST), algorithm="minibatch_sfl", **LOCAL)
    assert not torch.equal(trained.states["global"]["first.weight"], before["first.weight"])
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())  # is left as it was


def test_a_function_makes_a_model_that_is_cut() -> None:
    def sequential(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, num_classes))

    cut = {"name": "minibatch_sfl", "cut": 2}
    result = raysplit.train(model=sequential, data=(TRAIN, TEST), algorithm=cut, **LOCAL)
    assert result.states["global"]["2.weight"].shape == (3, 6)
    with_options = {"name": Net, "width": 5}
    assert raysplit.train(model=with_options, data=(TRAIN, TEST), **LOCAL).model().first.out_features == 5


def test_a_class_that_was_written_again_is_not_taken_for_the_old_one() -> None:
    """In a notebook a cell runs twice, and the second class of a name is another one."""

    def made(width: int) -> type[nn.Module]:
        class Local(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(4, width)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.layer(x)

        return Local

    widths = [raysplit.train(model=made(w), data=(TRAIN, TEST), **LOCAL).model().layer.out_features for w in (3, 4)]
    assert widths == [3, 4]


def test_objects_are_given_again_to_resume(tmp_path: Path) -> None:
    def local(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, num_classes))

    given = {"model": local, "data": (TRAIN, TEST)}
    whole = raysplit.train(**given, algorithm="fedavg", **LOCAL)
    with pytest.raises(Killed):
        raysplit.train(**given, algorithm="fedavg", **LOCAL, folder=tmp_path / "run", callbacks=[Killer(1)])
    assert same(raysplit.resume(tmp_path / "run", **given), whole)


def test_other_data_are_refused_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        raysplit.train(model=Net, data=(TRAIN, TEST), **LOCAL, folder=tmp_path / "run", callbacks=[Killer(1)])
    monkeypatch.setattr("raysplit.given._held", {})  # as in another process
    with pytest.raises(
        ValueError, match=r"data was passed as an object by a Python program.*resume\(folder, model=\.\.\., data="
    ):
        raysplit.resume(tmp_path / "run")
    with pytest.raises(ValueError, match="no object or one of another value"):
        raysplit.resume(tmp_path / "run", data=(arrays(seed=5), TEST))


def test_data_are_read_again_as_the_run_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels as integers and labels from 1 on, given as objects with settings; `resume` takes the objects alone."""
    pair = tuple((np.asarray(x * 100).astype(np.int64) % 256, np.asarray(y) + 1) for x, y in (TRAIN, TEST))
    data = {"name": pair, "max_value": 255, "renumber_labels": True}
    with pytest.raises(Killed):
        raysplit.train(model=Net, data=data, **LOCAL, folder=tmp_path / "run", callbacks=[Killer(1)])
    monkeypatch.setattr("raysplit.given._held", {})
    result = raysplit.resume(tmp_path / "run", data=pair)
    assert result.stopped == "all rounds done"
    assert raysplit.train(model=Net, data=data, **LOCAL).accuracy == result.accuracy


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modle": Net}, "unknown argument 'modle'; did you mean 'model'"),
        ({"model": 3}, r"model: expected a name, .* a torch\.nn\.Module, its class, or a function .*; got int 3"),
        ({"model": dict}, "model: expected .*; got the class dict"),
        ({"data": 7}, r"data: expected a name, .* pair \(train, test\).*; got int 7"),
        ({"data": (TRAIN,)}, "data: expected .*; got 1 values: tuple"),
        ({"data": (1, 2)}, "data: expected .*; train is int 1"),
        ({"data": TRAIN}, "data: expected .*; train is ndarray"),
        ({"algorithm": Net}, "algorithm: expected a name, .* an Algorithm or its class, got the class Net"),
        ({"partition": 4}, "partition: expected a name, .* or a function .*, got int 4"),
        ({"training": 4}, "training: expected a mapping of settings, got int 4"),
        ({"training": {"round": 4}}, r"training\.round: unknown key; did you mean 'rounds'"),
        ({"cluster": "locl"}, r"cluster\.kind: must be 'ray' or 'local' \(got 'locl'\)"),
        ({"seed": "x"}, "seed: "),
    ],
)
def test_an_argument_of_the_wrong_kind_says_what_was_expected_and_what_came(
    given: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(raysplit.ConfigError, match=message):
        raysplit.train(**{"cluster": "local", **given})


def test_a_method_with_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="gentel"):
        Gentle(gentel=True)


def test_a_module_takes_no_options() -> None:
    module = {"name": Net((4,), 3), "width": 3}
    with pytest.raises(ValueError, match="given as a module, which takes no options, and has the options width"):
        raysplit.train(model=module, data=(TRAIN, TEST), **LOCAL)


def test_an_experiment_takes_no_sections() -> None:
    from raysplit.config.build import build
    from raysplit.config.run import check_config

    experiment = build(check_config(settings()))
    assert same(raysplit.train(experiment), train())
    assert same(raysplit.train(experiment), train())  # and can be run again
    with pytest.raises(raysplit.ConfigError, match="described to the end; leave out training"):
        raysplit.train(experiment, training={"rounds": 1})


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


# -- callbacks ---------------------------------------------------------------------------------------------------------


class Diary(raysplit.Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def run_started(self, experiment: raysplit.Experiment) -> None:
        self.events.append(("started", experiment.method))

    def round_ended(self, row: Row) -> None:
        self.events.append(("round", row["round"]))

    def evaluated(self, row: Row) -> None:
        self.events.append(("evaluated", row["round"]))

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        self.events.append(("kept", rounds, Path(location).name))

    def run_ended(self, result: raysplit.Result) -> None:
        self.events.append(("ended", result.stopped))

    def run_failed(self, error: BaseException) -> None:
        self.events.append(("failed", type(error).__name__))


def test_callbacks_are_told_everything_in_order(tmp_path: Path) -> None:
    diary = Diary()
    raysplit.train(**settings(evaluation={"every": 2}), folder=tmp_path / "run", callbacks=[diary])
    assert diary.events == [
        ("started", "minibatch_sfl"),
        ("kept", 1, "checkpoints"),
        ("round", 1),
        ("kept", 2, "checkpoints"),
        ("round", 2),
        ("evaluated", 2),
        ("ended", "all rounds done"),
    ]


class Broken(raysplit.Callback):
    def round_ended(self, row: Row) -> None:
        raise KeyError("no such column")


def test_a_callback_that_raises_ends_the_run_and_is_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    diary = Diary()
    with pytest.raises(KeyError) as caught:
        raysplit.train(**settings(), folder=tmp_path / "run", callbacks=[Broken(), diary])
    assert "Broken.round_ended" in caught.value.__notes__[0]
    assert "set reliability.on_callback_error to continue" in caught.value.__notes__[0]
    assert "Broken.round_ended failed: KeyError" in caplog.text
    assert diary.events[-1] == ("failed", "KeyError")
    assert len(raysplit.load(tmp_path / "run").rows) == 1  # nothing is lost
    assert same(raysplit.resume(tmp_path / "run"), train())


def test_a_callback_that_raises_is_passed_over_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    found = raysplit.train(**settings(reliability={"on_callback_error": "continue"}), callbacks=[Broken(), diary])
    assert same(found, train())
    assert caplog.text.count("Broken.round_ended failed: KeyError") == 2
    assert diary.events[-1] == ("ended", "all rounds done")


# -- what is held ------------------------------------------------------------------------------------------------------


def test_objects_are_let_go_when_a_run_is_over(tmp_path: Path) -> None:
    """Training on set after set in one process must not keep them all."""
    from raysplit import given

    given._held.clear()
    for seed in (1, 2):
        raysplit.train(model=Net((4,), 3), data=(arrays(seed=seed), TEST), **LOCAL, folder=tmp_path / str(seed))
    assert given._held == {}
    found = raysplit.load(tmp_path / "1", model=Net((4,), 3), data=(arrays(seed=1), TEST))
    assert found.labels == ("global",)
    given._held.clear()


def test_a_sweep_takes_objects(tmp_path: Path) -> None:
    found = raysplit.sweep(model=Net, data=(TRAIN, TEST), over={"seed": [0, 1]}, folder=tmp_path / "sweep", **LOCAL)
    assert not found.failed
