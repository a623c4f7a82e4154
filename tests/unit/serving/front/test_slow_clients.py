"""Clients that begin and do not go on: each loses its own connection, and nobody else waits."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import suppress

import pytest
from slow_clients import FEATURES, META, Client, HeadsHere, front, message, request

from raysplit.serving.front.limits import FrontLimits
from raysplit.serving.service import limits_for

HALF_BODY = request(message())[:-100]
HALF_HEADER = b"POST /infer HTTP/1.1\r\nHost: heads\r\nX-Slow: "
SHORT = {"header_s": 0.3, "body_s": 0.3, "idle_s": 0.3}


@pytest.fixture(scope="module")
def heads() -> HeadsHere:
    return HeadsHere()


@pytest.fixture(scope="module")
def port(heads: HeadsHere) -> Iterator[int]:
    with front(heads, **SHORT) as opened:
        yield opened.port


def dripped(client: Client, drop: bytes) -> None:
    """Send a drop every time the server has said nothing for a hundredth of a second, until it closes."""
    client.sock.settimeout(0.01)
    with suppress(ConnectionError):
        for _ in range(3000):
            try:
                if not client.sock.recv(2**16):
                    return
            except TimeoutError:
                client.send(drop)
        raise AssertionError("the server let itself be fed drop by drop")


def dripped_unread(client: Client, drop: bytes) -> None:
    """Send drops without reading anything, until the connection is lost."""
    for _ in range(3000):
        select.select([], [], [], 0.01)
        client.send(drop)


def test_half_a_header_is_closed(port: int) -> None:
    """After 33 s not one of 300 half headers had been closed."""
    assert Client(port).send(HALF_HEADER).until_closed() == b""
    assert Client(port).until_closed() == b""
    dripped(Client(port).send(HALF_HEADER), b"x")


def test_half_a_body_is_told_that_it_is_slow(port: int) -> None:
    """After 33 s not one of 150 half bodies had been closed."""
    client = Client(port).send(HALF_BODY)
    assert client.refusal() == (408, "too-slow")
    assert client.until_closed() == b""
    dripped(Client(port).send(HALF_BODY[:-5000]), b"x")
    dripped(Client(port).send(b"POST /infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), b"1\r\nx\r\n")


@pytest.mark.parametrize(("line", "status"), [("POST /elsewhere", 404), ("GET /meta", 200)])
def test_a_body_that_nobody_reads_is_closed_too(port: int, line: str, status: int) -> None:
    """The answer is out before the body, and a byte now and then would renew uvicorn's own time limit for ever."""
    client = Client(port).send(request(bytes(100_000), line=line)[:-90_000])
    assert client.answer()[0] == status
    dripped(client, b"x")


def test_an_idle_connection_is_closed(heads: HeadsHere) -> None:
    with front(heads, idle_s=0.2) as opened:
        client = Client(opened.port).send(request(message()) * 3)
        assert [client.answer()[0] for _ in range(3)] == [200] * 3
        assert client.until_closed() == b""


def test_the_header_of_a_later_request_has_its_time(heads: HeadsHere) -> None:
    with front(heads, header_s=0.5) as opened:
        client = Client(opened.port).send(request(message()))
        assert client.answer()[0] == 200
        dripped(client.send(HALF_HEADER), b"x")


def test_whoever_does_not_fetch_answers_is_closed(heads: HeadsHere) -> None:
    """Answers that nobody reads fill the buffers of the system, and writing them would wait for ever."""
    large = META.model_copy(update={"classes": {"a0": tuple(map(str, range(100_000)))}})
    with front(heads, meta=large, answer_s=0.3, idle_s=0.3) as opened:
        client = Client(opened.port).send(request(b"", line="GET /meta") * 50)
        with pytest.raises(ConnectionError):
            dripped_unread(client, b"x")


@pytest.mark.parametrize("attack", [HALF_BODY, HALF_HEADER, b""], ids=["half-bodies", "half-headers", "nothing"])
def test_good_requests_are_answered_beside_more_slow_ones_than_there_is_room_for(
    heads: HeadsHere, attack: bytes
) -> None:
    """110 half bodies, renewed, left 14 of 64 good requests of the same address answered in 75 s."""
    with front(heads, connections_per_peer=20) as opened:
        slow = [Client(opened.port).send(attack) for _ in range(20)]
        for _ in range(10):
            slow += [Client(opened.port).send(attack) for _ in range(5)]
            good = Client(opened.port).send(request(message()))
            assert good.answer()[0] == 200
        assert [client.until_closed() for client in slow[:40]] == [b""] * 40  # the oldest of them made room


def test_a_peer_has_no_more_than_its_connections_and_others_have_theirs(heads: HeadsHere) -> None:
    rest = b"x\r\nContent-Length: %d\r\n\r\n%b" % (len(message()), message())
    with front(heads, connections_per_peer=3, max_connections=6) as opened:
        try:
            other = Client(opened.port, source="127.0.0.2").send(HALF_HEADER)
        except OSError:
            pytest.skip("this system has one loopback address")
        slow = [Client(opened.port).send(HALF_HEADER) for _ in range(10)]
        assert [client.until_closed() for client in slow[:7]] == [b""] * 7
        crowd = [Client(opened.port, source=f"127.0.0.{k}").send(HALF_HEADER) for k in (3, 4, 5)]
        assert slow[7].until_closed() == b""  # the seventh connection in all closes one of the peer with the most
        assert [client.send(rest).answer()[0] for client in [other, *slow[8:], *crowd]] == [200] * 6


def test_the_memory_for_bodies_is_bounded(heads: HeadsHere) -> None:
    """Half bodies hold memory for as long as they are allowed to come: the oldest make room for new ones."""
    largest = request(bytes(limits_for(META, FEATURES, max_batch=8).max_body_bytes))
    with front(heads, held_bytes=1) as opened:  # room for one of the largest
        slow = []
        for _ in range(5):
            slow.append(Client(opened.port).send(largest[: len(largest) * 3 // 4]))
            if len(slow) > 1:
                assert slow[-2].refusal() == (408, "too-slow")
        assert Client(opened.port).send(largest).refusal() == (400, "wrong-magic")
        assert slow[-1].refusal() == (408, "too-slow")
        assert Client(opened.port).send(request(message())).answer()[0] == 200


def test_a_front_with_open_connections_stops(heads: HeadsHere) -> None:
    with front(heads) as opened:
        slow = [Client(opened.port).send(begun) for begun in (HALF_BODY, HALF_HEADER, b"", request(message()))]
        assert slow[3].answer()[0] == 200
    assert [client.until_closed() for client in slow] == [b""] * 4


def test_bounds_are_checked() -> None:
    for wrong, match in [
        ({"header_s": 0.0}, "header_s must be above 0 and finite, got 0"),
        ({"body_s": float("nan")}, "body_s must be above 0"),
        ({"max_connections": 10, "connections_per_peer": 11}, "lower the first or raise the second"),
    ]:
        with pytest.raises(ValueError, match=match):
            FrontLimits(**wrong)  # type: ignore[arg-type]
