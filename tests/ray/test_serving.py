"""The real HTTP server on Ray Serve: the very bits of the unsplit model, and a reason for every bad message."""

from __future__ import annotations

import json
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from raysplit.cli.serving.edge import edge
from raysplit.models.classifier.export import Serving, ServingMeta, load_serving, prepared, save_serving
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.codec import Content, Limits, Message, decode, encode
from raysplit.serving.compression import Encoding
from raysplit.serving.edge import Answer, EdgeClient
from raysplit.serving.http_transport import HttpTransport
from raysplit.serving.transport import RequestRefused

CLASSES = {"age": ("young", "old"), "gender": ("f", "m"), "mood": ("sad", "calm", "glad")}
MAX_BATCH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    classes = {task: len(names) for task, names in CLASSES.items()}
    model = build_classifier("mobilenet_v3_small", classes, image_size=64, seed=1)
    save_serving(place, model, ServingMeta(backbone="mobilenet_v3_small", image_size=64, classes=CLASSES))
    return place


@pytest.fixture(scope="module")
def serving(folder: Path) -> Serving:
    return load_serving(folder)


@pytest.fixture(scope="module")
def server(ray_session: dict[str, float], folder: Path) -> Iterator[str]:
    from raysplit.serving.server import ServerOptions, start, stop

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start(folder, ServerOptions(port=port, num_unsplit_replicas=1, max_batch=MAX_BATCH, join_wait_s=0.05))
    yield f"http://127.0.0.1:{port}"
    stop()


def _pictures(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _client(serving: Serving, server: str, encoding: Encoding = Encoding.FLOAT32) -> EdgeClient:
    backbone = serving.model.backbone
    return EdgeClient(meta=serving.meta, backbone=backbone, transport=HttpTransport(server), encoding=encoding)


def _whole(serving: Serving, images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return serving.model(prepared(images, serving.meta))


def _check_unharmed(serving: Serving, server: str) -> None:
    images = _pictures(1, seed=9)
    with _client(serving, server) as client:
        answer = client.infer(images)
    whole = _whole(serving, images)
    assert all(answer.logits[task].equal(whole[task]) for task in CLASSES)


@pytest.mark.parametrize("encoding", [Encoding.FLOAT32, Encoding.ZLIB])
@pytest.mark.parametrize("count", [1, MAX_BATCH])
def test_the_server_gives_the_very_bits_of_the_whole_model(
    serving: Serving, server: str, encoding: Encoding, count: int
) -> None:
    images = _pictures(count)
    whole = _whole(serving, images)
    with _client(serving, server, encoding) as client:
        client.check_server()
        answer = client.infer(images)
        some = client.infer(images, tasks=["mood", "age"])
    assert answer.answered_by == "server"
    assert all(answer.logits[task].equal(whole[task]) for task in CLASSES)
    assert list(some.logits) == ["age", "mood"]
    assert some.logits["mood"].equal(whole["mood"])
    assert answer.latency.server_s > 0
    assert answer.latency.link_s > 0
    assert answer.down_bytes == 44 + count * 7 * 4
    if encoding is Encoding.FLOAT32:
        assert answer.up_bytes == 44 + count * 2304 * 4


def test_the_server_computes_whole_pictures_to_the_same_bits(serving: Serving, server: str) -> None:
    images = _pictures(2)
    body = encode(Message(content=Content.IMAGES, tasks=0b100, tensor=images), Encoding.UINT8)
    reply = HttpTransport(server).exchange("POST", "/infer", body, 2**16)
    assert decode(reply.body, Limits(max_body_bytes=1000, max_rows=2, max_values=100)).tensor.equal(
        _whole(serving, images)["mood"]
    )


def test_clients_at_the_same_time_get_their_own_answers(serving: Serving, server: str) -> None:
    """They meet at the heads and are answered together, where another batch size may round otherwise."""

    def ask(seed: int) -> Answer:
        torch.set_num_threads(1)
        with _client(serving, server) as client:
            return client.infer(_pictures(1 + seed % 3, seed))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    for seed, answer in enumerate(answers):
        whole = _whole(serving, _pictures(1 + seed % 3, seed))
        for task in CLASSES:
            scale = whole[task].abs().max().item()
            assert (answer.logits[task] - whole[task]).abs().max().item() <= 1e-6 * max(scale, 1.0)


def test_health_and_routes(server: str) -> None:
    transport = HttpTransport(server)
    health = transport.exchange("GET", "/health", b"", 2**16)
    assert (health.status, json.loads(health.body)) == (200, {"status": "ok", "tasks": list(CLASSES)})
    for method, path in [
        ("GET", "/weights"), ("GET", "/"), ("POST", "/meta"), ("GET", "/infer"), ("DELETE", "/health"),
        ("POST", "/infer/"), ("GET", "/docs"), ("GET", "/openapi.json"),
    ]:  # fmt: skip
        missing = transport.exchange(method, path, b"", 2**16)
        expected = b'{"reason":"unknown-route","message":"there are POST /infer, GET /meta and GET /health"}'
        assert (missing.status, missing.headers["content-type"], missing.body) == (404, "application/json", expected)
        assert "allow" not in missing.headers


def _good() -> bytes:
    features = torch.rand(1, 2304, generator=torch.Generator().manual_seed(0))
    return encode(Message(content=Content.FEATURES, tasks=0b111, tensor=features))


def _with(position: int, value: bytes) -> bytes:
    body = bytearray(_good())
    body[position : position + len(value)] = value
    body[40:44] = struct.pack("<I", zlib.crc32(bytes(body[44:]), zlib.crc32(bytes(body[:40]))))
    return bytes(body)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "truncated"),
        (_good()[:100], 400, "wrong-length"),
        (_with(0, b"HTTP"), 400, "wrong-magic"),
        (_with(4, b"\2"), 415, "wrong-version"),
        (_with(6, b"\7"), 415, "wrong-encoding"),
        (_with(5, b"\1"), 422, "wrong-content"),
        (_with(8, struct.pack("<I", 0b1000)), 422, "unknown-task"),
        (_with(20, struct.pack("<2I", 2, 1152)), 422, "wrong-shape"),
        (_with(20, struct.pack("<I", 2**32 - 1)), 413, "oversized"),
        (bytes(3_000_000), 413, "oversized"),
    ],
)
def test_each_bad_message_has_its_status_and_reason(
    serving: Serving, server: str, body: bytes, status: int, reason: str
) -> None:
    reply = HttpTransport(server).exchange("POST", "/infer", body, 2**16)
    told = json.loads(reply.body)
    assert (reply.status, told["reason"]) == (status, reason)
    assert told["message"]
    _check_unharmed(serving, server)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_messages_never_harm_the_server(serving: Serving, server: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["noise", "cut", "flipped", "extended"]))
    body = bytearray(_good())
    if kind == "noise":
        body = bytearray(data.draw(st.binary(max_size=200)))
    elif kind == "cut":
        del body[data.draw(st.integers(0, len(body) - 1)) :]
    elif kind == "flipped":
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
    else:
        body += data.draw(st.binary(min_size=1, max_size=50))
    reply = HttpTransport(server).exchange("POST", "/infer", bytes(body), 2**16)
    assert 400 <= reply.status < 500
    assert json.loads(reply.body)["reason"]
    _check_unharmed(serving, server)


def test_a_batch_that_is_too_large_is_refused_at_once(serving: Serving, server: str) -> None:
    with _client(serving, server) as client, pytest.raises(RequestRefused, match="413, oversized"):
        client.infer(_pictures(64))


def test_slow_and_wrong_clients_keep_nobody_from_an_answer(serving: Serving, server: str) -> None:
    """Half bodies took the places of whole ones, NaN was answered, and WebSockets ended in a 500."""
    address = urlsplit(server)
    head = f"POST /infer HTTP/1.1\r\nHost: heads\r\nContent-Length: {len(_good())}\r\n\r\n".encode()
    slow = [socket.create_connection((address.hostname, address.port)) for _ in range(120)]
    for client in slow:
        client.sendall(head + _good()[:-100])
    _check_unharmed(serving, server)
    transport = HttpTransport(server)
    nan = Message(content=Content.FEATURES, tasks=0b111, tensor=torch.full((1, 2304), torch.nan))
    rows = Message(content=Content.FEATURES, tasks=0b111, tensor=torch.ones(MAX_BATCH + 1, 2304))
    for message, encoding, status, reason in [
        (nan, Encoding.FLOAT32, 422, "not-finite"), (rows, Encoding.INT8, 413, "oversized"),
    ]:  # fmt: skip
        reply = transport.exchange("POST", "/infer", encode(message, encoding), 2**16)
        assert (reply.status, json.loads(reply.body)["reason"]) == (status, reason)
    transport.close()
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"GET /infer HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 400 ")
    for client in slow:
        client.close()
    _check_unharmed(serving, server)


def test_the_command_asks_the_server(serving: Serving, server: str, folder: Path, tmp_path: Path) -> None:
    images = _pictures(2, seed=4)
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(path)
    arguments = [str(folder), *map(str, paths), "--server", server, "--json", "--rate", "1e8", "--repeat", "2"]
    result = CliRunner().invoke(edge, arguments, catch_exceptions=False)
    told = json.loads(result.stdout)
    for row, image in zip(told["answers"], images, strict=True):
        whole = _whole(serving, image[None])
        assert row["answered_by"] == "server"
        assert row["up_bytes"] == 44 + 2304 * 4
        for task, names in CLASSES.items():
            assert row["answers"][task]["class"] == names[int(whole[task].argmax())]
    assert set(told["latency"]["total_s"]) == {"p50", "p95", "p99"}
    trace = tmp_path / "link.csv"
    trace.write_text("seconds,up_mbit_per_s,down_mbit_per_s,latency_ms\n0,10,100,20\n0.5,1,100,20\n")
    changing = [*arguments[:6], "--trace", str(trace), "--jitter", "0.001", "--loss", "0.01", "--seed", "3"]
    told = json.loads(CliRunner().invoke(edge, changing, catch_exceptions=False).stdout)
    assert told["latency"]["link_s"]["p50"] > 2 * 0.02 + 8 * (44 + 2304 * 4) / 10e6
    refused = CliRunner().invoke(edge, [*arguments, "--tasks", "hair"])
    assert refused.exit_code == 1
    assert "unknown task 'hair'" in str(refused.exception)
