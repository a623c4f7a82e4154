"""`raysplit serve`: serve the heads of a multi-task model over HTTP.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import signal
import socket
import threading

import click

from raysplit.cli.options import NamedRun, whole_run
from raysplit.cli.streams import echo


@click.command(name="serve")
@click.argument("run", callback=whole_run)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all networks.")
@click.option("--port", default=8000, metavar="PORT", show_default=True, help="Port to listen on.")
@click.option("--replicas", default=1, metavar="N", show_default=True, help="Replicas of each head.")
@click.option("--unsplit-replicas", default=0, show_default=True, metavar="N", help="Replicas of the whole model.")
@click.option("--max-batch", default=64, show_default=True, metavar="N", help="Largest number of images in a request.")
@click.option("--cpus", default=0.0, show_default=True, metavar="N", help="CPUs that each replica reserves.")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to use (or auto); by default a local one is started.")
def serve(
    run: NamedRun,
    host: str,
    port: int,
    replicas: int,
    unsplit_replicas: int,
    max_batch: int,
    cpus: float,
    address: str | None,
) -> None:
    """Serve the heads of a multi-task model over HTTP until interrupted.

    RUN is a folder, a name below runs/, or a URI; it needs an exported model: model.pt and serving.json.

    \b
    Example:
      raysplit serve runs/mtl_split --port 8000
    """
    from raysplit.cluster.on_ray.connect import RayOptions, connect, ray_left_as_found
    from raysplit.models.classifier.export import load_serving

    with ray_left_as_found():
        meta = load_serving(run.folder).meta
        if address is None:
            check_port_is_free(host, port)
        connect(RayOptions(address=address))
        from raysplit.serving import server  # imports Ray, which `connect` must configure first

        options = server.ServerOptions(
            host=host,
            port=port,
            replicas_per_head=replicas,
            num_unsplit_replicas=unsplit_replicas,
            max_batch=max_batch,
            cpus_per_replica=cpus,
        )
        server.start(run.folder, options)
        echo(f"serving {', '.join(meta.tasks)} at http://{host}:{port}; stop with Ctrl-C")
        done = threading.Event()
        for stop_signal in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop_signal, lambda *_: done.set())
        done.wait()
        server.stop()


def check_port_is_free(host: str, port: int) -> None:
    """Raise ``ValueError`` where this machine cannot listen at the address, before Ray Serve only logs it."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ValueError(f"cannot listen at {host}:{port}: {error}; choose another --host or --port") from error
