"""Tables: what a column is, who says its mean and its categories, and what is refused with column, owner and row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import raysplit
from raysplit.config.build import build, model_and_data
from raysplit.config.run import check_config
from raysplit.data.datasets import load_dataset
from raysplit.data.samples import DataSet
from raysplit.data.tables.statistics import Moments
from raysplit.runs.report import read_runs
from raysplit.runs.report_page import page

HEADER = "age,city,sick,clinic,side,y\n"
ROWS = [
    "10,Ulm,true,a,train,0",
    "20,Bonn,false,a,train,1",
    "30,Ulm,true,b,train,0",
    "40,Kiel,false,b,test,1",
]
COLUMNS: dict[str, Any] = {
    "age": {"kind": "numeric", "mean": 20, "std": 10},
    "city": {"kind": "categorical", "categories": ["Bonn", "Kiel", "Ulm"]},
    "clinic": "owner",
    "side": "split",
    "y": "target",
}


def table(folder: Path, rows: list[str], header: str = HEADER) -> str:
    path = folder / "people.csv"
    path.write_text(header + "\n".join(rows) + "\n")
    return str(path)


def load(folder: Path, rows: list[str] = ROWS, **options: Any) -> DataSet:
    return load_dataset(table(folder, rows), **{"columns": COLUMNS, **options})


def people(folder: Path, num_rows: int = 60) -> str:
    """Three clinics with ages of their own, and a city that one clinic alone has, four times."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(num_rows):
        clinic, side = i % 3, "test" if i >= 48 else "train"
        city = "Jena" if clinic == 2 and i < 12 else "Ulm" if (i // 3) % 2 or clinic == 0 else "Bonn"
        rows.append(f"{rng.normal(30 + 20 * clinic, 5):.3f},{city},true,c{clinic},{side},{i % 2}")
    return table(folder, rows)


def settings(path: str, **data: Any) -> Any:
    columns = {"clinic": "owner", "side": "split", "y": "target"}
    return check_config(
        {
            "data": {"name": path, "columns": columns, "encoder": "federated", "unseen": "other", **data},
            "partition": {"name": "natural_id", "num_owners": 3},
            "model": {"name": "mlp"},
            "algorithm": {"name": "fedavg"},
            "training": {"rounds": 1},
            "cluster": {"kind": "local"},
        }
    )


def test_declared_columns_become_one_input(tmp_path: Path) -> None:
    """The age by its mean and deviation, whether sick, and four columns of the city, the first for any other."""
    data = load(tmp_path)
    assert data.train.x.tolist() == [[-1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 1]]  # type: ignore[union-attr]
    assert data.test.x.tolist() == [[2, 0, 0, 0, 1, 0]]  # type: ignore[union-attr]
    assert data.train.y.tolist() == [0, 1, 0]  # type: ignore[union-attr]
    assert data.natural_owner is not None
    assert data.natural_owner.tolist() == ["a", "a", "b"]
    assert data.input_shape == (6,)


def test_categories_as_numbers_for_embeddings(tmp_path: Path) -> None:
    data = load(tmp_path, encode="index")
    assert data.train.x["categorical"].tolist() == [[3], [1], [3]]  # type: ignore[index]
    assert data.train.x["numeric"].tolist() == [[-1, 1], [0, 0], [1, 1]]  # type: ignore[index]
    assert data.sizes == {"cardinalities": (4,)}
    assert data.inputs["categorical"].dtype == torch.int64


def test_missing_numbers_are_the_mean_and_marked(tmp_path: Path) -> None:
    data = load(tmp_path, [",Ulm,true,a,train,0", *ROWS[1:]], missing="mean")
    assert data.train.x[:, :2].tolist() == [[0, 1], [0, 0], [1, 0]]  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("row", "options", "says"),
    [
        ("x,Ulm,true,a,train,0", {}, r"column 'age', row 0 .owner a. is 'x'; a numeric column has numbers"),
        (",Ulm,true,a,train,0", {}, r"column 'age', row 0 .owner a. is missing; .*data\.missing: mean"),
        ("inf,Ulm,true,a,train,0", {}, r"column 'age', row 0 .owner a. is .*inf"),
        ("1,Ulma,true,a,train,0", {}, r"column 'city', row 0 .owner a. is 'Ulma', .* known categories \(Ulm, .*other"),
        ("1,Ulm,yes,a,train,0", {"columns": {**COLUMNS, "sick": "binary"}}, r"column 'sick', row 0 .owner a. is 'yes'"),
        ("1,Ulm,true,a,train,", {}, r"column 'y', row 0 .owner a. is missing; give every row a target"),
        ("1,Ulm,true,a,train,often", {}, r"y is 'often' in row 0 .owner a.; give integers 0\.\.C-1"),
        (
            "1,Ulm,true,a,train,often",
            {"columns": {**COLUMNS, "y": {"kind": "target", "categories": ["0", "1"]}}},
            r"column 'y', row 0 .owner a. is 'often', which is not among its declared categories 0, 1",
        ),
        (ROWS[0], {"columns": {**COLUMNS, "aged": "numeric"}}, "names 'aged', no column there; did you mean"),
        (
            ROWS[0],
            {"columns": {"side": "split", "y": "target"}},
            "column 'age' has no mean and std; declare them",
        ),
        (ROWS[0], {"columns": {}}, r"no column is the target; name it, such as data\.columns: \{y: target\}"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(row: str, options: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        load(tmp_path, [row, *ROWS[1:]], **options)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=6), min_size=1, max_size=4))
def test_moments_of_owners_are_those_of_all_rows(values: list[list[float]]) -> None:
    parts = [Moments.of(np.array(own, np.float64).reshape(-1, 1)) for own in values]
    found = parts[0]
    for part in parts[1:]:
        found = found.merged(part)
    rows = np.concatenate([np.array(own, np.float64) for own in values])
    assert found.count[0] == len(rows)
    if len(rows):
        assert found.mean[0] == pytest.approx(rows.mean(), rel=1e-12, abs=1e-9)
        assert found.squares[0] == pytest.approx(((rows - rows.mean()) ** 2).sum(), rel=1e-9, abs=1e-6)


def test_owners_say_what_they_hold_and_no_more(tmp_path: Path) -> None:
    """Mean and deviation are those of all training rows; a city with four rows at its only owner is not named."""
    path = people(tmp_path)
    experiment = build(settings(path))
    shard = torch.cat([owner.shard.x for owner in experiment.setting.owners.values()])  # type: ignore[misc]
    assert shard[:, 0].mean().item() == pytest.approx(0, abs=1e-6)
    assert shard[:, 0].std(unbiased=False).item() == pytest.approx(1, abs=1e-6)
    assert shard.shape[1] == 1 + 1 + 3  # age, sick; other, Bonn, Ulm
    said = experiment.about_data["statements"]
    assert [each["owner"] for each in said] == ["owner-0", "owner-1", "owner-2"]
    both = {"city": ["Bonn", "Ulm"]}
    assert [each["categories"] for each in said] == [{"city": ["Ulm"]}, both, both]
    assert said[1] == {
        "owner": "owner-1",
        "value": "statistic",
        "mechanism": "none",
        "bytes": 24 + len("BonnUlm"),
        "received_bytes": 16 + len("BonnUlm"),
        "numeric": ["age"],
        "categories": both,
    }
    assert model_and_data(settings(path))[0].input_shape == (5,)


def test_what_owners_say_counts_in_the_traffic_and_is_reported(tmp_path: Path) -> None:
    """Round 1 has a message more each way, of the bytes in the record."""
    found = raysplit.train(settings(people(tmp_path)), folder=tmp_path / "run")
    said = [line for line in page(read_runs([tmp_path / "run"]), None).splitlines() if line.startswith("| owner-")]
    assert said[:2] == ["| owner-0 | age | city (1) | 27 |", "| owner-1 | age | city (2) | 31 |"]
    links = {(each["source"], each["destination"]): each for each in found.traffic.to_pylist()}
    assert links["owner-1", "aggregator"]["other_bytes"] == 24 + len("BonnUlm")
    assert links["aggregator", "owner-1"]["other_bytes"] == 16 + len("BonnUlm")
    assert sum(each["num_bytes"] for each in links.values()) == found.metrics.to_pylist()[-1]["bytes_total"]


def test_a_rare_category_is_an_error_unless_it_may_be_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column 'city', row \d+ .owner c2. is 'Jena', .*data\.unseen: other"):
        build(settings(people(tmp_path), unseen="error"))


def test_a_rehearsal_may_be_fitted(tmp_path: Path) -> None:
    data = load_dataset(people(tmp_path), columns={"clinic": "owner", "side": "split", "y": "target"}, encoder="fitted")
    assert data.train.x[:, 0].std(unbiased=False).item() == pytest.approx(1, abs=1e-6)  # type: ignore[index, call-overload]
    assert data.input_shape == (1 + 1 + 4,)
    assert not data.statements


def test_the_target_may_be_a_number(tmp_path: Path) -> None:
    rows = [f"{i},Ulm,true,a,{'test' if i > 7 else 'train'},{i / 4 + 0.1}" for i in range(10)]
    data = load(tmp_path, rows)
    assert data.train.y.dtype == torch.float32  # type: ignore[union-attr]


def test_an_unseen_category_is_named_by_its_row_in_the_file(tmp_path: Path) -> None:
    """The row was counted within the test side, so that a user looked at another line of the file."""
    rows = [*ROWS[:-1], "40,Bohn,false,b,test,1"]
    with pytest.raises(ValueError, match=rf"column 'city', row {len(rows) - 1} \(owner b\) is 'Bohn', .* \(Bonn, "):
        load(tmp_path, rows)
