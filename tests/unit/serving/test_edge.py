"""Edge and server without a cluster: checks, retries, fallback."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from edge_support import CLASSES, META, InProcess, client_of, pictures

from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.links.rules import LinkRules
from raysplit.models.classifier.export import (
    Serving,
    prepared,
)
from raysplit.serving.codec import Content, Message, Reason, WireError, encode
from raysplit.serving.compression import Encoding, pack, unpack
from raysplit.serving.edge import EdgeClient
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
)
from raysplit.serving.wire_link import WireLink

# --- split = unsplit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [Encoding.FLOAT32, Encoding.ZLIB])
@pytest.mark.parametrize("count", [1, 5, 32])
def test_split_inference_gives_the_very_bits_of_the_whole_model(
    serving: Serving, encoding: Encoding, count: int
) -> None:
    images = pictures(count)
    with torch.inference_mode():
        whole = serving.model(prepared(images, serving.meta))
    answer = client_of(serving, InProcess(serving), encoding=encoding).infer(images)
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
    images = pictures(64, seed=3)
    exact = client_of(serving, InProcess(serving)).infer(images).logits
    agreement = {}
    for encoding in (Encoding.FLOAT16, Encoding.INT8):
        coarse = client_of(serving, InProcess(serving), encoding=encoding).infer(images).logits
        same = torch.stack([exact[task].argmax(1) == coarse[task].argmax(1) for task in CLASSES])
        agreement[encoding] = same.double().mean().item()
    assert agreement[Encoding.FLOAT16] >= 0.995
    assert agreement[Encoding.INT8] >= 0.95


@pytest.mark.parametrize("encoding", [Encoding.FLOAT16, Encoding.INT8])
def test_no_logit_moves_further_than_the_weights_allow(serving: Serving, encoding: Encoding) -> None:
    """A ReLU does not widen a difference: |change of logit| <= |W2| |W1| |change of z|, taken absolutely."""
    z = serving.model.features(prepared(pictures(16, seed=5), serving.meta))
    arrived = torch.stack([unpack(pack(row, encoding), encoding, (2048,)) for row in z])
    assert not arrived.equal(z)
    for task, head in serving.model.heads.items():
        first, last = head[0].weight.double().abs(), head[3].weight.double().abs()
        bound = (arrived - z).double().abs() @ first.T @ last.T
        change = (head(arrived) - head(z)).double().abs()
        assert (change <= bound + 1e-6).all(), task


def test_only_the_asked_tasks_come_back_in_the_models_order(serving: Serving) -> None:
    server = InProcess(serving)
    answer = client_of(serving, server).infer(pictures(2), tasks=["mood", "age"])
    assert {task: tuple(v.shape) for task, v in answer.logits.items()} == {"age": (2, 2), "mood": (2, 3)}
    assert answer.up_bytes == len(server.bodies[0]) == 44 + 2 * 2048 * 4
    assert answer.down_bytes == 44 + 2 * 5 * 4
    with pytest.raises(WireError, match=r"unknown task 'hair' \(one of age, gender, mood\)"):
        client_of(serving, server).infer(pictures(1), tasks=["hair"])


def test_the_unsplit_model_takes_pictures_as_they_are(serving: Serving) -> None:
    images = pictures(3)
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
        (Message(content=Content.IMAGES, tasks=1, tensor=pictures(1)[..., :32]), Encoding.UINT8, Reason.SHAPE, 422),
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
    client = client_of(serving, server, wire=wire, encoding=Encoding.FLOAT16)
    answers = [client.infer(pictures(rows)) for rows in (1, 3)]
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
    answer = client_of(serving, server, sleep=waits.append).infer(pictures(1))
    assert answer.answered_by == "server"
    assert len(set(server.bodies)) == 1
    assert len(server.bodies) == 4
    assert [0.025 * 2**k <= wait <= 0.05 * 2**k for k, wait in enumerate(waits)] == [True] * 3


def test_without_an_answer_the_client_says_so_or_answers_itself(serving: Serving) -> None:
    def down() -> InProcess:
        return InProcess(serving, (ServerUnreachable("no answer"),) * 9)

    rule = RetryRule(attempts=3)
    with pytest.raises(ServerUnreachable, match=r"no answer \(3 attempts\)"):
        client_of(serving, down(), retries=rule).infer(pictures(1))
    images = pictures(2)
    answer = client_of(serving, down(), retries=rule, local_heads=serving.model.heads).infer(images, ["gender"])
    with torch.inference_mode():
        expected = serving.model(prepared(images, serving.meta), ["gender"])
    assert answer.answered_by == "edge"
    assert answer.logits["gender"].equal(expected["gender"])
    assert (answer.up_bytes, answer.down_bytes) == (0, 0)


def test_a_refusal_is_not_tried_again(serving: Serving) -> None:
    told = json.dumps({"reason": "wrong-shape", "message": "too wide"}).encode()
    server = InProcess(serving, (Reply(status=422, headers={}, body=told),))
    with pytest.raises(RequestRefused, match=r"\(422, wrong-shape\): too wide") as refused:
        client_of(serving, server).infer(pictures(1))
    assert refused.value.reason == "wrong-shape"
    assert len(server.bodies) == 1
    page = InProcess(serving, (Reply(status=404, headers={}, body=b"<html>\xff"),))
    with pytest.raises(RequestRefused, match=r"404, unexpected"):
        client_of(serving, page).infer(pictures(1))


def test_both_sides_must_hold_the_same_export(serving: Serving) -> None:
    client_of(serving, InProcess(serving)).check_server()
    other = serving.meta.model_copy(update={"weights_sha256": "0" * 64})
    foreign = InProcess(Serving(meta=other, model=serving.model))
    with pytest.raises(ValueError, match="use the same export at both ends"):
        client_of(serving, foreign).check_server()


def test_numbers_that_are_none_are_no_answer_of_the_edge_either(serving: Serving) -> None:
    """``--fallback`` printed "nan%" where the server's answer was NaN; its own heads could have been damaged, too."""
    down = InProcess(serving, (ServerUnreachable("no answer"),) * 9)
    damaged = copy.deepcopy(serving.model)
    damaged.heads["age"][3].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the local heads give answers that are not finite"):
        client_of(serving, down, local_heads=damaged.heads, retries=RetryRule(attempts=1)).infer(pictures(1))
    next(damaged.backbone.parameters()).fill_(torch.inf)
    server = InProcess(serving)
    broken = EdgeClient(meta=serving.meta, backbone=damaged.backbone, transport=server, local_heads=serving.model.heads)
    with pytest.raises(ValueError, match="the backbone gives features that are not finite"):
        broken.infer(pictures(1))
    assert not server.bodies
