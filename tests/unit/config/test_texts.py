"""Names, paths and addresses in a configuration are text, and paths are expanded, wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysplit.config.errors import ConfigError
from raysplit.config.run import RunConfig, check_config, dump_config, load_config, load_recorded
from raysplit.config.texts import config_texts
from raysplit.plain_yaml import write
from raysplit.sweeps.sweep import parse_axis

DEVICE = "topology={devices: {'1': {}}, owners: 1, nodes: [1]}"


def at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config[key] if isinstance(config, dict) else getattr(config, key)
    return config


@pytest.mark.parametrize("value", ["123", "0123", "2026-01-02", "no", "1e5", "true"])
@pytest.mark.parametrize("key", ["output.name", "output.root", "cluster.address", "data.root"])
def test_text_settings_take_any_value(key: str, value: str, tmp_path: Path) -> None:
    """``--set output.name=123`` was an integer, and refused."""
    section, leaf = key.split(".")
    path = tmp_path / "config.yaml"
    path.write_text(f"{section}: {{{leaf}: {value}}}\n", encoding="utf-8")
    for config in (
        load_config(path),
        load_config(None, [f"{key}={value}"]),
        load_config(None, [f"{section}={{{leaf}: {value}}}"]),
    ):
        assert at(config, key) == value
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        assert load_recorded(tmp_path / "again") == config


def test_names_of_devices_may_be_numbers() -> None:
    topology = load_config(None, [DEVICE]).topology
    assert topology is not None
    assert (list(topology.devices), topology.owners, topology.nodes) == (["1"], "1", ("1",))


def test_counts_and_words_are_not_text() -> None:
    config = load_config(None, ["cluster.places=3", "output.overwrite=yes", "output.name=null", "seed=0x10"])
    assert (config.cluster.places, config.output.overwrite, config.output.name, config.seed) == (3, True, None, 16)
    assert load_config(None, ["cluster.places=auto"]).cluster.places == "auto"


def test_the_values_of_a_sweep_are_text_where_the_setting_is() -> None:
    assert parse_axis("data.name=1,no").values == ("1", "no")
    assert parse_axis("training.optimizer.lr=1e-2,0.1").values == (0.01, 0.1)
    with pytest.raises(ConfigError, match="the key 'a' is there twice"):
        parse_axis("algorithm.x={a: 1, a: 2}")


@pytest.mark.parametrize(
    "key", ["output.root", "data.root", "reliability.checkpoint_location", "data.name", "topology.devices.pi.profile"]
)
def test_paths_are_expanded_by_type(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``--set output.root=~/runs`` failed, and left a folder named ``~``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("THERE", "there")
    is_profile = key.endswith("profile")
    owners = ["topology.owners=pi"] if is_profile else []
    if is_profile:
        with pytest.raises(ConfigError, match=f"no profile '{tmp_path}/there.npz'"):
            load_config(None, [f"{key}=~/$THERE.npz", *owners])
        return
    assert at(load_config(None, [f"{key}=~/$THERE.npz"]), key) == f"{tmp_path}/there.npz"
    section, leaf = key.split(".")
    assert at(check_config({section: {leaf: "$HOME/x.npz"}}), key) == f"{tmp_path}/x.npz"
    with pytest.raises(ConfigError, match=rf"{key}: .*the environment variable NO_SUCH_PLACE, which is not set"):
        load_config(None, [f"{key}=$NO_SUCH_PLACE/x.npz"])


def test_the_file_of_a_configuration_is_a_path_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("seed: 5", encoding="utf-8")
    assert load_config("~/my.yaml").seed == 5


@pytest.mark.parametrize("name", ["../x", ".", "a b", "--help", "a\nb", "a\0b", "\ud83d", "", "a\\b"])
def test_a_name_that_cannot_be_typed_again_is_refused_with_its_key(name: str) -> None:
    """``output.name: "a\\0b"`` ended in "embedded null byte", and ``../x`` left the folder of the runs."""
    with pytest.raises(ConfigError, match=r"^output\.name: .* cannot be the name of a run: a name has letters"):
        check_config({"output": {"name": name}})


def test_a_recorded_run_keeps_the_name_it_has(tmp_path: Path) -> None:
    """Folders that were written before names had a rule are read as they are."""
    tree = check_config({}).model_dump(mode="json") | {"output": {"name": "my run", "root": "$HERE/~"}}
    (tmp_path / "config.yaml").write_text(write(tree), encoding="utf-8")
    output = load_recorded(tmp_path).output
    assert (output.name, output.root) == ("my run", "$HERE/~")


@pytest.mark.parametrize(
    ("tree", "meant"),
    [
        ({"training": {"lr": 0.1}}, "training.optimizer.lr"),
        ({"lr": 0.1}, "training.optimizer.lr"),
        ({"rounds": 3}, "training.rounds"),
        ({"optimizer": {}}, "training.optimizer"),
        ({"numOwners": 3}, "partition.num_owners"),
        ({"training": {"num-owners": 3}}, "partition.num_owners"),
        ({"training": {"Rounds": 3}}, "rounds"),
        ({"cluster": {"min_places": 1}}, "cluster.elastic.min_places"),
        ({"cut": 2}, "algorithm.cut"),
        ({"data": {"name": "mnist"}}, "MNIST"),
        ({"data": {"name": "cifar10"}}, "CIFAR10"),
        ({"data": {"name": "fashion_mnist"}}, "FashionMNIST"),
        ({"model": {"name": "ResNet18"}}, "resnet18"),
        ({"algorithm": {"name": "FedAvg"}}, "fedavg"),
        ({"algorithm": {"name": "splitfed-v2"}}, "splitfed_v2"),
        ({"training": {"optimizer": {"name": "Adam"}}}, "adam"),
    ],
)
def test_suggestions_ignore_case_and_go_by_key_path(tree: Any, meant: str) -> None:
    """``mnist`` was answered with "did you mean 'Omniglot'?", and ``training.lr`` with the keys of ``training``."""
    with pytest.raises(ConfigError) as caught:
        check_config(tree)
    assert f"did you mean {meant!r}?" in str(caught.value)


def test_the_texts_are_those_of_the_sections() -> None:
    texts = config_texts()
    assert set(texts.keys) == set(RunConfig.model_fields)
    assert not texts.below("seed").scalar
    assert texts.below("topology").below("devices").below("pi").below("labels").below("site").scalar
    assert not texts.below("topology").below("hosts").below("h").scalar


@pytest.mark.parametrize("location", ["", " ", "://", "s3://", "file://", "s3://bucket/../other"])
@pytest.mark.parametrize("key", ["output.root", "reliability.checkpoint_location"])
def test_half_a_location_is_refused_with_its_key(key: str, location: str) -> None:
    """``output.root: ''`` wrote the run to ``/x``, and ``'://'`` to ``:/x``."""
    section, _, name = key.partition(".")
    with pytest.raises(ConfigError, match=rf"^{key}: .*(is no folder|is half a URI|has . or .. in it)"):
        check_config({section: {name: location}})
