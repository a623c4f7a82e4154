"""Split against unsplit inference behind one server on this machine: throughput, latency, bytes, and slower links.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) report 87 % less latency than with everything remote. Here one
Ray Serve process group holds three heads and, beside them, the whole model; clients send features (of one, two or three
tasks) or whole pictures as bytes over loopback. Links are emulated by adding 8 * bytes / rate to the measured median;
pictures as float32, the paper's reference, cost what pictures as bytes cost and four times the transfer.

    python benchmarks/mtl_split/serving.py --output serving.json [--backbone mobilenet_v3_small] [--image 224]
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.models.classifier.export import Serving, ServingMeta, load_serving, save_serving
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.codec import Content, Message, encode, task_mask
from raysplit.serving.compression import Encoding
from raysplit.serving.cost.report import rate_text
from raysplit.serving.edge import EdgeClient
from raysplit.serving.http_transport import HttpTransport
from raysplit.serving.links import EdgeLink
from raysplit.serving.transport import SERVER_SECONDS

CLASSES = {"age": ("a", "b", "c"), "gender": ("a", "b"), "mood": ("a", "b", "c", "d", "e", "f")}
RATES_BIT_PER_S = (10e6, 100e6, 1e9)
MAX_ANSWER_BYTES = 2**16
FLOAT_PICTURES = "pictures float32"
Ask = Callable[[Tensor], "Timing"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One request."""

    total_s: float
    edge_s: float
    server_s: float
    up_bytes: int
    down_bytes: int


def ask_heads(client: EdgeClient, tasks: list[str], images: Tensor) -> Timing:
    answer = client.infer(images, tasks)
    latency = answer.latency
    return Timing(
        total_s=latency.total_s,
        edge_s=latency.edge_s,
        server_s=latency.server_s,
        up_bytes=answer.up_bytes,
        down_bytes=answer.down_bytes,
    )


def ask_whole(transport: HttpTransport, meta: ServingMeta, images: Tensor) -> Timing:
    started = time.perf_counter()
    message = Message(content=Content.IMAGES, tasks=task_mask(meta.tasks, meta.tasks), tensor=images)
    body = encode(message, Encoding.UINT8)
    sent = time.perf_counter()
    reply = transport.exchange("POST", "/infer", body, MAX_ANSWER_BYTES)
    assert reply.status == 200, reply.body
    return Timing(
        total_s=time.perf_counter() - started,
        edge_s=sent - started,
        server_s=float(reply.headers[SERVER_SECONDS]),
        up_bytes=len(body),
        down_bytes=len(reply.body),
    )


def measured(ask: Ask, images: Tensor, requests: int, clients: int) -> dict[str, Any]:
    """Figures of so many requests, sent by so many clients at a time."""
    for _ in range(3):
        ask(images)
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        timings = list(pool.map(lambda _: ask(images), range(requests)))
    seconds = time.perf_counter() - started
    column = {name: np.array([getattr(t, name) for t in timings]) for name in ("total_s", "edge_s", "server_s")}
    return {
        "pictures": len(images),
        "clients": clients,
        "requests": requests,
        "requests_per_s": requests / seconds,
        "p50_s": float(np.percentile(column["total_s"], 50)),
        "p99_s": float(np.percentile(column["total_s"], 99)),
        "edge_p50_s": float(np.percentile(column["edge_s"], 50)),
        "server_p50_s": float(np.percentile(column["server_s"], 50)),
        "up_bytes": timings[0].up_bytes,
        "down_bytes": timings[0].down_bytes,
    }


@contextmanager
def served(folder: Path) -> Iterator[str]:
    connect(RayOptions(num_cpus=2, object_store_bytes=200 * 2**20))
    from raysplit.serving import server  # imports Ray, which `connect` must find fresh

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        server.start(folder, server.ServerOptions(port=port, num_unsplit_replicas=1, max_batch=64))
        yield f"http://127.0.0.1:{port}"
        server.stop()
    finally:
        disconnect()


def ways(serving: Serving, address: str) -> list[tuple[dict[str, Any], Ask]]:
    """Everything that is compared, with what it is called."""
    transport, trunk = HttpTransport(address), serving.model.trunk().eval()
    tasks = list(serving.meta.tasks)
    found: list[tuple[dict[str, Any], Ask]] = []
    for encoding, heads in [(Encoding.FLOAT32, 1), (Encoding.FLOAT32, 2), (Encoding.FLOAT32, 3), (Encoding.INT8, 3)]:
        client = EdgeClient(meta=serving.meta, backbone=trunk, transport=transport, encoding=encoding)
        name = {"sent": f"features {encoding.name.lower()}", "heads": heads}
        found.append((name, partial(ask_heads, client, tasks[:heads])))
    return [*found, ({"sent": "pictures uint8", "heads": 3}, partial(ask_whole, transport, serving.meta))]


def on_links(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latency of one client asking all heads, with the time that its bytes take on each link."""
    found = []
    for pictures in sorted({row["pictures"] for row in rows}):
        alone = {r["sent"]: r for r in rows if r["pictures"] == pictures and r["clients"] == 1 and r["heads"] == 3}
        alone[FLOAT_PICTURES] = {**alone["pictures uint8"], "up_bytes": 4 * alone["pictures uint8"]["up_bytes"]}
        for rate in RATES_BIT_PER_S:
            link = EdgeLink(rate_bit_per_s=rate)
            total_s = {
                sent: row["p50_s"] + link.expected_s(row["up_bytes"]) + link.expected_s(row["down_bytes"])
                for sent, row in alone.items()
            }
            found.append({"pictures": pictures, "link": rate_text(rate), "total_s": total_s})
    return found


def emulated(serving: Serving, address: str, images: Tensor, requests: int) -> list[dict[str, Any]]:
    """One client asking all heads with float32 features, whose client waits for as long as each link would take."""
    trunk, tasks, found = serving.model.trunk().eval(), list(serving.meta.tasks), []
    for rate in RATES_BIT_PER_S:
        client = EdgeClient(
            meta=serving.meta, backbone=trunk, transport=HttpTransport(address), link=EdgeLink(rate_bit_per_s=rate)
        )
        row = measured(partial(ask_heads, client, tasks), images, requests, 1)
        found.append({"sent": f"features float32 over an emulated {rate_text(rate)}", "heads": len(tasks), **row})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet_v3_small")
    parser.add_argument("--image", type=int, default=224)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4, help="of the second series; the first has one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        counts = {task: len(names) for task, names in CLASSES.items()}
        model = build_classifier(options.backbone, counts, image_size=options.image, seed=0)
        save_serving(folder, model, ServingMeta(backbone=options.backbone, image_size=options.image, classes=CLASSES))
        stream = torch.Generator().manual_seed(0)
        rows = []
        with served(folder) as address:
            for name, ask in ways(load_serving(folder), address):
                for pictures in (1, 32):
                    shape = (pictures, 3, options.image, options.image)
                    images = torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)
                    requests = max(10, options.requests // pictures)
                    for clients in (1, options.clients):
                        rows.append({**name, **measured(ask, images, requests, clients)})
                        print(json.dumps(rows[-1]), flush=True)
            waited = []
            for pictures in (1, 32):
                images = torch.zeros(pictures, 3, options.image, options.image, dtype=torch.uint8)
                waited += emulated(load_serving(folder), address, images, max(5, options.requests // pictures))
    links = on_links(rows)
    result = {"backbone": options.backbone, "image": options.image, "rows": rows, "links": links, "emulated": waited}
    options.output.write_text(json.dumps({**result, "ways": list(links[0]["total_s"])}, indent=1) + "\n")


if __name__ == "__main__":
    main()
