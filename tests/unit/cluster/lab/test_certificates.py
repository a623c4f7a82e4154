"""The certificates of a lab let its machines talk to each other, and nobody else."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raysplit.cluster.lab.certificates import DRIVER, make_certificates, variables
from raysplit.cluster.ray_start import NotRay, failure_to_join, probe

_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the frame with which gRPC answers


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two labs with authorities of their own."""
    folder = tmp_path_factory.mktemp("labs")
    for name in ("ours", "theirs"):
        make_certificates(folder / name, ["head", "pi-1"])
    return {name: folder / name for name in ("ours", "theirs")}


@pytest.fixture
def head(labs: dict[str, Path]) -> Iterator[str]:
    """The address of a head of our lab, which asks for certificates as Ray's gRPC does."""
    own = variables(labs["ours"], "head")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own["RAY_TLS_CA_CERT"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(own["RAY_TLS_SERVER_CERT"], own["RAY_TLS_SERVER_KEY"])
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        peer, _ = listening.accept()
        with suppress(OSError), peer, context.wrap_socket(peer, server_side=True) as tls:
            tls.recv(100)
            tls.sendall(_SETTINGS)

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    thread.join(10)
    listening.close()


def use(monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    for name, value in found.items():
        monkeypatch.setenv(name, value)


def test_a_driver_of_the_lab_is_let_in(labs: dict[str, Path], head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, variables(labs["ours"], DRIVER))
    probe(head, 5)


def test_another_authority_is_refused(labs: dict[str, Path], head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, variables(labs["theirs"], DRIVER))
    with pytest.raises(ssl.SSLError, match="certificate verify failed") as refused:
        probe(head, 5)
    assert "of the authority that signed the cluster's certificates" in failure_to_join(head, refused.value, "none")


def test_a_certificate_of_another_authority_is_refused(
    labs: dict[str, Path], head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, variables(labs["theirs"], DRIVER) | {"RAY_TLS_CA_CERT": str(labs["ours"] / "ca.crt")})
    with pytest.raises(OSError, match=r"closed after this machine's certificate was shown|alert|EOF occurred"):
        probe(head, 5)


def test_without_tls_nothing_is_said_by_either(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with pytest.raises((NotRay, ssl.SSLError)) as refused:
        probe(head, 5)
    assert "RAY_USE_TLS" in failure_to_join(head, refused.value, "none")


def test_half_of_the_variables_are_named(labs: dict[str, Path], head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, variables(labs["ours"], DRIVER))
    monkeypatch.delenv("RAY_TLS_SERVER_CERT")
    with pytest.raises(ssl.SSLError, match="RAY_USE_TLS is set and RAY_TLS_SERVER_CERT is not"):
        probe(head, 5)
    with suppress(OSError):  # so that the head ends
        socket.create_connection(("127.0.0.1", int(head.rpartition(":")[2])), 5).close()


def test_keys_are_the_users_alone_and_that_of_the_authority_is_not_kept(labs: dict[str, Path]) -> None:
    files = list(labs["ours"].iterdir())
    assert {path.stem for path in files if path.suffix == ".key"} == {"head", "pi-1", DRIVER}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(labs["ours"].stat().st_mode) == 0o700


def test_a_shell_takes_the_variables_of_a_driver(tmp_path: Path) -> None:
    commands = make_certificates(tmp_path / "a b'c", [])
    script = f'. "{commands}"; printf %s "$RAY_TLS_SERVER_KEY"'
    told = subprocess.run(["sh", "-c", script], env={"PATH": os.defpath}, capture_output=True, text=True, check=True)
    assert told.stdout == str(commands.parent / f"{DRIVER}.key")
