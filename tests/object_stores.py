"""Object stores on this machine, each with a bucket: the URI of a folder in it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.request import Request, urlopen

import pytest
from pyarrow import fs


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()  # its stores outlive a server
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"endpoint_override={host}%3A{port}&scheme=http&region=us-east-1"
    fs.FileSystem.from_uri(f"s3://kept?{options}&allow_bucket_creation=true")[0].create_dir("kept")
    try:
        yield f"s3://kept/runs?{options}"
    finally:
        server.stop()


@contextmanager
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    create_server = pytest.importorskip("gcp_storage_emulator.server").create_server
    with socket.socket() as probe:  # the server cannot say which port it was given
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="kept")
    server.start()
    try:
        yield f"gs://anonymous@kept/runs?endpoint_override=127.0.0.1%3A{port}&scheme=http&retry_limit_seconds=20"
    finally:
        server.stop()


STORES: dict[str, Callable[[pytest.MonkeyPatch], AbstractContextManager[str]]] = {"s3": s3, "gs": gs}
