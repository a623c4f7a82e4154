"""What keeps Ray from starting here or from being joined: each cause has its own message."""

from __future__ import annotations

import errno
import socket
import tempfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysplit.cluster import ray_start
from raysplit.cluster.ray_start import NotRay, failure_to_join, failure_to_start, obstacles, probe, temp_folder


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)


def test_the_folder_is_found_as_ray_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert temp_folder() == Path("/tmp/ray")
    monkeypatch.setenv("TMPDIR", "/scratch")
    monkeypatch.setenv("RAY_TMPDIR", "/short")
    assert temp_folder() == Path("/short/ray")
    assert temp_folder("/given") == Path("/given")


def test_nothing_is_in_the_way_here() -> None:
    assert obstacles() == []


def test_a_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's scheduler set a long TMPDIR; the advice was about addresses, and `raysplit doctor` found nothing."""
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 90)
    (found,) = obstacles()
    assert found.subject == "temporary folder"
    assert "bytes too long: the sockets below it" in str(found)
    assert "set RAY_TMPDIR to a short path" in str(found)


def test_a_file_in_the_place_of_the_folder() -> None:
    with tempfile.NamedTemporaryFile(prefix="rs", dir="/tmp") as file:  # a short path
        (found,) = obstacles(f"{file.name}/ray")
    assert found.subject == "temporary folder"
    assert f"{file.name} is a file" in found.what


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(ray_start.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 3 * 2**20))
    (found,) = obstacles()
    assert found.subject == "disk"
    assert "3 MiB left and Ray needs 100" in found.what


def test_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 40 files, Ray waited for half a minute and named a file that had not come."""
    monkeypatch.setattr(ray_start.resource, "getrlimit", lambda _: (40, 40))
    (found,) = obstacles()
    assert found.subject == "open files"
    assert "ulimit -n 8192" in found.way_out


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(64)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_something_else_than_ray_listens() -> None:
    """The port of the dashboard was given; Ray retried for a minute and a half."""
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address, pytest.raises(NotRay, match=r"answers b'HTTP/1.1 '"):
        probe(address, 5.0)
    with listener(b"") as address, pytest.raises(NotRay, match="does not answer"):
        probe(address, 5.0)


def test_a_grpc_server_is_taken_for_ray() -> None:
    with listener(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]) + bytes(6)) as address:
        probe(address, 5.0)


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        ("10.0.0.9:6379", ConnectionRefusedError("refused"), "Check the address"),
        ("10.0.0.9:8265", NotRay("what listens there answers b'HTTP'"), "8265 is the dashboard's"),
        ("nowhere", ValueError("'nowhere' does not have the form host:port"), "Write host:port"),
        ("auto", ConnectionError("Could not find any running Ray instance"), "Start one with `ray start --head`"),
        ("10.0.0.9:6379", RuntimeError("Unauthenticated: invalid token"), "does not accept this user's token"),
        ("10.0.0.9:6379", RuntimeError("Version mismatch: ..."), "Use the same versions of Ray and Python"),
    ],
)
def test_what_a_failure_to_join_means(address: str, error: Exception, says: str) -> None:
    text = failure_to_join(address, error, "from RAY_AUTH_TOKEN; no token was sent")
    assert text.startswith(f"Ray could not be reached at {address} (")
    assert says in text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ValueError("After taking into account object store and redis memory usage, ..."),
            "cluster.object_store_mib lower",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "A port is taken"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot use its temporary folder /tmp/ray"),
        (OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes"), "set RAY_TMPDIR"),
        (Exception("The current node timed out during startup."), "session_latest/logs have the reason"),
    ],
)
def test_what_a_failure_to_start_means(error: Exception, says: str) -> None:
    text = failure_to_start(error, object_store_bytes=2**29)
    assert text.startswith("Ray could not be started on this machine (")
    assert says in text
