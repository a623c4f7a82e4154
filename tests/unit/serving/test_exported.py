"""Exported folders, and the command of an edge."""

from __future__ import annotations

import http.server
import json
import socket
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from commands import shell
from edge_support import CLASSES, META, pictures, serving_json
from PIL import Image

from raysplit.cli.serving.edge import edge
from raysplit.models.classifier.export import (
    Serving,
    load_head,
    load_meta,
    load_serving,
    load_trunk,
    prepared,
    save_serving,
    served_features,
)
from raysplit.models.classifier.heads import build_classifier

# --- exported folders --------------------------------------------------------------------------------------------


def test_an_export_gives_back_the_model_and_its_parts(folder: Path, serving: Serving) -> None:
    assert load_meta(folder).weights_sha256 == serving.meta.weights_sha256
    assert len(serving.meta.weights_sha256) == 64
    assert not serving.model.training
    z = torch.rand(2, 2048, generator=torch.Generator().manual_seed(0))
    assert load_head(folder, "mood")(z).equal(serving.model.heads["mood"](z))
    x = prepared(pictures(1), serving.meta)
    assert load_trunk(folder)(x).flatten(1).equal(serving.model.features(x))
    assert served_features(serving.meta) == 2048


def test_a_folder_that_cannot_be_served_is_named(folder: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(ValueError, match=match):
            load_serving(tmp_path)

    refused(r"has no serving\.json: no multi-task model was exported there")
    meta = load_meta(folder)
    (tmp_path / "serving.json").write_bytes(serving_json(meta))
    refused(r"has no model\.pt")
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name.startswith("backbone.")}, tmp_path / "model.pt")
    refused("holds no heads")
    torch.save({**state, "heads.mood.3.bias": torch.zeros(4)}, tmp_path / "model.pt")
    refused(r"heads\.mood\.3\.bias has shape \(4,\) and the description has shape \(3,\)")
    (tmp_path / "model.pt").write_bytes((folder / "model.pt").read_bytes()[:5000])
    refused("cannot be read: .*; export the run again")
    torch.save({"heads.mood": Path("a class of another library")}, tmp_path / "model.pt")
    refused("cannot be read")
    for change, match in [
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"classes": {}}, "classes: Dictionary should have at least 1 item"),
        ({"format": 2}, "format: Input should be 1"),
        ({"port": 1}, "port: Extra inputs are not permitted"),
        ({"classes": {"type": ["a", "b"]}}, "cannot be called 'type'"),
    ]:
        (tmp_path / "serving.json").write_text(json.dumps(meta.model_dump() | change))
        refused(match)


def test_an_export_must_describe_its_model(tmp_path: Path) -> None:
    model = build_classifier("small", {"age": 2, "gender": 2}, image_size=64, seed=1)
    with pytest.raises(ValueError, match="the model has the tasks age, gender, the description age, gender, mood"):
        save_serving(tmp_path, model, META)
    three = META.model_copy(update={"classes": {"age": ("a", "b", "c"), "gender": ("f", "m")}})
    with pytest.raises(ValueError, match="does not fit the description"):
        save_serving(tmp_path, model, three)
    assert not list(tmp_path.iterdir())


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_falls_back_when_told_to(
    folder: Path, serving: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pictures(1)[0].permute(1, 2, 0).numpy()).save(tmp_path / "face.png")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        server = f"http://127.0.0.1:{closed.server_address[1]}"
    arguments = [str(folder), str(tmp_path / "face.png"), "--server", server, "--attempts", "1"]
    code, _, err = shell(capsys, "edge", *arguments)
    assert code == 1
    assert f"no answer from {server}" in err
    result = CliRunner().invoke(edge, [*arguments, "--fallback", "--json"], catch_exceptions=False)
    row = json.loads(result.stdout)["answers"][0]
    with torch.inference_mode():
        expected = serving.model(prepared(pictures(1), serving.meta))
    assert row["answered_by"] == "edge"
    assert row["answers"]["mood"]["class"] == CLASSES["mood"][int(expected["mood"].argmax())]
    shown = CliRunner().invoke(edge, [*arguments, "--fallback", "--tasks", "mood"], catch_exceptions=False)
    assert "face.png" in shown.output
    assert "p99" in shown.output


def test_the_command_names_mistakes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    for arguments, message in [
        ([str(tmp_path), str(tmp_path / "note.txt")], "has no serving.json"),
        ([str(folder), str(tmp_path / "note.txt")], "note.txt cannot be read"),
    ]:
        code, _, err = shell(capsys, "edge", *arguments, "--server", "http://127.0.0.1:1")
        assert code == 2
        assert message in err
    alone = [str(folder), str(tmp_path / "note.txt"), "--server", "http://127.0.0.1:1", "--loss", "0.1"]
    assert "give its --rate or --trace as well" in shell(capsys, "edge", *alone)[2]


def test_what_cannot_be_served_is_found_before_a_cluster_starts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name.startswith("backbone.")}, tmp_path / "model.pt")
    (tmp_path / "serving.json").write_bytes((folder / "serving.json").read_bytes())
    code, _, err = shell(capsys, "serve", tmp_path)
    assert (code, "holds no heads" in err) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = shell(capsys, "serve", folder, "--port", port)
    assert (code, f"cannot listen at 127.0.0.1:{port}" in err) == (2, True)
