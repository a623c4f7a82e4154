"""An experiment that a program made: what its folder keeps of it, and that it is not mistaken for a configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import settings

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config, load_config


@pytest.fixture
def experiment() -> raysplit.Experiment:
    """Two of the three owners that the settings describe."""
    found = build(check_config(settings()))
    owners = dict(list(found.setting.owners.items())[:2])
    return replace(found, setting=replace(found.setting, owners=owners))


def test_a_folder_that_no_file_describes_is_read_and_not_resumed(
    experiment: raysplit.Experiment, tmp_path: Path
) -> None:
    """Resumed from its file, the run went on with three owners and said nothing."""
    result = raysplit.train(experiment, folder=tmp_path / "run")
    loaded = raysplit.load(tmp_path / "run")
    assert loaded.rows == result.rows
    assert loaded.rows[-1]["num_owners"] == 2
    assert "MiniBatch-SFL" in str(raysplit.compare([tmp_path / "run"]))
    with pytest.raises(ValueError, match="the run was made of an Experiment, which no file can describe"):
        loaded.model()
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"train the Experiment again, with overwrite=True"):
        raysplit.resume(tmp_path / "run")


def test_an_experiment_needs_no_configuration(experiment: raysplit.Experiment, tmp_path: Path) -> None:
    """Its folder tells the rules that it has."""
    bare = raysplit.Experiment(algorithm=experiment.algorithm, setting=experiment.setting, cluster=experiment.cluster)
    result = raysplit.train(bare, folder=tmp_path / "run")
    assert result.metrics["train_loss"] == raysplit.train(experiment).metrics["train_loss"]
    kept = load_config(tmp_path / "run" / "config.yaml")
    assert (kept.seed, kept.training.rounds, kept.training.batch_size) == (3, 2, 16)
    assert (kept.algorithm.name, kept.partition.num_owners, kept.cluster.kind) == ("minibatch_sfl", 2, "local")
    assert not (tmp_path / "run" / "partition.parquet").exists()
