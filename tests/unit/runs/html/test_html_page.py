"""The HTML page about runs: it holds everything itself, shows text of others letter by letter, and loses no run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from commands import shell
from support import metrics_row

import raysplit
from raysplit.cluster.contract import PartyLoad
from raysplit.runs.html.bars import bars_of_waits
from raysplit.runs.html.charts import Series, line_chart, short
from raysplit.runs.html.content import naive_of, run_page
from raysplit.runs.html.page import html_page
from raysplit.runs.records.tables import WAITS, read_waits
from raysplit.runs.records.waits import Waits
from raysplit.runs.report import read_runs, readable_runs

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
_ALONE = {"meta", "polyline", "line", "circle", "br"}


class Outline(HTMLParser):
    """The elements of a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _ALONE or (tag == "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outlined(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    assert found.open == []
    return found


def written(
    folder: Path, *, rounds: int = 4, done: int = 4, stopped: str | None = "all rounds done", **more: Any
) -> Path:
    folder.mkdir(parents=True)
    config = {
        "seed": 7,
        "partition": {"name": "iid", "num_owners": 2},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": rounds},
        **more,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [metrics_row(i, test_accuracy=i / 10, bytes=2**20) for i in range(1, done + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if stopped:
        (folder / "summary.json").write_text(json.dumps({"stopped": stopped}))
    about = {
        "name": "digits",
        "targets": {"y": {"counts": {"train": [6, 4], "test": [3, 7]}}},
        "owners": {
            "num": 2,
            "samples": {"owner-0": 6, "owner-1": 4},
            "classes": {"owner-0": {"0": 6}, "owner-1": {"1": 4}},
        },
    }
    (folder / "data.json").write_text(json.dumps(about))
    waits = {"party": ["owner-0", "server"], "wait_s": [3.5, 0.25], "rounds": [4, 4]}
    pq.write_table(pa.table(waits), folder / WAITS)
    prediction = {"round_s": [1.1, 1.0], "busy_s": {"server": [0.5, 0.4]}, "error": 0.1, "pace": None}
    (folder / "prediction.json").write_text(json.dumps(prediction))
    return folder


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]).split())


def test_a_page_shows_results_curves_waits_owners_prediction_and_settings(tmp_path: Path) -> None:
    page = html_page(read_runs([written(tmp_path / "one")]), target=0.3)
    outlined(page)
    text = text_of(page)
    for said in (
        "FedAvg iid over 2 owners 4 of 4 40.0% 40.0% 4.0 MiB 2.0 s 3",
        "A model that ignores its inputs reaches 30.0% accuracy: what a run must beat.",
        "test accuracy by rounds",
        "test accuracy by MiB sent",
        "test accuracy by seconds of training",
        "training loss by rounds",
        "owner-0 3.50 s server 0.25 s Seconds of 4 rounds",
        "0 1 samples owner-0 6 6 owner-1 4 4",
        "a round 1.100 s 1.000 s +10.0% server at work 0.500 s 0.400 s +25.0%",
        "training.rounds 4",
    ):
        assert said in text, text


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    found = outlined(html_page(read_runs([written(tmp_path / "one")])))
    assert not {"script", "link", "img", "iframe", "object", "form", "a"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes


def test_text_of_others_is_shown_letter_by_letter(tmp_path: Path) -> None:
    """A run folder that somebody sent may have any name, any setting and any reason."""
    evil = EVIL.replace("/", "")
    folders = [
        written(tmp_path / evil, stopped=f"{EVIL}\x1b[31m", model={"name": "cnn8", "note": EVIL}),
        written(tmp_path / "two", partition={"name": EVIL, "num_owners": 2}),
    ]
    runs = read_runs(folders)
    page = html_page(runs, left_out={Path("x"): EVIL}, notes=[EVIL], title=EVIL)
    found = outlined(page)
    assert not {"script", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name == "onerror"]
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page


def test_a_run_cut_short_and_one_that_is_damaged_lose_nothing(tmp_path: Path) -> None:
    cut = written(tmp_path / "my cut", rounds=9, stopped=None)
    broken = written(tmp_path / "broken")
    (broken / "data.json").write_text('{"name": 3}')
    (broken / WAITS).write_bytes(b"PAR1 and no more")
    (broken / "prediction.json").write_text("{")
    unreadable = tmp_path / "none"
    unreadable.mkdir()
    runs, left_out = readable_runs([cut, broken, unreadable])
    page = html_page(runs, left_out=left_out)
    outlined(page)
    text = text_of(page)
    assert "FedAvg (my cut) cut short" in text
    assert f"To go on: raysplit resume &#39;{cut}&#39;" in text
    for name in ("data.json", WAITS, "prediction.json"):
        assert f"{broken / name} is damaged" in text
    assert "Left out:" in text
    assert run_page(0, runs[1]).report.curve


def test_one_map_of_owners_is_shown_once(tmp_path: Path) -> None:
    page = html_page(read_runs([written(tmp_path / "a"), written(tmp_path / "b")]))
    assert page.count('<table class="map">') == 1
    assert "The same as with FedAvg (a)." in text_of(page)


def test_a_real_run_has_links_and_owners(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    raysplit.train(
        model={"name": "mlp", "hidden": [8]},
        data={"name": "random", "num_samples": 60, "dim": 4, "num_classes": 2},
        partition={"num_owners": 2},
        algorithm={"name": "splitfed_v2", "cut": 1},
        training={"rounds": 2},
        cluster="local",
        folder=folder,
    )
    assert read_waits(folder) == [], "in one process nobody waits"
    (run,) = read_runs([folder])
    page = run_page(0, run)
    assert [bar.label for bar in page.links][:2] == ["owner → server", "server → owner"]
    assert set(page.kinds) == {"smashed", "gradients", "weights", "labels"}
    assert page.owners is not None
    assert naive_of([run]) is not None
    assert page.damage == ()


def test_waits_add_up_over_rounds(tmp_path: Path) -> None:
    """Those of the Ray cluster, which measures them in every process."""
    waits = Waits(tmp_path)
    for wait_s in (1.0, 0.5):
        load = PartyLoad(
            party="owner-0", wait_s=wait_s, peak_calls=1, wait_s_for={"aggregator": 0.25, "server": wait_s}
        )
        waits.round_measured([], [load])
    waits.run_failed(KeyboardInterrupt())
    assert read_waits(tmp_path) == [], "a run without a round keeps nothing"
    (tmp_path / "metrics.jsonl").write_text("")
    waits.run_failed(KeyboardInterrupt())
    (found,) = read_waits(tmp_path)
    assert (found.party, found.wait_s, found.rounds) == ("owner-0", 1.5, 2)
    assert [(each.party, each.wait_s) for each in found.waited_for] == [("server", 1.5), ("aggregator", 0.5)]
    (bar,) = bars_of_waits([found])[0]
    assert bar.text == "1.50 s: for server 1.50 s, aggregator 0.50 s"


def test_ticks_are_round_numbers_and_points_are_where_they_should_be() -> None:
    chart = line_chart([Series(name="a", points=((1, 0.25), (2, 0.5)))], title="t", x_label="x", is_rate=True)
    assert chart is not None
    assert [tick.text for tick in chart.y_ticks] == ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"]
    assert [tick.text for tick in chart.x_ticks] == ["0", "0.5", "1", "1.5", "2"]
    (line,) = chart.lines
    middle = (chart.left + chart.right) / 2
    assert line.points == f"{middle:g},{(chart.top + chart.bottom) / 2:g} {chart.right:g},{chart.top:g}"


@pytest.mark.parametrize(
    ("points", "drawn"),
    [(((1.0, float("nan")),), 0), (((1.0, 2.0),), 1), (((1.0, 5.0), (2.0, 5.0)), 1), (((0.0, 1e30), (1.0, -1e30)), 1)],
)
def test_any_numbers_make_a_chart_or_none(points: tuple[tuple[float, float], ...], drawn: int) -> None:
    chart = line_chart([Series(name="a", points=points)], title="t", x_label="x")
    assert (0 if chart is None else len(chart.lines)) == drawn


def test_numbers_of_axes_are_short() -> None:
    assert [short(x) for x in (0, 0.25, 1500, 25_000, 3e6, 1e-15)] == ["0", "0.25", "1500", "25k", "3M", "0"]


def test_the_command_writes_a_page_and_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("runs/a"))
    assert shell(capsys, "report", "a", "--html")[:2] == (0, "report: report.html\n")
    assert shell(capsys, "report", "a", "--html")[:2] == (0, "report: report-2.html\n")
    assert shell(capsys, "report", "a", "--html", "report.html")[1] == "report: report.html (replaced)\n"
    code, _, err = shell(capsys, "report", "--html", "a", "a")
    assert (code, "give --html behind the runs" in err) == (2, True)
    code, _, err = shell(capsys, "report", "a", "--html", "--output", "x.md")
    assert (code, "give one of them" in err) == (2, True)
    shutil.rmtree("runs")
