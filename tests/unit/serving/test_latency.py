"""What a request from the edge waits for: edge, link and server, over links that change or lose messages."""

from __future__ import annotations

import pytest
from edge_support import InProcess, client_of, pictures

from raysplit.cluster.emulation.trace import LinkTrace
from raysplit.models.classifier.export import Serving
from raysplit.serving.edge import Latency, latency_percentiles
from raysplit.serving.links import EdgeLink


def test_latency_is_split_into_edge_link_and_server(serving: Serving) -> None:
    """A clock that only sleeping and looking move: a look takes 1 s, so edge = 1 + 1, the exchange 1, the link 1."""
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    link = EdgeLink(rate_bit_per_s=8_000.0, latency_s=0.5)  # 1,000 bytes/s
    answer = client_of(serving, InProcess(serving, server_s=0.25), link=link, clock=clock, sleep=sleep).infer(
        pictures(1)
    )
    emulated = (44 + 8192) / 1000 + 0.5 + (44 + 28) / 1000 + 0.5
    assert answer.latency.edge_s == pytest.approx(2.0)
    assert answer.latency.server_s == 0.25
    assert answer.latency.link_s == pytest.approx(2.0 + emulated - 0.25)
    assert answer.latency.total_s == pytest.approx(4.0 + emulated)


def test_the_trace_begins_with_the_first_request_and_goes_on_between_requests(serving: Serving) -> None:
    """A request has 8,236 bytes and a reply 72. Only sleeping moves the clock, which does not begin at 0.

    1. Up 4,118 bytes/s for 2 s, and down 72 bytes/s: 2 s + 1 s.
    2. At 3 s the link carries nothing until 4 s, then 8,236 bytes/s up and 36 bytes/s down: 1 s + 1 s + 2 s.
    3. At 7 s that holds for good: 1 s + 2 s.
    """
    now, slept = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    trace = LinkTrace(
        times_s=(0.0, 3.0, 4.0),
        up_bytes_per_s=(4118.0, 0.0, 8236.0),
        down_bytes_per_s=(72.0, 0.0, 36.0),
        latencies_s=(0.0, 0.0, 0.0),
    )
    client = client_of(serving, InProcess(serving), link=EdgeLink(trace=trace), clock=lambda: now[0], sleep=sleep)
    answers = [client.infer(pictures(1)) for _ in range(3)]
    assert slept == pytest.approx([3.0, 4.0, 3.0])
    assert [answer.latency.link_s for answer in answers] == pytest.approx(slept)


def test_losses_and_jitter_come_from_the_seed(serving: Serving) -> None:
    link = EdgeLink(rate_bit_per_s=1e6, loss_probability=0.3, jitter_s=0.1)

    def waits(seed: int) -> list[float]:
        slept: list[float] = []
        client = client_of(serving, InProcess(serving), link=link, seed=seed, sleep=slept.append)
        for _ in range(5):
            client.infer(pictures(1))
        return slept

    assert waits(3) == waits(3)
    assert len({*waits(3), *waits(4)}) == 10


def test_percentiles() -> None:
    latencies = [Latency(edge_s=k, link_s=2 * k, server_s=0.0) for k in range(101)]
    summary = latency_percentiles(latencies)
    assert summary["edge_s"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert summary["total_s"] == {"p50": 150.0, "p95": 285.0, "p99": 297.0}
    with pytest.raises(ValueError, match="at least one latency"):
        latency_percentiles([])
