"""Owners that disagree, and settings that their sources do not heed: each named before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_owner_support import arrays, config, tree

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.by_owner.agree import UNCHANGED
from raysplit.experiment.errors import ConfigError


def in_some_order(owner: str) -> raysplit.DataSet:
    """Samples with class names, which one owner has in another order."""
    names = ("ill", "well") if owner == "clinic-1" else ("well", "ill")
    samples = raysplit.Samples(x=torch.ones(4, 3), y=torch.tensor([0, 1, 0, 1]))
    return raysplit.DataSet(
        train=samples,
        test=samples,
        num_classes=2,
        transform=UNCHANGED,
        eval_transform=UNCHANGED,
        label_names=names,
    )


def test_a_method_that_pools_the_samples_is_refused(clinics: Path) -> None:
    with pytest.raises(ValueError, match="read by their owner alone"):
        raysplit.train(tree(clinics, algorithm={"name": "centralised"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 7}, r"owners disagree about input x as it is stored: owner-0 .*float32 \[6\] and owner-2 .*\[7\]"),
        ({"y": "float"}, r"owners disagree about target y: owner-0 .*int64 \[\] and owner-2 .*float32 \[\]"),
    ],
)
def test_owners_that_disagree_are_named_with_both_values(clinics: Path, change: dict[str, Any], message: str) -> None:
    found = arrays(2, width=change.get("width", 6))
    if change.get("y"):
        found["y"] = found["y"].astype(np.float32) + 0.5
    np.savez(clinics / "clinic-2.npz", **found)
    with pytest.raises(ValueError, match=message):
        build(config(clinics))


def test_owners_whose_classes_have_other_names_are_named(clinics: Path) -> None:
    sources = {f"clinic-{i}": f"{__name__}:in_some_order" for i in range(2)}
    said = r"the names of the classes: owner-0 \(clinic-0.*has well, ill and owner-1 \(clinic-1.*has ill, well; number"
    with pytest.raises(ValueError, match=said):
        build(check_config(tree(clinics, data={"by_owner": sources})))


def test_owners_whose_vocabularies_differ_are_named(tmp_path: Path) -> None:
    for name, alphabet in (("a", "abc"), ("b", "abcd")):
        (tmp_path / f"{name}.txt").write_text(alphabet * 40)
    sources = {
        name: {"name": f"text:{tmp_path}/{name}.txt", "tokens": "characters", "alphabet": alphabet, "length": 8}
        for name, alphabet in (("a", "abc"), ("b", "abcd"))
    }
    described = {"data": {"by_owner": sources}, "task": "language_model", "model": {"name": "text_transformer"}}
    with pytest.raises(
        ValueError, match=r"owners disagree about the size vocab_size: owner-0 \(a, .*has 3 and owner-1"
    ):
        build(check_config(described | {"cluster": {"kind": "local"}}))


def test_errors_name_owner_file_and_row(clinics: Path) -> None:
    found = arrays(1)
    found["x"][3, 0] = np.nan
    found["y"] = found["y"].astype(np.float64)
    found["y"][4] = 0.5
    np.savez(clinics / "clinic-1.npz", **found)
    with pytest.raises(ValueError, match=r"data of owner-1 \(clinic-1, .*clinic-1.npz\): .*"):
        build(config(clinics, task="classification"))
    (clinics / "clinic-2.npz").unlink()
    np.savez(clinics / "clinic-1.npz", **arrays(1))
    with pytest.raises(ValueError, match=r"owner-2 \(clinic-2, .*clinic-2.npz\).*there is no file"):
        build(config(clinics))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": {"num_owners": 4}}, "data.by_owner has 3 owners and the partition is natural_id over 4"),
        ({"partition": {"name": "dirichlet", "alpha": 1}}, "the partition is dirichlet; nothing is divided"),
        ({"partition": {"name": "iid"}}, "the partition is iid; nothing is divided where each owner has its own data"),
        ({"partition": {"name": "iid", "num_owners": 3}}, "iid over 3; .* leave it out"),
        (
            {"cluster": {"kind": "ray", "places": 2, "elastic": {"min_places": 1}}},
            "cluster.elastic is given, which does",
        ),
        ({"owners": {"domain": "rotation"}}, "owners.domain is rotation, which does not apply"),
        ({"owners": {"noisy": 1, "pixel_noise": 1}}, "owners.noisy is 1, which does not apply"),
    ],
)
def test_settings_that_owners_sources_do_not_heed_are_refused(
    clinics: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(config(clinics, **changes))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"by_owner": {}}, "names no owner"),
        ({"by_owner": "clinics"}, "module:function"),
        ({"by_owner": {"a": "digits"}, "name": "digits"}, "by_owner is given"),
        ({"name": "by_owner"}, "by_owner is missing"),
        ({"by_owner": {"a": "digits"}, "num_classes": 3}, "belongs into the source of an owner"),
        ({"by_owner": {"a": "digitz"}}, "did you mean 'digits'"),
        ({"by_owner": {"a": {"name": "random", "dym": 3}}}, "dim"),
    ],
)
def test_mistakes_in_the_setting_are_found_before_anything_is_read(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config({"data": data})
