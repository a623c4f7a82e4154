"""Good requests beside clients that send a part of a body and wait: the share that is answered, and how fast.

A server of `raysplit serve` is asked over new connections, at an even pace, first alone and then beside slow senders:
each opens a connection, sends three quarters of a request, and opens another one when the server closes it, or after
12 s, before it gives the first one up.
The slow senders have the address of the good clients (as behind one router) or another one of loopback.

    raysplit serve RUN --port 8000
    python benchmarks/trust/slow_senders.py RUN --server http://127.0.0.1:8000 --output slow_senders.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from raysplit.models.classifier.export import load_meta, served_features
from raysplit.serving.codec import Content, Message, encode, task_mask

RENEWED_S = 12.0
PAUSE_S = 0.1


class Senders:
    """Slow senders, from an address of loopback, until the block ends."""

    def __init__(self, host: str, port: int, part: bytes, source: str, count: int) -> None:
        self.host, self.port, self.part, self.source, self.count = host, port, part, source, count
        self.num_opened = 0

    async def __aenter__(self) -> Senders:
        self._tasks = [
            asyncio.create_task(self._send(first_s=RENEWED_S * (k + 1) / self.count)) for k in range(self.count)
        ]
        await asyncio.sleep(2.0 if self.count else 0.0)  # all of them are there before the first good request
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, first_s: float) -> None:
        """Hold one connection after the other; the next is open before one that the server keeps is given up."""
        left_s, last = first_s, None
        while True:
            writer = None
            with suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(self.source, 0))
                self.num_opened += 1
                writer.write(self.part)
                if last is not None:
                    last.transport.abort()
                async with asyncio.timeout(left_s):
                    while await reader.read(2**16):
                        pass
            left_s, last = RENEWED_S, writer
            await asyncio.sleep(PAUSE_S)


async def ask(host: str, port: int, request: bytes, limit_s: float) -> float | None:
    """Return the seconds until a whole answer of status 200, or None."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                answer = await reader.read()
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return None
    return time.perf_counter() - begun if answer.startswith(b"HTTP/1.1 200 ") else None


async def measured(options: argparse.Namespace, request: bytes, source: str, slow: int) -> dict[str, Any]:
    """Ask at an even pace beside slow senders."""
    address = urlsplit(options.server)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    part = request[: len(request) * 3 // 4]
    async with Senders(host, port, part, source, slow) as senders:
        asked = []
        for _ in range(options.requests):
            asked.append(asyncio.create_task(ask(host, port, request, options.limit)))
            await asyncio.sleep(options.every)
        took = [seconds for seconds in await asyncio.gather(*asked) if seconds is not None]
    p50_s, p99_s = np.percentile(took, (50, 99)) if took else (None, None)
    return {
        "slow": slow, "slow_from": source if slow else None, "opened": senders.num_opened,
        "requests": options.requests, "answered": len(took), "p50_s": p50_s, "p99_s": p99_s,
    }  # fmt: skip


def request_for(run: Path, address: str) -> bytes:
    """A request for all tasks of an export, for one picture."""
    meta = load_meta(run)
    features = torch.rand(1, served_features(meta), generator=torch.Generator().manual_seed(0))
    mask = task_mask(meta.tasks, meta.tasks)
    body = encode(Message(content=Content.FEATURES, tasks=mask, tensor=features))
    head = f"POST /infer HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that is served")
    parser.add_argument("--server", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, added to what is there")
    parser.add_argument("--name", default="", help="a word for the server, kept in every line")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two good requests")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for which a good client waits")
    parser.add_argument("--slow", type=int, default=110, help="slow senders")
    parser.add_argument("--other", default="127.0.0.2", help="another address of this machine")
    options = parser.parse_args()
    request = request_for(options.run, options.server)
    for source, slow in [("127.0.0.1", 0), ("127.0.0.1", options.slow), (options.other, options.slow)]:
        row = {"name": options.name} | asyncio.run(measured(options, request, source, slow))
        print(json.dumps(row), flush=True)
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
