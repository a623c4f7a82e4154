"""Owners that read their own sources: nothing but outlines leaves them, and the run is that of one source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from by_owner_support import SIZES, arrays, config, equal, one_source, tree
from sequence_support import text

import raysplit
from raysplit.config.build import build, outlined
from raysplit.config.run import check_config
from raysplit.data.by_owner.sealed import SealedSamples
from raysplit.experiment.fingerprint import fingerprint
from raysplit.runs.records.origin import effects_of
from raysplit.sweeps.sweep import is_finished


@pytest.mark.parametrize("method", ["fedavg", "minibatch_sfl"])
def test_owners_files_train_to_the_bits_of_one_file_with_a_partition(clinics: Path, method: str) -> None:
    by_owner = raysplit.train(tree(clinics, algorithm={"name": method}))
    rehearsed = raysplit.train(one_source(clinics, algorithm={"name": method}))
    assert equal(by_owner, rehearsed)
    assert by_owner.accuracy == rehearsed.accuracy


def test_a_function_is_told_the_owner(clinics: Path) -> None:
    own = "by_owner_support:own_clinic"
    named = {f"clinic-{i}": own for i in range(len(SIZES))}
    by_name = raysplit.train(tree(clinics, data={"by_owner": named}))
    assert equal(by_name, raysplit.train(tree(clinics)))
    counted = tree(clinics, data={"by_owner": own}, partition={"num_owners": 2})
    assert [own.source.owner for own in outlined(check_config(counted)).found] == ["owner-0", "owner-1"]


def test_the_coordinator_has_no_samples(clinics: Path) -> None:
    setting = build(config(clinics)).setting
    assert not setting.evaluators
    shards: list[Any] = [data.shard for data in setting.owners.values()]
    assert [len(shard) for shard in shards] == [train for train, _ in SIZES]
    readers: list[Callable[[SealedSamples], Any]] = [
        lambda shard: shard.x,
        lambda shard: shard.y,
        lambda shard: shard.take([0]),
        lambda shard: shard.subset([0]),
        lambda shard: shard.shuffled(np.random.default_rng(0)),
        lambda shard: type(shard).concatenated([shard]),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=r"owner-0 \(clinic-0, .*read by their owner alone"):
            read(shards[0])


@pytest.mark.parametrize("lengths", [{"tail": "keep"}, {"tail": "keep", "truncate": True}])
def test_texts_of_the_owners_train_to_the_bits_of_one_pattern(lengths: dict[str, Any], tmp_path: Path) -> None:
    """Windows differ in length, so that the length of batches, and of what is cut, is agreed on by all owners."""
    one = text(tmp_path, {"name": "splitfed_v1", "cut": "block1"}, **lengths).model_dump(mode="json")
    source = {"root": str(tmp_path), "length": 8, "tail": "keep"}
    own = {"by_owner": {name: {"name": f"text:{name}.txt", **source} for name in "ab"}, **lengths}
    own.pop("tail")
    kept = {key: section for key, section in one.items() if key not in ("partition", "data")}
    by_owner, rehearsed = raysplit.train(kept | {"data": own}), raysplit.train(check_config(one))
    assert equal(by_owner, rehearsed)
    assert by_owner.rows[-1]["test_loss"] == rehearsed.rows[-1]["test_loss"]


def test_streamed_files_of_the_owners_train_to_the_bits_of_one_folder(tmp_path: Path) -> None:
    own = [arrays(index) for index in range(len(SIZES))]

    def write(path: Path, x: Any, y: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": x.tolist(), "y": y}), path, row_group_size=4)

    for index, found in enumerate(own):
        is_train = found["split"] == "train"
        for root in (tmp_path / f"clinic-{index}", tmp_path / "all"):
            write(root / "train" / f"clinic-{index}.parquet", found["x"][is_train], found["y"][is_train])
        write(tmp_path / f"clinic-{index}" / "test.parquet", found["x"][~is_train], found["y"][~is_train])
    tests = [(found["x"][found["split"] == "test"], found["y"][found["split"] == "test"]) for found in own]
    write(tmp_path / "all" / "test.parquet", *(np.concatenate(values) for values in zip(*tests, strict=True)))
    sources = {f"clinic-{i}": {"name": "shards", "root": str(tmp_path / f"clinic-{i}")} for i in range(len(SIZES))}
    by_owner = raysplit.train(tree(tmp_path, data={"by_owner": sources}))
    one = {"name": "shards", "root": str(tmp_path / "all")}
    rehearsed = raysplit.train(tree(tmp_path, data=one, partition={"name": "natural_id", "num_owners": len(SIZES)}))
    assert equal(by_owner, rehearsed)
    assert by_owner.accuracy == rehearsed.accuracy


def test_where_a_place_is_does_not_change_what_the_run_is(clinics: Path) -> None:
    """Labels and resources may change between a run and its resumption; what is read may not."""

    def depends(**source: Any) -> str:
        sources = {"a": {"name": "clinic.npz", "root": "/data", **source}}
        return fingerprint(check_config({"data": {"by_owner": sources}}).model_dump(mode="json"))

    assert depends(labels={"site": "a"}, resources={"clinic_a": 1}) == depends()
    assert depends(root="/elsewhere") != depends()


def test_a_sweep_finds_its_finished_run_of_owners_sources(clinics: Path, tmp_path: Path) -> None:
    raysplit.train(tree(clinics), folder=tmp_path / "run")
    assert is_finished(tmp_path / "run", config(clinics))


def test_an_owner_with_fewer_classes_is_told_of(clinics: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(clinics / "clinic-1.npz", **arrays(1, classes=2))
    assert build(config(clinics)).setting.spec.num_classes == 3
    assert "owner-1 (clinic-1) up to 1" in caplog.text


def test_a_source_that_changes_during_a_run_is_noticed(clinics: Path) -> None:
    """A killed place opens its source again, and finds other samples or another number of them."""
    shard: Any = build(config(clinics)).setting.owners["owner-1"].shard
    assert len(shard.read_again().train) == SIZES[1][0]
    found = arrays(1)
    found["x"][0, 0] += 1
    np.savez(clinics / "clinic-1.npz", **found)
    with pytest.raises(ValueError, match=r"owner-1 \(clinic-1, .*have changed since the run began: their digest is"):
        shard.read_again()
    np.savez(clinics / "clinic-1.npz", **{key: value[1:] for key, value in found.items()})
    with pytest.raises(ValueError, match="have 11 training and 4 test samples, and had 12 and 4"):
        shard.read_again()


class Stop(raysplit.Callback):
    """Stops a run after its first round."""

    def round_ended(self, *given: Any, **more: Any) -> None:
        raise KeyboardInterrupt


def test_a_resumed_run_reads_the_sources_again(clinics: Path, tmp_path: Path) -> None:
    whole = raysplit.train(tree(clinics))
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        raysplit.train(tree(clinics), folder=folder, callbacks=[Stop()])
    kept = arrays(0)
    np.savez(clinics / "clinic-0.npz", **(kept | {"x": kept["x"] + 1}))
    with pytest.raises(ValueError, match=r"owner-0 \(clinic-0, .*have changed since the run began"):
        raysplit.resume(folder, trust=True)
    np.savez(clinics / "clinic-0.npz", **kept)
    assert equal(raysplit.resume(folder, trust=True), whole)


def test_targets_of_a_regression_are_scaled_by_the_sums_of_all_owners(clinics: Path) -> None:
    for name in ("clinic-0", "clinic-1", "clinic-2", "all"):
        with np.load(clinics / f"{name}.npz") as file:
            np.savez(clinics / f"{name}.npz", **(dict(file) | {"y": file["x"].sum(axis=1).astype(np.float32)}))
    by_owner, rehearsed = (raysplit.train(described(clinics, task="regression")) for described in (tree, one_source))
    assert equal(by_owner, rehearsed)


def test_the_record_has_a_line_for_each_owner(clinics: Path) -> None:
    record = outlined(config(clinics)).record()
    assert record["samples"] == {"train": 39, "test": 15}
    assert record["owners"]["sources"]["owner-1"]["owner"] == "clinic-1"
    assert record["owners"]["classes"]["owner-2"] == {"0": 3, "1": 3, "2": 3}
    assert record["targets"]["y"]["counts"]["train"] == [13, 13, 13]


def test_what_sources_import_is_an_effect_of_the_configuration() -> None:
    plain = check_config({"data": {"by_owner": {"a": "clinic:load"}}}).model_dump(mode="json")
    assert effects_of(plain).imports == ("imports and runs clinic:load  (data.by_owner.a.name)",)
    files = check_config({"data": {"by_owner": {"a": {"name": "scans.npz", "root": "/data/a"}}}})
    reads = effects_of(files.model_dump(mode="json")).reads
    assert reads == ("reads scans.npz  (data.by_owner.a.name)", "reads /data/a  (data.by_owner.a.root)")
