"""Edge and server without a cluster: exported folders, checks, retries, fallback, latency, one HTTP connection."""

from __future__ import annotations

import copy
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from commands import shell
from PIL import Image
from torch import Tensor

from raysplit.cli.serving.edge import edge
from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.links.rules import LinkRules
from raysplit.models.classifier.export import (
    Serving,
    ServingMeta,
    load_head,
    load_meta,
    load_serving,
    load_trunk,
    prepared,
    save_serving,
    served_features,
)
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.codec import Content, Message, Reason, WireError, encode
from raysplit.serving.compression import Encoding, pack, unpack
from raysplit.serving.edge import EdgeClient, Latency, latency_percentiles
from raysplit.serving.http_transport import HttpTransport
from raysplit.serving.links import EdgeLink
from raysplit.serving.service import (
    UnsplitModel,
    answer_together,
    limits_for,
    read_answer,
    read_question,
    status_of,
    write_answer,
)
from raysplit.serving.transport import (
    Reply,
    RequestRefused,
    RetryRule,
    ServerUnreachable,
    exchange_with_retries,
)
from raysplit.serving.wire_link import WireLink

CLASSES = {"age": ("young", "old"), "gender": ("f", "m"), "mood": ("sad", "calm", "glad")}
META = ServingMeta(backbone="small", image_size=64, classes=CLASSES, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    model = build_classifier("small", {task: len(names) for task, names in CLASSES.items()}, image_size=64, seed=1)
    save_serving(place, model, META)
    return place


@pytest.fixture(scope="module")
def serving(folder: Path) -> Serving:
    return load_serving(folder)


def _pictures(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class InProcess:
    """A server without a network; `failures` come first, then answers."""

    server = "http://in.process"

    def __init__(self, serving: Serving, failures: tuple[Reply | Exception, ...] = (), server_s: float = 0.0) -> None:
        self.serving, self.failures, self.server_s = serving, list(failures), server_s
        self.limits = limits_for(serving.meta, served_features(serving.meta), max_batch=64)
        self.bodies: list[bytes] = []
        self.wire = WireLink()

    def exchange(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
        self.bodies.append(body)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        if (method, path) == ("GET", "/meta"):
            return Reply(status=200, headers={}, body=serving_json(self.serving.meta))
        meta = self.serving.meta
        try:
            question = read_question(body, meta, served_features(meta), self.limits, self.wire)
        except WireError as error:
            told = json.dumps({"reason": error.reason, "message": str(error)}).encode()
            return Reply(status=status_of(error.reason), headers={}, body=told)
        z = question.tensor.numpy()
        heads = self.serving.model.heads
        logits = {task: torch.tensor(answer_together(heads[task], [z])[0]) for task in question.tasks}
        headers = {"x-raysplit-server-seconds": str(self.server_s)}
        return Reply(status=200, headers=headers, body=write_answer(logits, meta, self.wire))

    def close(self) -> None:
        pass


def serving_json(meta: ServingMeta) -> bytes:
    return json.dumps(meta.model_dump()).encode()


def _client(serving: Serving, transport: InProcess, **options: object) -> EdgeClient:
    options = {"sleep": lambda seconds: None} | options
    return EdgeClient(meta=serving.meta, backbone=serving.model.backbone, transport=transport, **options)


# --- split = unsplit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [Encoding.FLOAT32, Encoding.ZLIB])
@pytest.mark.parametrize("count", [1, 5, 32])
def test_split_inference_gives_the_very_bits_of_the_whole_model(
    serving: Serving, encoding: Encoding, count: int
) -> None:
    images = _pictures(count)
    with torch.inference_mode():
        whole = serving.model(prepared(images, serving.meta))
    answer = _client(serving, InProcess(serving), encoding=encoding).infer(images)
    assert answer.answered_by == "server"
    assert list(answer.logits) == list(CLASSES)
    assert all(answer.logits[task].equal(whole[task]) for task in CLASSES)


def test_requests_answered_together_agree_with_requests_answered_alone(serving: Serving) -> None:
    rows = [torch.rand(n, 2048, generator=torch.Generator().manual_seed(n)).numpy() for n in (1, 3, 2)]
    head = serving.model.heads["mood"]
    together = answer_together(head, rows)
    for array, answer in zip(rows, together, strict=True):
        alone = answer_together(head, [array])[0]
        assert answer.shape == (len(array), 3)
        assert np.allclose(answer, alone, rtol=1e-6, atol=1e-6)


def test_coarser_features_keep_the_answers(serving: Serving) -> None:
    images = _pictures(64, seed=3)
    exact = _client(serving, InProcess(serving)).infer(images).logits
    agreement = {}
    for encoding in (Encoding.FLOAT16, Encoding.INT8):
        coarse = _client(serving, InProcess(serving), encoding=encoding).infer(images).logits
        same = torch.stack([exact[task].argmax(1) == coarse[task].argmax(1) for task in CLASSES])
        agreement[encoding] = same.double().mean().item()
    assert agreement[Encoding.FLOAT16] >= 0.995
    assert agreement[Encoding.INT8] >= 0.95


@pytest.mark.parametrize("encoding", [Encoding.FLOAT16, Encoding.INT8])
def test_no_logit_moves_further_than_the_weights_allow(serving: Serving, encoding: Encoding) -> None:
    """A ReLU does not widen a difference: |change of logit| <= |W2| |W1| |change of z|, taken absolutely."""
    z = serving.model.features(prepared(_pictures(16, seed=5), serving.meta))
    arrived = torch.stack([unpack(pack(row, encoding), encoding, (2048,)) for row in z])
    assert not arrived.equal(z)
    for task, head in serving.model.heads.items():
        first, last = head[0].weight.double().abs(), head[3].weight.double().abs()
        bound = (arrived - z).double().abs() @ first.T @ last.T
        change = (head(arrived) - head(z)).double().abs()
        assert (change <= bound + 1e-6).all(), task


def test_only_the_asked_tasks_come_back_in_the_models_order(serving: Serving) -> None:
    server = InProcess(serving)
    answer = _client(serving, server).infer(_pictures(2), tasks=["mood", "age"])
    assert {task: tuple(v.shape) for task, v in answer.logits.items()} == {"age": (2, 2), "mood": (2, 3)}
    assert answer.up_bytes == len(server.bodies[0]) == 44 + 2 * 2048 * 4
    assert answer.down_bytes == 44 + 2 * 5 * 4
    with pytest.raises(WireError, match=r"unknown task 'hair' \(one of age, gender, mood\)"):
        _client(serving, server).infer(_pictures(1), tasks=["hair"])


def test_the_unsplit_model_takes_pictures_as_they_are(serving: Serving) -> None:
    images = _pictures(3)
    together = UnsplitModel(serving)(images)
    expected = serving.model(prepared(images, serving.meta))
    assert together.equal(torch.cat([expected["age"], expected["gender"], expected["mood"]], dim=1))


def test_pictures_are_normalised_as_described() -> None:
    black, white = torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert prepared(black, META).flatten().tolist() == pytest.approx([-2.5, -2.0, -1.2])
    assert prepared(white, META).flatten().tolist() == pytest.approx([2.5, 3.0, 2.8])


# --- what a server refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "encoding", "reason", "status"),
    [
        (Message(content=Content.FEATURES, tasks=1, tensor=torch.zeros(1, 2047)), Encoding.FLOAT32, Reason.SHAPE, 422),
        (Message(content=Content.FEATURES, tasks=1, tensor=torch.zeros(2048)), Encoding.FLOAT32, Reason.SHAPE, 422),
        (Message(content=Content.IMAGES, tasks=1, tensor=_pictures(1)[..., :32]), Encoding.UINT8, Reason.SHAPE, 422),
        (Message(content=Content.IMAGES, tasks=1, tensor=torch.ones(1, 3, 64, 64)), Encoding.INT8, Reason.ENCODING,
         415),
        (Message(content=Content.FEATURES, tasks=1, tensor=torch.zeros(1, 2048, dtype=torch.uint8)), Encoding.UINT8,
         Reason.ENCODING, 415),
        (Message(content=Content.LOGITS, tasks=1, tensor=torch.zeros(1, 2)), Encoding.FLOAT32, Reason.CONTENT, 422),
        (Message(content=Content.FEATURES, tasks=8, tensor=torch.zeros(1, 2048)), Encoding.FLOAT32, Reason.TASKS, 422),
        (Message(content=Content.FEATURES, tasks=1, tensor=torch.ones(25, 2048)), Encoding.INT8, Reason.OVERSIZED, 413),
    ],
)  # fmt: skip
def test_a_request_that_the_model_cannot_answer(
    message: Message, encoding: Encoding, reason: Reason, status: int
) -> None:
    limits = limits_for(META, 2048, max_batch=4)
    with pytest.raises(WireError) as refused:
        read_question(encode(message, encoding), META, 2048, limits, WireLink())
    assert refused.value.reason is reason
    assert status_of(reason) == status


def test_a_full_batch_of_incompressible_features_is_taken() -> None:
    noise = torch.randn(4, 2048, generator=torch.Generator().manual_seed(0))
    for encoding in (Encoding.FLOAT32, Encoding.ZLIB):
        body = encode(Message(content=Content.FEATURES, tasks=7, tensor=noise), encoding)
        limits = limits_for(META, 2048, max_batch=4)
        assert read_question(body, META, 2048, limits, WireLink()).tensor.equal(noise)


def test_a_reply_to_another_question_is_refused() -> None:
    logits = {"age": torch.zeros(1, 2)}
    reply = write_answer(logits, META, WireLink())
    assert list(read_answer(reply, META, ["age"], 1, WireLink())) == ["age"]
    for tasks, rows in ((["gender"], 1), (["age"], 2), (["age", "mood"], 1)):
        with pytest.raises(WireError):
            read_answer(reply, META, tasks, rows, WireLink())


# --- bytes -------------------------------------------------------------------------------------------------------


def test_every_byte_passes_the_link_and_is_counted_where_it_arrives(serving: Serving) -> None:
    seen: list[tuple[str, str, int]] = []

    class Tap:
        def arrived(self, source: str, destination: str, value: bytes, num_bytes: int) -> None:
            assert len(value) == num_bytes
            seen.append((source, destination, num_bytes))

    server, wire = InProcess(serving), WireLink(LinkRules(taps=(Tap(),)))
    server.wire = WireLink(LinkRules(taps=(Tap(),)))
    client = _client(serving, server, wire=wire, encoding=Encoding.FLOAT16)
    answers = [client.infer(_pictures(rows)) for rows in (1, 3)]
    (up,), (down,) = server.wire.traffic(), wire.traffic()
    assert (up.source, up.destination, up.num_messages) == ("edge", "server", 2)
    assert (down.source, down.destination, down.num_messages) == ("server", "edge", 2)
    assert up.num_bytes == sum(answer.up_bytes for answer in answers)
    assert down.num_bytes == sum(answer.down_bytes for answer in answers)
    assert sum(num_bytes for *_, num_bytes in seen) == up.num_bytes + down.num_bytes


def test_the_wire_format_has_encodings_of_its_own() -> None:
    with pytest.raises(ValueError, match="got one for smashed; give the edge client an encoding instead"):
        WireLink(LinkRules(codecs={"smashed": Float16()}))


# --- failures on the way -----------------------------------------------------------------------------------------


def test_a_failed_exchange_is_tried_again_after_growing_waits(serving: Serving) -> None:
    waits: list[float] = []
    failures = (ServerUnreachable("no route"), Reply(status=503, headers={}, body=b""), ServerUnreachable("reset"))
    server = InProcess(serving, failures)
    answer = _client(serving, server, sleep=waits.append).infer(_pictures(1))
    assert answer.answered_by == "server"
    assert len(set(server.bodies)) == 1
    assert len(server.bodies) == 4
    assert [0.025 * 2**k <= wait <= 0.05 * 2**k for k, wait in enumerate(waits)] == [True] * 3


def test_without_an_answer_the_client_says_so_or_answers_itself(serving: Serving) -> None:
    def down() -> InProcess:
        return InProcess(serving, (ServerUnreachable("no answer"),) * 9)

    rule = RetryRule(attempts=3)
    with pytest.raises(ServerUnreachable, match=r"no answer \(3 attempts\)"):
        _client(serving, down(), retries=rule).infer(_pictures(1))
    images = _pictures(2)
    answer = _client(serving, down(), retries=rule, local_heads=serving.model.heads).infer(images, ["gender"])
    with torch.inference_mode():
        expected = serving.model(prepared(images, serving.meta), ["gender"])
    assert answer.answered_by == "edge"
    assert answer.logits["gender"].equal(expected["gender"])
    assert (answer.up_bytes, answer.down_bytes) == (0, 0)


def test_a_refusal_is_not_tried_again(serving: Serving) -> None:
    told = json.dumps({"reason": "wrong-shape", "message": "too wide"}).encode()
    server = InProcess(serving, (Reply(status=422, headers={}, body=told),))
    with pytest.raises(RequestRefused, match=r"\(422, wrong-shape\): too wide") as refused:
        _client(serving, server).infer(_pictures(1))
    assert refused.value.reason == "wrong-shape"
    assert len(server.bodies) == 1
    page = InProcess(serving, (Reply(status=404, headers={}, body=b"<html>\xff"),))
    with pytest.raises(RequestRefused, match=r"404, unexpected"):
        _client(serving, page).infer(_pictures(1))


def test_both_sides_must_hold_the_same_export(serving: Serving) -> None:
    _client(serving, InProcess(serving)).check_server()
    other = serving.meta.model_copy(update={"weights_sha256": "0" * 64})
    foreign = InProcess(Serving(meta=other, model=serving.model))
    with pytest.raises(ValueError, match="use the same export at both ends"):
        _client(serving, foreign).check_server()


def test_numbers_that_are_none_are_no_answer_of_the_edge_either(serving: Serving) -> None:
    """``--fallback`` printed "nan%" where the server's answer was NaN; its own heads could have been damaged, too."""
    down = InProcess(serving, (ServerUnreachable("no answer"),) * 9)
    damaged = copy.deepcopy(serving.model)
    damaged.heads["age"][3].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the local heads give answers that are not finite"):
        _client(serving, down, local_heads=damaged.heads, retries=RetryRule(attempts=1)).infer(_pictures(1))
    next(damaged.backbone.parameters()).fill_(torch.inf)
    server = InProcess(serving)
    broken = EdgeClient(meta=serving.meta, backbone=damaged.backbone, transport=server, local_heads=serving.model.heads)
    with pytest.raises(ValueError, match="the backbone gives features that are not finite"):
        broken.infer(_pictures(1))
    assert not server.bodies


# --- latency -----------------------------------------------------------------------------------------------------


def test_latency_is_split_into_edge_link_and_server(serving: Serving) -> None:
    """A clock that only sleeping and looking move: each look takes 1 s, so edge = 1 + 1 and the exchange 1."""
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    link = EdgeLink(rate_bit_per_s=8_000.0, latency_s=0.5)  # 1,000 bytes/s
    answer = _client(serving, InProcess(serving, server_s=0.25), link=link, clock=clock, sleep=sleep).infer(
        _pictures(1)
    )
    emulated = (44 + 8192) / 1000 + 0.5 + (44 + 28) / 1000 + 0.5
    assert answer.latency.edge_s == pytest.approx(2.0)
    assert answer.latency.server_s == 0.25
    assert answer.latency.link_s == pytest.approx(1.0 + emulated - 0.25)
    assert answer.latency.total_s == pytest.approx(3.0 + emulated)


def test_percentiles() -> None:
    latencies = [Latency(edge_s=k, link_s=2 * k, server_s=0.0) for k in range(101)]
    summary = latency_percentiles(latencies)
    assert summary["edge_s"] == {"p50": 50.0, "p99": 99.0}
    assert summary["total_s"] == {"p50": 150.0, "p99": 297.0}
    with pytest.raises(ValueError, match="at least one latency"):
        latency_percentiles([])


# --- one real connection -----------------------------------------------------------------------------------------


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clients: list[int] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.clients.append(self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = body == b"last"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    _Echo.clients.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/base/"
        server.shutdown()
        thread.join()


def test_the_connection_stays_open_and_is_opened_anew_when_the_server_closes_it(echo: str) -> None:
    transport = HttpTransport(echo)
    reply = transport.exchange("POST", "/infer", b"body", 5)
    assert (reply.status, reply.body, reply.headers["x-path"]) == (200, b"body", "/base/infer")
    transport.exchange("POST", "/infer", b"last", 5)
    rule, jitter = RetryRule(first_wait_s=0.0), np.random.default_rng(0)
    again = exchange_with_retries(
        transport, "POST", "/infer", b"again", 5, rule=rule, jitter=jitter, sleep=lambda seconds: None
    )
    assert again.body == b"again"
    transport.close()
    first, second, *_, last = _Echo.clients
    assert first == second != last


def test_a_server_that_says_nothing_is_given_up_after_the_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with pytest.raises(ServerUnreachable, match=f"no answer from http://127.0.0.1:{port}: .*timed out"):
            HttpTransport(f"http://127.0.0.1:{port}", timeout_s=0.05).exchange("POST", "/infer", b"x", 5)


def test_no_server_is_a_named_failure() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Echo) as closed:
        port = closed.server_address[1]
    with pytest.raises(ServerUnreachable, match=f"no answer from http://127.0.0.1:{port}"):
        HttpTransport(f"http://127.0.0.1:{port}").exchange("POST", "/infer", b"x", 5)
    for wrong in ("localhost:8000", "http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"):
        with pytest.raises(ValueError, match=f"'{wrong}' is not a server address"):
            HttpTransport(wrong)
    with pytest.raises(ValueError, match=r"at '127\.0\.0\.1' must have no user") as refused:
        HttpTransport("http://me:secret@127.0.0.1:8000")
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="above 0 s and finite, got inf"):
        HttpTransport("http://127.0.0.1:8000", timeout_s=float("inf"))


# --- exported folders --------------------------------------------------------------------------------------------


def test_an_export_gives_back_the_model_and_its_parts(folder: Path, serving: Serving) -> None:
    assert load_meta(folder).weights_sha256 == serving.meta.weights_sha256
    assert len(serving.meta.weights_sha256) == 64
    assert not serving.model.training
    z = torch.rand(2, 2048, generator=torch.Generator().manual_seed(0))
    assert load_head(folder, "mood")(z).equal(serving.model.heads["mood"](z))
    x = prepared(_pictures(1), serving.meta)
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
    Image.fromarray(_pictures(1)[0].permute(1, 2, 0).numpy()).save(tmp_path / "face.png")
    with http.server.HTTPServer(("127.0.0.1", 0), _Echo) as closed:
        server = f"http://127.0.0.1:{closed.server_address[1]}"
    arguments = [str(folder), str(tmp_path / "face.png"), "--server", server, "--attempts", "1"]
    code, _, err = shell(capsys, "edge", *arguments)
    assert code == 1
    assert f"no answer from {server}" in err
    result = CliRunner().invoke(edge, [*arguments, "--fallback", "--json"], catch_exceptions=False)
    row = json.loads(result.stdout)["answers"][0]
    with torch.inference_mode():
        expected = serving.model(prepared(_pictures(1), serving.meta))
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
    assert "give its --rate as well" in shell(capsys, "edge", *alone)[2]


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
