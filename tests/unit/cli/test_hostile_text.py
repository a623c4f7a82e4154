"""Text of others that paints, moves the cursor, runs backwards or is markup reaches no terminal, page or picture."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from bad_servers import BadServer, reply, says
from commands import shell
from PIL import Image

from raysplit.api import compare
from raysplit.cluster.on_ray.home import FORMAT, Lines
from raysplit.registry import one_line, printable
from raysplit.serving.transport import shown

OLD = Path(__file__).parents[2] / "data" / "runs_0_1"
PAINT = "\x1b[31m\x1b]0;gone\x07\u202egnp.exe\u2066\x9b2J\r\x08\u200b"
MARKUP = "<img src=x onerror=alert(1)>[a](javascript:b)![c](http://d)`|$x$[/red]:car:"
HOSTILE = f"{PAINT}{MARKUP}\nforged line"
NAME = f"{PAINT}[/red]:car:\nforged line"  # of a folder


def raw(text: str) -> str:
    """The characters of a text that no terminal should get."""
    return "".join(sorted({each for each in text if not each.isprintable() and each != "\n"}))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run folder that somebody sent, named and filled by them, and one of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(OLD / "mas", tmp_path / "runs" / "own")
    folder = tmp_path / "runs" / NAME
    shutil.copytree(OLD / "mtsl", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["partition"]["name"] = config["model"]["name"] = config["training"]["optimizer"]["name"] = HOSTILE
    config["algorithm"]["name"] = f"nowhere:{HOSTILE}"
    config["reliability"] = {"checkpoint_location": f"file:///nowhere/{HOSTILE}"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"stopped": HOSTILE}))
    environment = {"started": "2026-01-01T00:00:00+00:00", "platform": HOSTILE, "packages": {HOSTILE: HOSTILE}}
    (folder / "environment.json").write_text(json.dumps(environment))
    links = pq.read_table(folder / "traffic.parquet").to_pylist()
    pq.write_table(_table([link | {"source": HOSTILE} for link in links]), folder / "traffic.parquet")
    (folder / HOSTILE.replace("/", "")).write_text("a file of theirs")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "round-000001.ckpt").write_text(HOSTILE)
    damaged = tmp_path / "runs" / f"damaged{NAME}"
    shutil.copytree(OLD / "mtsl", damaged)
    (damaged / "summary.json").write_text(json.dumps({"stopped": [HOSTILE]}))
    return tmp_path


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


RUN = f"runs/{NAME}"
COMMANDS: dict[str, list[str]] = {
    "list": ["list"],
    "list of nothing": ["list", "--root", HOSTILE],
    "show": ["show", RUN],
    "show a damaged one": ["show", f"runs/damaged{NAME}"],
    "show nothing": ["show", HOSTILE],
    "show a URI": ["show", f"file:///{HOSTILE}"],
    "compare": ["compare", RUN, "own", f"runs/damaged{NAME}"],
    "report": ["report", RUN, "own", f"runs/damaged{NAME}"],
    "report into": ["report", RUN, "--output", f"{HOSTILE}.html"],
    "export": ["export", RUN, "model.pt2"],
    "export of an owner": ["export", RUN, "model.pt", "--model", HOSTILE],
    "resume": ["resume", RUN],
    "resume with trust": ["resume", RUN, "--trust"],
    "train": ["train", "--name", HOSTILE],
    "train a file": ["train", HOSTILE],
    "train a set": ["train", "--set", f"data.name={HOSTILE}"],
    "train a key": ["train", "--set", f"{HOSTILE}=1"],
    "train a folder": ["train", f"runs/{NAME}/config.yaml", "--set", "cluster.kind=local"],
    "sweep": ["sweep", "--over", f"{HOSTILE}=1,2"],
    "submit": ["submit", f"runs/{NAME}/config.yaml", "--address", f"http://{HOSTILE}"],
    "simulate": ["simulate", f"runs/{NAME}/config.yaml"],
    "cuts": ["cuts", f"runs/{NAME}/config.yaml"],
    "plan": ["plan", "--profile", HOSTILE, "--owners", "1", "--node", "64GiB:1"],
    "plan a profile": ["plan", "--profile", "profile.csv", "--owners", "1", "--node", "64GiB:1"],
    "profile": ["profile", HOSTILE],
    "codecs": ["codecs", f"runs/{NAME}/config.yaml"],
    "affinity": ["affinity", "affinity.csv"],
    "split-cost": ["split-cost", HOSTILE],
    "inspect": ["inspect", f"runs/{NAME}/config.yaml"],
    "inspect labels": ["inspect", "labels.parquet"],
    "serve": ["serve", RUN],
    "edge": ["edge", RUN, HOSTILE, "--server", f"http://{HOSTILE}"],
    "cluster up": ["cluster", "up", "lab.yaml"],
    "cluster down": ["cluster", "down", HOSTILE],
    "cluster status": ["cluster", "status", HOSTILE],
    "no command": [HOSTILE],
    "no option": ["list", f"--{HOSTILE}"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_no_command_prints_text_of_others_raw(
    what: str, here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A run folder that somebody sent cleared the screen and renamed the window when it was listed.

    So did the messages of errors, and a name with marks of direction ended in ``.png`` on the screen alone.
    """
    (here / "lab.yaml").write_text(yaml.safe_dump({"machines": {"head": {"labels": {HOSTILE: HOSTILE}}}}))
    (here / "affinity.csv").write_text(f'task,"{PAINT}",b\n"{PAINT}",0,1\nb,2,0\n')
    (here / "profile.csv").write_text(f"{HOSTILE},unit\n{HOSTILE},1\n")
    labels = [HOSTILE, "b"] * 10
    pq.write_table(_table([{"x": [float(n)], "y": label} for n, label in enumerate(labels)]), here / "labels.parquet")
    (here / "labels.yaml").write_text("data: {name: labels.parquet, values: numbers}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = shell(capsys, *COMMANDS[what])
    assert raw(out + err) == ""
    assert out + err != ""
    assert code in (0, 1, 2)
    if what in ("list", "show", "compare"):
        assert "\nforged line" not in out + err


def test_a_page_has_text_of_others_as_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page of a run showed a picture from elsewhere and a link that ran a script, as the run's reason to stop."""
    assert shell(capsys, "report", RUN, "own", "--output", "page.md")[0] == 0
    page = (here / "page.md").read_text(encoding="utf-8")
    assert raw(page) == ""
    assert "<" not in page
    assert r"\[a\](javascript:b)\!\[c\](http://d)" in page
    assert "](javascript:" not in page.replace(r"\](", "")
    assert page.count("](") == page.count(r"\](") + 1  # the page's own figure
    assert "\nforged line" not in page


def test_a_comparison_is_printed_in_lines_of_its_own(here: Path) -> None:
    text = str(compare([RUN, "runs/own"]))
    assert raw(text) == ""
    assert "\nforged line" not in text


def test_a_picture_has_them_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A control character in a name made an SVG that no program reads, and matplotlib warned of missing glyphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shell(capsys, "compare", RUN, "own", "--figure", "figure.svg")[0] == 0
    picture = (here / "figure.svg").read_text(encoding="utf-8")
    assert raw(picture) == ""
    xml.dom.minidom.parseString(picture)


def test_what_a_server_says_is_one_line_of_plain_text(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A server's refusal was sent to the terminal as it came."""
    from raysplit.models.classifier.export import ServingMeta, save_serving
    from raysplit.models.classifier.heads import build_classifier

    meta = ServingMeta(backbone="small", image_size=64, classes={"a": ("x", "y")})
    save_serving(here / "export", build_classifier("small", {"a": 2}, image_size=64, seed=1), meta)
    Image.new("RGB", (64, 64), "teal").save(here / "picture.png")
    body = json.dumps({"reason": HOSTILE, "message": HOSTILE}).encode()
    for answer in (body, HOSTILE.encode(errors="surrogatepass")):
        with BadServer(meta.model_dump_json().encode(), "/meta", says(reply(answer, status="400 Bad"))) as server:
            for fallback in ([], ["--fallback"]):
                arguments = ["edge", "export", "picture.png", "--server", server.url, "--attempts", "1", *fallback]
                code, out, err = shell(capsys, *arguments)
                assert raw(out + err + "".join(caplog.messages)) == ""
                assert code == (0 if fallback else 1)
    assert "gnp.exe" in caplog.text
    assert shown(HOSTILE) == one_line(" ".join(HOSTILE.split()))


def test_a_line_of_a_place_has_no_raw_character() -> None:
    record = logging.LogRecord("raysplit", logging.WARNING, "", 0, "%s", (HOSTILE,), None)
    record.place = record.party = PAINT
    assert raw(Lines(FORMAT).format(record)) == ""


@pytest.mark.parametrize(
    ("text", "seen", "line"),
    [
        ("Größe 漢字 😀 a\u00a0b\u3000c", None, None),
        ("a\x1b[2Jb", "a\\x1b[2Jb", None),
        ("a\u202eb\u2069\ud800", "a\\u202eb\\u2069\\ud800", None),
        ("a\nb\tc\r\n", "a\nb\tc\\r\n", "a\\nb\\tc\\r\\n"),
        ("a\u2028b\x85c", "a\\u2028b\\x85c", None),
    ],
)
def test_what_cannot_be_seen_is_written_by_its_number(text: str, seen: str | None, line: str | None) -> None:
    assert printable(text) == (seen or text)
    assert one_line(text) == (line or seen or text)


def test_weights_of_others_with_such_names_are_exported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({HOSTILE: {"w": torch.zeros(1)}, "b": {"w": torch.zeros(1)}}, here / RUN / "model.pt")
    code, out, err = shell(capsys, "export", RUN, "model.pt")
    assert code == 2
    assert raw(out + err) == ""
