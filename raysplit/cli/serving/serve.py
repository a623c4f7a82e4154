"""`raysplit serve`: serve the heads of a multi-task model over HTTP.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysplit.cli.options import FilePath, NamedRun, whole_run
from raysplit.cli.streams import echo

if TYPE_CHECKING:
    from raysplit.serving.front.access import Access

FILE = FilePath(exists=True)
COUNT = click.IntRange(min=1)


@click.command(name="serve")
@click.argument("run", callback=whole_run)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all networks.")
@click.option("--port", default=8000, metavar="PORT", show_default=True, help="Port to listen on.")
@click.option("--token-file", type=FILE, help="File with a token; requests without it are refused.")
@click.option("--certificate", type=FILE, help="PEM file of the certificate chain, for https.")
@click.option("--key", type=FILE, help="PEM file of the certificate's key, without a password.")
@click.option("--replicas", default=1, type=COUNT, metavar="N", show_default=True, help="Replicas of each head.")
@click.option(
    "--unsplit-replicas",
    default=0,
    type=click.IntRange(min=0),
    show_default=True,
    metavar="N",
    help="Replicas of the whole model.",
)
@click.option(
    "--max-batch", default=64, type=COUNT, show_default=True, metavar="N", help="Largest number of images in a request."
)
@click.option(
    "--cpus",
    default=0.0,
    type=click.FloatRange(min=0),
    show_default=True,
    metavar="N",
    help="CPUs that each replica reserves.",
)
@click.option(
    "--header-time",
    "header_s",
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time of TLS, and of a request's header.",
)
@click.option(
    "--body-time",
    "body_s",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time of a request's body.",
)
@click.option(
    "--max-connections", default=500, show_default=True, metavar="N", help="Largest number of open connections."
)
@click.option(
    "--peer-connections",
    default=100,
    show_default=True,
    metavar="N",
    help="Largest number of them from one address, such as a proxy's.",
)
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to use (or auto); by default a local one is started.")
def serve(
    run: NamedRun,
    host: str,
    port: int,
    token_file: Path | None,
    certificate: Path | None,
    key: Path | None,
    replicas: int,
    unsplit_replicas: int,
    max_batch: int,
    cpus: float,
    header_s: float,
    body_s: float,
    max_connections: int,
    peer_connections: int,
    address: str | None,
) -> None:
    """Serve the heads of a multi-task model over HTTP until interrupted.

    RUN is a folder, a name below runs/, or a URI; it needs an exported model: model.pt and serving.json.

    \b
    Examples:
      raysplit serve runs/mtl_split --port 8000
      raysplit serve runs/mtl_split --host 0.0.0.0 --token-file token \\
        --certificate c.pem --key k.pem
    """
    from raysplit.cluster.on_ray.connect import RayOptions, connect, ray_left_as_found
    from raysplit.models.classifier.export import load_serving
    from raysplit.serving.front.access import Access, is_loopback, read_token, server_tls
    from raysplit.serving.front.limits import FrontLimits
    from raysplit.serving.front.listener import listen

    with ray_left_as_found():
        meta = load_serving(run.folder).meta
        access = Access(token=None if token_file is None else read_token(token_file), tls=server_tls(certificate, key))
        limits = FrontLimits(
            header_s=header_s,
            body_s=body_s,
            max_connections=max_connections,
            connections_per_peer=peer_connections,
        )
        listen(host, port).close()  # fail before Ray starts, not after
        connect(RayOptions(address=address))
        from raysplit.serving import server  # imports Ray, which `connect` must configure first

        options = server.ServerOptions(
            host=host,
            port=port,
            replicas_per_head=replicas,
            num_unsplit_replicas=unsplit_replicas,
            max_batch=max_batch,
            cpus_per_replica=cpus,
            limits=limits,
            access=access,
        )
        server.start(run.folder, options)
        scheme = "http" if access.tls is None else "https"
        echo(f"serving {', '.join(meta.tasks)} at {scheme}://{host}:{port}; stop with Ctrl-C")
        if not is_loopback(host):
            for warning in openness(access):
                echo(f"note: {warning}", err=True)
        done = threading.Event()
        for stop_signal in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop_signal, lambda *_: done.set())
        done.wait()
        server.stop()


def openness(access: Access) -> list[str]:
    """Return what everybody on the network can do with a server that does not listen on this machine alone."""
    found = []
    if access.token is None:
        found.append("whoever reaches this address is answered; --token-file asks for a token")
    if access.tls is None:
        found.append(
            "nothing is encrypted, the token included; give --certificate and --key, or put a proxy with TLS in front"
        )
    return found
