"""A configuration is checked before anything starts: every mistake names its key and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support import settings

from raysplit.algorithms import ALGORITHMS
from raysplit.config.build import build
from raysplit.config.checks import _say, say_left_out
from raysplit.config.run import ConfigError, RunConfig, check_config, dump_config, load_config, load_recorded, resolved


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(tree: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config(tree)
    return str(caught.value)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ""))
    assert config == RunConfig()
    assert (config.model.name, config.data.name, config.algorithm.name) == ("cnn8", "digits", "minibatch_sfl")
    assert (config.partition.num_owners, config.training.rounds, config.cluster.kind) == (10, 10, "ray")


def test_what_is_dumped_reads_back_the_same(tmp_path: Path) -> None:
    config = check_config(
        {
            "seed": 7,
            "model": {"name": "mlp", "hidden": [64, 32]},
            "partition": {"name": "dirichlet", "alpha": 0.3, "num_owners": 4},
            "algorithm": {"name": "splitfed_v2", "cut": "hidden1", "order": "interleaved"},
            "training": {"optimizer": {"name": "adam", "lr": 0.001, "betas": [0.8, 0.9]}},
        }
    )
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_overrides_apply_in_order_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "training: {rounds: 3, batch_size: 8}\n")
    overrides = ["training.rounds=5", "training.rounds=6", "training.optimizer.lr=1e-1", "evaluation.patience=null"]
    config = load_config(path, [*overrides, "model.hidden=[8, 8]", "model.name=mlp"])
    assert (config.training.rounds, config.training.batch_size) == (6, 8)
    assert config.training.optimizer.lr == 0.1
    assert config.model.options == {"hidden": [8, 8]}


@pytest.mark.parametrize(
    ("tree", "key", "nearest"),
    [
        ({"traning": {}}, "traning", "training"),
        ({"training": {"round": 3}}, "training.round", "rounds"),
        ({"evaluation": {"target_acuracy": 0.9}}, "evaluation.target_acuracy", "target_accuracy"),
        ({"cluster": {"place": 2}}, "cluster.place", "places"),
        ({"output": {"overwite": True}}, "output.overwite", "overwrite"),
        ({"owners": {"pixelnoise": 1}}, "owners.pixelnoise", "pixel_noise"),
        ({"algorithm": {"name": "splitfed_v1", "cutt": 2}}, "algorithm.cutt", "cut"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(tree: Any, key: str, nearest: str) -> None:
    assert mistake(tree).startswith(f"{key}: unknown key; did you mean {nearest!r}? (known: ")


@pytest.mark.parametrize(
    ("tree", "kind", "nearest", "listed"),
    [
        ({"model": {"name": "cn8"}}, "model", "cnn8", "resnet18_cifar"),
        ({"data": {"name": "digit"}}, "data set", "digits", "FashionMNIST"),
        ({"partition": {"name": "dirichlett"}}, "partition", "dirichlet", "noniid_ratio"),
        ({"algorithm": {"name": "fedavgg"}}, "algorithm", "fedavg", "minibatch_sfl"),
        ({"training": {"optimizer": {"name": "adm"}}}, "optimizer", "adam", "sgd"),
        ({"training": {"lr_schedule": "cosin"}}, "learning-rate schedule", "cosine", "constant"),
        ({"training": {"loss": "cros_entropy"}}, "loss", "cross_entropy", "mse"),
    ],
)
def test_an_unknown_name_names_the_nearest_and_lists_all(tree: Any, kind: str, nearest: str, listed: str) -> None:
    message = mistake(tree)
    assert f"unknown {kind} " in message
    assert f"did you mean {nearest!r}?" in message
    assert listed in message


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"training": {"rounds": 0}}, "training.rounds: must be greater than or equal to 1 (got 0)"),
        ({"training": {"optimizer": {"lr": -1}}}, "training.optimizer.lr: must be greater than or equal to 0 (got -1)"),
        ({"training": {"optimizer": {"lr": float("inf")}}}, "training.optimizer.lr: must be a finite number (got inf)"),
        ({"model": None}, "model: a section must be a mapping of keys to values (got None)"),
        ({"cluster": {"places": 0}}, "cluster.places: must be greater than or equal to 1 (got 0); or: must be 'auto'"),
        (
            {"partition": {"num_owners": 3}, "training": {"cohort_size": 4}},
            "training.cohort_size is 4 and there are 3 owners; give at most 3",
        ),
        ({"owners": {"domain": "rotations"}}, "owners.domain: unknown domain 'rotations'; did you mean 'rotation'"),
        ({"partition": {"num_owners": 3}, "owners": {"noisy": 4}}, "owners.noisy is 4 and there are 3 owners"),
        (
            {"training": {"optimizer": {"name": "sgd", "momentun": 0.9}}},
            "training.optimizer.momentun: sgd has no such option; did you mean 'momentum'?",
        ),
        (
            {"algorithm": {"name": "nowhere.to:be"}},
            "algorithm 'nowhere.to:be': there is no module 'nowhere'",
        ),
        (
            {"algorithm": {"name": "yaml:safe_load"}},
            "algorithm 'yaml:safe_load' must be a subclass of raysplit.algorithms.base.Algorithm, got function",
        ),
    ],
)
def test_a_wrong_value_tells_key_value_and_rule(tree: Any, message: str) -> None:
    assert message in mistake(tree)


def test_every_mistake_is_listed_at_once() -> None:
    message = mistake({"seed": -1, "training": {"rounds": 0}, "model": {"name": "cn8"}})
    assert [line.split(":")[0] for line in message.splitlines()] == ["seed", "model.name", "training.rounds"]


def test_options_of_another_algorithm_are_left_out_so_that_one_file_serves_a_comparison() -> None:
    config = check_config({"algorithm": {"name": "fedavg", "cut": 2, "order": "interleaved"}})
    assert config.algorithm.resolved_options().model_dump() == {}


def test_options_of_another_algorithm_are_named_at_normal_verbosity(caplog: pytest.LogCaptureFixture) -> None:
    """``cuts`` given to SplitFed V2 was dropped without a word, and the default cut trained."""
    say_left_out.cache_clear()
    for _ in range(2):
        check_config({"algorithm": {"name": "splitfed_v2", "cuts": [2, 3]}})
    (record,) = caplog.records  # once, though a sweep reads many configurations
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "algorithm.cuts is left out: it is an option of mpsl, and those of splitfed_v2 are: cut, order"
    )


def test_settings_without_effect_beside_others_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """A sweep may set them on purpose, as noise of 0 owners beside noise of 3."""
    check_config({"owners": {"pixel_noise": 0.25}})
    check_config({"owners": {"noisy": 2}})
    check_config({"algorithm": {"name": "fedavg"}, "reliability": {"tolerated": 3, "late": "merge"}})
    told = caplog.text
    assert "owners.pixel_noise is 0.25 and owners.noisy is 0, so no owner has noise" in told
    assert "owners.noisy is 2 and the noise is 0" in told
    assert "reliability.tolerated is 3, and the mean does not use it" in told
    assert "reliability.late is merge, and without" in told


def test_a_learning_rate_of_zero_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It was taken without a word, and the run ended with the accuracy of a guess."""
    _say.cache_clear()
    check_config({"training": {"optimizer": {"lr": 0}}})
    check_config({"training": {"optimizer": {"lr": 0, "groups": [{"match": "head.*", "lr": 0.1}]}}})
    assert caplog.messages == ["training.optimizer.lr is 0, so that nothing is trained with it"]


def test_settings_that_the_method_or_the_cluster_leaves_unused_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Codecs for smashed data beside FedAvg, and places beside one process, were taken without a word."""
    _say.cache_clear()  # what another test was told is told again
    check_config({"algorithm": {"name": "fedavg"}, "links": {"smashed": "int8"}, "cluster": {"kind": "local"}})
    assert "links.smashed left out with fedavg, which does not send such values" in caplog.text
    assert "cluster.kind is local" not in caplog.text
    caplog.clear()
    check_config({"links": {"smashed": "int8"}, "cluster": {"kind": "local", "places": 3, "sharing": "alone"}})
    assert "left out with" not in caplog.text
    assert "cluster.places, cluster.sharing: without effect, since cluster.kind is local" in caplog.text


@pytest.mark.parametrize("name", [*ALGORITHMS])
def test_the_resolved_configuration_has_all_options_and_reads_back(name: str, tmp_path: Path) -> None:
    more = {"num_owners": 1} if name == "mtl_split" else {"num_owners": 3}
    training = {"rounds": 40, **({"loss": ALGORITHMS[name].losses[0]} if ALGORITHMS[name].losses else {})}
    config = check_config({"algorithm": {"name": name, "order": "blockwise"}, "partition": more, "training": training})
    found = resolved(config)
    assert found.algorithm.options.keys() == ALGORITHMS[name].options_type.model_fields.keys()
    assert found.training.owner_optimizer_state in ("restart", "keep")
    assert found.algorithm.resolved_options() == config.algorithm.resolved_options()
    again = load_config(written(tmp_path, dump_config(found)))
    assert again == found
    assert resolved(again) == found


def test_a_recorded_run_may_have_settings_that_are_refused_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = check_config({}).model_dump(mode="json") | {"algorithm": {"name": "fedavg"}}
    tree["training"] |= {"server_optimizer_state": "restart"}
    path = written(tmp_path, yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"training\.server_optimizer_state is 'restart', and fedavg does not use it"):
        load_config(path)
    assert load_recorded(path.parent).algorithm.name == "fedavg"
    assert "in the configuration of this run, training.server_optimizer_state is 'restart'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: [", "is not valid YAML"),
        ("- a\n- b\n", "contains a list; a configuration must be a mapping of sections"),
        ("training: {rounds: 1}\nseed: 3\ntraining: {rounds: 2}\n", "'training' is there twice, in lines 1 and 3"),
        ("training: {optimizer: {lr: 1,\n lr: 2}}\n", "'lr' is there twice, in lines 1 and 2"),
        ("seed: !!bool maybe\n", "is not valid YAML"),
        ("seed: !!timestamp 2001-01-01\n", "is not valid YAML"),
        ("seed: !!python/object:os.system {}\n", "is not valid YAML"),
    ],
)
def test_yaml_mistakes_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=r"config\.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot read .*binary\.yaml"):
        load_config(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.rounds", "does not have the form section.key=value"),
        ("=3", "does not have the form section.key=value"),
        ("training.rounds=[", "is not valid YAML"),
        ("training..rounds=3", "unknown key"),
        ("trainig.rounds=3", "did you mean 'training'?"),
    ],
)
def test_bad_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)


def test_an_override_of_a_section_does_not_undo_one_before_it() -> None:
    """``--set training.rounds=2 --set 'training={batch_size: 16}'`` trained the ten rounds of the default."""
    overrides = ["training.rounds=2", "training={batch_size: 16}"]
    with pytest.raises(ConfigError, match=r"replaces all of training, with 'training.rounds=2' before it; give it bef"):
        load_config(None, overrides)
    assert load_config(None, overrides[::-1]).training.rounds == 2


def test_an_override_cannot_go_below_a_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed is a value, not a section"):
        load_config(written(tmp_path, "seed: 3\n"), ["seed.deep=3"])


def test_a_document_that_contains_itself_is_refused_or_read(tmp_path: Path) -> None:
    """YAML anchors can close a circle; it must not end in endless recursion."""
    with pytest.raises(ConfigError, match=r"an anchor contains itself \(line 1"):
        load_config(written(tmp_path, "&a\ntraining: *a\n"))


def test_a_deep_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(written(tmp_path, "[" * 5000))


def test_the_example_of_the_documentation_is_valid_yaml_of_plain_types() -> None:
    tree = yaml.safe_load(dump_config(RunConfig()))
    assert set(tree) == set(RunConfig.model_fields)


@pytest.mark.parametrize("rule", [{"target_accuracy": 0.9}, {"metric": "accuracy"}])
def test_rules_about_accuracy_are_refused_for_tasks_without_labels(rule: dict[str, Any]) -> None:
    """A target accuracy of dense tasks was never reached, and nobody told."""
    rooms = {"name": "rooms", "num_buildings": 2, "num_train": 2, "num_val": 1, "num_test": 1, "image_size": 16}
    changes = {"data": rooms, "model": {"name": "mas"}, "partition": {"name": "natural_id", "num_owners": 2}}
    config = check_config(settings(**changes, training={"loss": "task_sum"}, evaluation=rule))
    with pytest.raises(
        ValueError,
        match=r"no class labels, so there is no accuracy; (use evaluation\.target_loss|set evaluation\.metric to loss)",
    ):
        build(config)


@pytest.mark.parametrize("name", ["num_classes", "natural_owner", "seed"])
def test_a_partition_option_that_the_data_give_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"partition\.{name}: main_label has no such option"):
        check_config(settings(partition={"name": "main_label", "num_owners": 2, "alpha": 0.5, name: 3}))
    config = check_config(settings(partition={"name": "mine:law", "num_owners": 2, name: 3}))
    with pytest.raises(ValueError, match=rf"partition\.{name} is given by the data and the seed of the run"):
        build(config)
