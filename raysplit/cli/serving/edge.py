"""`raysplit edge`: run the backbone here and get the answers of all tasks.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.table import Table

from raysplit.cli.link import LinkOptions, link_options
from raysplit.cli.options import FilePath, NamedRun, whole_run
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from torch import Tensor

    from raysplit.models.classifier.export import ServingMeta
    from raysplit.serving.edge import Answer, EdgeClient, Latency
    from raysplit.serving.links import EdgeLink

logger = logging.getLogger(__name__)

FILE = FilePath(exists=True)
_ENCODINGS = ("float32", "float16", "int8", "zlib", "trained")


@click.command(name="edge")
@click.argument("run", callback=whole_run)
@click.argument("images", nargs=-1, required=True, type=FilePath())
@click.option("--server", required=True, metavar="URL", help="Server of the heads, such as http://127.0.0.1:8000.")
@click.option("--tasks", metavar="A,B,C", help="Tasks to ask for; by default all.")
@click.option(
    "--encoding",
    type=click.Choice(_ENCODINGS),
    default="float32",
    show_default=True,
    help="Encoding of the features that are sent, or that of the training.",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time of a whole attempt.",
)
@click.option(
    "--attempts",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of attempts per request.",
)
@click.option("--fallback", is_flag=True, help="Run the heads here when the server gives no answer.")
@click.option("--token-file", type=FILE, help="File with the token that the server asks for.")
@click.option("--ca", type=FILE, help="PEM file of the only certificates to trust for https.")
@click.option("--rate", "rate_bit_per_s", type=float, metavar="BIT/S", help="Emulate a link of this rate.")
@link_options
@click.option("--seed", type=int, metavar="N", help="Seed of losses and jitter; by default each edge has its own.")
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(min=1), metavar="N", help="Passes over the images."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def edge(
    run: NamedRun,
    images: tuple[Path, ...],
    server: str,
    tasks: str | None,
    encoding: str,
    timeout_s: float,
    attempts: int,
    fallback: bool,
    token_file: Path | None,
    ca: Path | None,
    rate_bit_per_s: float | None,
    link: LinkOptions,
    seed: int | None,
    repeat: int,
    as_json: bool,
) -> None:
    """Run the backbone here and get the answers of all tasks.

    RUN is a folder, a name below runs/, or a URI; it needs an exported model. The features of each of IMAGES are sent
    to the server once, and the server answers for all tasks.

    \b
    Examples:
      raysplit edge runs/mtl_split a.jpg b.jpg --server http://127.0.0.1:8000
      raysplit edge runs/mtl_split a.jpg --server https://heads.lan:8000 \\
        --token-file token --ca c.pem
    """
    import torch

    from raysplit.models.classifier.export import load_meta, load_serving, load_trunk
    from raysplit.serving.compression import Encoding
    from raysplit.serving.edge import EdgeClient, latency_percentiles
    from raysplit.serving.http_transport import HttpTransport
    from raysplit.serving.trained import trained_encoding
    from raysplit.serving.transport import RetryRule

    torch.set_num_threads(1)
    emulated = _emulated(link, rate_bit_per_s)
    meta = load_meta(run.folder)
    pictures = {path: read_picture(path, meta.image_size) for path in images}
    model = load_serving(run.folder).model if fallback else None
    client = EdgeClient(
        meta=meta,
        backbone=load_trunk(run.folder) if model is None else model.trunk(),
        transport=HttpTransport(server, timeout_s, **_access(server, token_file, ca)),
        encoding=trained_encoding(run.folder) if encoding == "trained" else Encoding[encoding.upper()],
        retries=RetryRule(attempts=attempts),
        link=emulated,
        local_heads=None if model is None else model.heads,
        seed=os.getpid() if seed is None else seed,
    )
    with client:
        rows, latencies = _ask(client, pictures, tasks.split(",") if tasks else None, repeat)
    summary = latency_percentiles(latencies)
    if as_json:
        echo(json.dumps({"answers": rows, "latency": summary}, indent=2))
    else:
        _print(rows, summary)


def read_picture(path: Path, size: int) -> Tensor:
    """Read an image file, of 8 or 16 bits, as uint8 [1, 3, size, size]. Raises ``ValueError`` if it cannot be read."""
    import torch
    from PIL import Image

    from raysplit.data.sources import pictures

    pixels = pictures.eight_bits(pictures.read_picture(path, size, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())


def _ask(
    client: EdgeClient, pictures: dict[Path, Tensor], tasks: list[str] | None, repeat: int
) -> tuple[list[dict[str, Any]], list[Latency]]:
    """Return the answers of the last pass, one row per image, and the latencies of all passes.

    A server is asked once it has said that it serves the model of this backbone, and not before.
    """
    from raysplit.serving.transport import ServerFailed

    answers, agreed = [], False
    for path, picture in [*pictures.items()] * repeat:
        try:
            if not agreed:
                client.check_server()
                agreed = True
            answer = client.infer(picture, tasks)
        except ServerFailed as failure:
            if client.local_heads is None:
                raise
            answer = client.infer_here(picture, tasks, failure)
        answers.append((path, answer))
    rows = [_row(path, answer, client.meta) for path, answer in answers[-len(pictures) :]]
    return rows, [answer.latency for _, answer in answers]


def _emulated(options: LinkOptions, rate_bit_per_s: float | None) -> EdgeLink | None:
    if rate_bit_per_s is not None:
        return options.link(rate_bit_per_s)
    if options.trace is None and options.given:
        raise ValueError("--latency, --jitter and --loss are of an emulated link; give its --rate or --trace as well")
    return None if options.trace is None else options.link()


def _access(server: str, token_file: Path | None, ca: Path | None) -> dict[str, Any]:
    """Return token and TLS for a server; refuse certificates for http, and warn of a token that others can read."""
    from raysplit.serving.front.access import client_tls, is_loopback, read_token

    url = urlsplit(server)
    if ca is not None and url.scheme != "https":
        raise ValueError(f"--ca is for https, got {server!r}; give the server as https://host:port")
    token = None if token_file is None else read_token(token_file)
    if token is not None and url.scheme != "https" and not is_loopback(url.hostname or ""):
        logger.warning("%s is not encrypted: whoever sees the traffic sees the token and the features", server)
    return {"token": token, "tls": None if ca is None else client_tls(ca)}


def _row(path: Path, answer: Answer, meta: ServingMeta) -> dict[str, Any]:
    from raysplit.serving.answers import answer_of

    return {
        "image": str(path),
        "answers": {task: answer_of(task, outputs[0], meta) for task, outputs in answer.logits.items()},
        "answered_by": answer.answered_by,
        "fallback_reason": answer.fallback_reason,
        "up_bytes": answer.up_bytes,
        "down_bytes": answer.down_bytes,
        "edge_s": answer.latency.edge_s,
        "link_s": answer.latency.link_s,
        "server_s": answer.latency.server_s,
    }


def _print(rows: list[dict[str, Any]], summary: dict[str, dict[str, float]]) -> None:
    from raysplit.serving.answers import in_words

    console = Console()
    table = Table("image", *rows[0]["answers"], "by", "up", "down", "ms")
    for row in rows:
        said = [in_words(answer) for answer in row["answers"].values()]
        total_ms = 1e3 * (row["edge_s"] + row["link_s"] + row["server_s"])
        sent = [f"{row['up_bytes']:,}", f"{row['down_bytes']:,}"]
        table.add_row(Path(row["image"]).name, *said, row["answered_by"], *sent, f"{total_ms:.1f}")
    print_table(console, table)
    for part, percentiles in summary.items():
        values = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in percentiles.items())
        console.print(f"{part.removesuffix('_s')}: {values}")
