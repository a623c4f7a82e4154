"""Classes, modules, arrays and methods in hand mean the same run as names do; others are refused with the way out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
