"""`raysplit affinity` on matrices and on the table of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from raysplit.cli.planning.affinity import affinity
from raysplit.schedulers.grouping.files import history_table, read_affinity, read_history, read_pair_losses
from raysplit.schedulers.grouping.known import affinities_of
from raysplit.schedulers.grouping.scores import Affinity, mean_affinity

SOURCES = """\
s,d,n,k,t
0,0.413559,0.139824,0.021099,0.056692
0.115374,0,0.220962,0.013366,0.036683
0.048910,0.291415,0,0.010729,0.036007
0.004547,0.013537,0.010494,0,0.303721
0.008776,0.073957,0.076460,0.689736,0
"""
PAIRS = """\
task,s,d,n,t,k
s,.0509,.0528,.0471,.0606,.0655
d,.2636,.2616,.2551,.2675,.2674
n,.1004,.1002,.0975,.1082,.1110
t,.0287,.0423,.0310,.0337,.0232
k,.0972,.1068,.0568,.0933,.0910
"""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "matrix.csv"
    path.write_text(SOURCES)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(affinity, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("mode", "num_groups", "groups", "score"),
    [
        ("exact", 2, [["s", "d", "n"], ["k", "t"]], 0.321696),
        ("exact", 4, [["s"], ["d"], ["n"], ["k", "t"]], 0.269252),
        ("at-most", 5, [["s", "d"], ["n"], ["k", "t"]], 0.325348),
        ("overlap", 3, [["s", "d"], ["d", "n"], ["k", "t"]], 0.348670),
    ],
)
def test_json(csv: Path, mode: str, num_groups: int, groups: list[list[str]], score: float) -> None:
    found = json.loads(run(csv, "--groups", num_groups, "--mode", mode, "--json"))
    assert found == {"groups": groups, "score": pytest.approx(score, abs=1e-6)}


def test_json_of_predicted_losses(csv: Path) -> None:
    csv.write_text(PAIRS)
    found = json.loads(run(csv, "--groups", 4, "--mode", "hoa", "--json"))
    assert found["groups"] == [["s", "n"], ["d", "n"], ["n", "k"], ["t", "k"]]
    assert found["score"] == pytest.approx(0.4824)


def test_tables_and_pictures(csv: Path, tmp_path: Path) -> None:
    picture = tmp_path / "heat.png"
    text = run(csv, "--groups", 3, "--picture", picture)
    assert "best 5 of 25 partitions" in text
    assert "{s, d}  {n}  {k, t}" in text
    assert picture.stat().st_size > 1000
    text = run(csv)
    for groups in ("{s, d, n, k, t}", "{s, d, n}  {k, t}", "{s}  {d}  {n}  {k, t}"):
        assert groups in text
    csv.write_text(PAIRS)
    assert "predicted total loss" in run(csv, "--mode", "hoa", "--picture", tmp_path / "pairs.png")
    csv.write_text("a\n0\n")
    assert "{a}" in run(csv, "--groups", 1, "--picture", tmp_path / "single.png")
    csv.write_text("a,b\n0,1\n1,0\n")
    assert "{a, b}" in run(csv, "--mode", "hoa", "--groups", 1, "--picture", tmp_path / "zero.png")


def test_a_run_is_averaged_over_its_rounds(csv: Path, tmp_path: Path) -> None:
    plain = read_affinity(csv)
    rounds = [
        Affinity(tasks=plain.tasks, values=tuple(tuple(factor * value for value in row) for row in plain.values))
        for factor in (0.5, 1.5)
    ]
    pq.write_table(history_table(rounds), tmp_path / "affinities.parquet")
    assert read_history(tmp_path) == tuple(rounds)
    assert mean_affinity(rounds).values[0] == pytest.approx(plain.values[0])
    found = json.loads(run(tmp_path, "--groups", 2, "--json"))
    assert found["groups"] == [["s", "d", "n"], ["k", "t"]]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n",
        ",a,b\na,1,2\nb,3,4\n",
        "source,a,b\nb,3,4\na,1,2\n",
        "a,b\na,1,2\nb,3,4\n",
        "\ufeffa, b\n1, 2\n\n3, 4\n\n",
    ],
)
def test_forms_of_a_matrix(csv: Path, text: str) -> None:
    csv.write_text(text, encoding="utf-8")
    assert read_affinity(csv) == Affinity(tasks=("a", "b"), values=((1.0, 2.0), (3.0, 4.0)))


def test_tasks_may_be_numbers_and_the_diagonal_empty(csv: Path) -> None:
    csv.write_text("row,1,2\n1,,2\n2,3,\n")
    assert read_affinity(csv) == Affinity(tasks=("1", "2"), values=((0.0, 2.0), (3.0, 0.0)))
    with pytest.raises(ValueError, match="not a number"):
        read_pair_losses(csv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "1 lines"),
        ("a,b\n1,2\n", "not square"),
        ("a,b\n1,2,3\n4,5,6\n", "a, b"),
        ("a,b\n1,2\n3\n", "not square"),
        (",a,b\na,1,2\nc,3,4\n", "rows are named a, c, the header says a, b"),
        ("a,b\n1,x\n3,4\n", "row 'a', column 'b' holds 'x', which is not a number"),
        ("a,b\n1,\n3,4\n", "row 'a', column 'b' holds '', which is not a number"),
        ("a,b\n1,nan\n3,4\n", "row 'a', column 'b' is nan; it must be finite"),
        ("a,b\nnan,1\n3,4\n", "row 'a', column 'a' is nan; it must be finite"),
        ("a,a\n1,2\n3,4\n", "distinct names"),
    ],
)
def test_mistakes_in_a_matrix_are_named(csv: Path, text: str, message: str) -> None:
    csv.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_affinity(csv)


def test_mistakes_on_the_command_line_are_named(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of tasks, 5, got 9"):
        run(csv, "--groups", 9)
    assert "--groups" in CliRunner().invoke(affinity, [str(csv), "--json"]).output
    assert "pair losses" in CliRunner().invoke(affinity, [str(tmp_path), "--mode", "hoa"]).output
    with pytest.raises(ValueError, match=r"holds no affinities\.parquet"):
        run(tmp_path)


def test_a_table_with_a_missing_pair_is_refused(csv: Path, tmp_path: Path) -> None:
    table = history_table([read_affinity(csv)])
    pq.write_table(table.slice(1), tmp_path / "affinities.parquet")
    with pytest.raises(ValueError, match="each pair of its 5 tasks once"):
        read_history(tmp_path)


def test_what_nobody_measured_is_shown_and_no_groups_are_scored(tmp_path: Path) -> None:
    """In a run whose owners have some of the tasks, a pair may be in no owner's hands."""
    nan = float("nan")
    rounds = [
        affinities_of("abc", [[9, 1, nan], [2, 9, nan], [nan, nan, nan]]),
        affinities_of("abc", [[9, 3, nan], [4, 9, 7], [nan, 8, 9]]),
    ]
    pq.write_table(history_table(rounds), tmp_path / "affinities.parquet")
    assert [affinity.tasks for affinity in read_history(tmp_path)] == [("a", "b", "c")] * 2
    text = run(tmp_path, "--picture", tmp_path / "matrix.png")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [["a", "9.000000", "2.000000", "–"], ["b", "3.000000", "9.000000", "7.000000"],
                    ["c", "–", "8.000000", "9.000000"]]  # fmt: skip
    assert "No owner has measured a and c, so groups cannot be scored" in text
    refused = CliRunner().invoke(affinity, [str(tmp_path), "--groups", "2"])
    assert refused.exit_code == 2
    assert "leave out --groups and --hours" in " ".join(refused.output.replace("│", " ").split())


def test_an_affinity_in_a_file_that_is_no_number_is_refused(csv: Path, tmp_path: Path) -> None:
    """A value that nobody measured is null there; NaN is what a damaged table has."""
    table = history_table([read_affinity(csv)]).to_pydict()
    table["value"][1] = float("nan")
    pq.write_table(pa.table(table), tmp_path / "affinities.parquet")
    with pytest.raises(ValueError, match="the affinity of 's' for 'd' in round 0 is NaN; it must be finite, or null"):
        read_history(tmp_path)


PUBLISHED = ("--hours", "1:3.374", "--hours", "5:7.28")  # five Taskonomy tasks, 100 rounds


def test_what_every_way_to_train_takes(csv: Path) -> None:
    """The published run times: 16.87 h one by one, 7.28 all in one, 8.96 MAS, 16.96 TAG and 65.7 HOA for two groups."""
    found = json.loads(run(csv, "--groups", 2, "--json", *PUBLISHED))
    assert found["hours"] == pytest.approx(
        {"one by one": 16.87, "all in one": 7.28, "mas": 8.96, "tag": 16.96, "hoa": 65.70}, abs=0.01
    )
    later = json.loads(run(csv, "--groups", 2, "--json", "--merged-share", 1, *PUBLISHED))
    assert later["hours"]["mas"] == pytest.approx(7.28)
    assert "8.96" in run(csv, *PUBLISHED)


@pytest.mark.parametrize("hours", [["1:3"], ["1:3", "1:4"], ["1:3", "five:7"], ["1", "2"]])
def test_hours_that_make_no_line(csv: Path, hours: list[str]) -> None:
    arguments = [part for each in hours for part in ("--hours", each)]
    result = CliRunner().invoke(affinity, [str(csv), *arguments])
    assert result.exit_code == 2
    assert "give two runs, for example --hours 1:3.37 --hours 5:7.28" in result.output
