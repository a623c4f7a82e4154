"""Token and TLS, from the files to the command that asks."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from slow_clients import META, Client, HeadsHere, front, message, request

from raysplit.cli.serving.edge import edge
from raysplit.cli.serving.serve import openness, serve
from raysplit.models.classifier.export import load_meta, save_serving
from raysplit.serving.front.access import Access, client_tls, is_loopback, read_token, server_tls

TOKEN = "0123456789abcdef-a-token"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `token`, `c.pem` and `k.pem` for 127.0.0.1, and `other.pem` of somebody else."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "token").write_text(f"{TOKEN}\n")
    for certificate, key in [("c.pem", "k.pem"), ("other.pem", "other-key.pem")]:
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "heads")])
        now = datetime.datetime.now(datetime.UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(private, hashes.SHA256())
        )
        (folder / certificate).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        (folder / key).write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of `HeadsHere`, and a picture."""
    folder = tmp_path_factory.mktemp("export")
    save_serving(folder, HeadsHere().model, META)
    Image.new("RGB", (64, 64), "teal").save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def closed_door(files: Path, export: Path) -> Iterator[int]:
    """A server with token and TLS."""
    access = Access(token=read_token(files / "token"), tls=server_tls(files / "c.pem", files / "k.pem"))
    with front(HeadsHere(), access, meta=load_meta(export)) as opened:
        yield opened.port


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "\xff"]
)
def test_without_the_token_there_is_nothing(files: Path, sent: str | None) -> None:
    headers = () if sent is None else (f"Authorization: {sent}",)
    with front(HeadsHere(), Access(token=read_token(files / "token"))) as opened:
        for line in ("GET /meta", "GET /health", "GET /elsewhere", "POST /infer"):
            whole = request(message(), *headers, line=line)
            client = Client(opened.port).send(whole.replace("\xff".encode(), b"\xff"))
            assert client.refusal() == (401, "no-token")
            client.close()
        good = Client(opened.port).send(request(message(), f"Authorization: Bearer {TOKEN}"))
        assert good.answer()[0] == 200


def test_the_command_asks_with_token_and_tls(files: Path, export: Path, closed_door: int) -> None:
    asked = [
        str(export),
        str(export / "picture.png"),
        "--server",
        f"https://127.0.0.1:{closed_door}",
        "--attempts",
        "1",
    ]
    token, ca = ["--token-file", str(files / "token")], ["--ca", str(files / "c.pem")]
    (row,) = json.loads(CliRunner().invoke(edge, [*asked, *token, *ca, "--json"]).stdout)["answers"]
    assert (row["answered_by"], row["fallback_reason"]) == ("server", None)
    for arguments, reason in [
        ([*asked, *ca], "(401, no-token): this server needs a token; give the edge its --token-file"),
        ([*asked, *token], "CERTIFICATE_VERIFY_FAILED"),
        ([*asked, *token, "--ca", str(files / "other.pem")], "CERTIFICATE_VERIFY_FAILED"),
        ([*asked[:3], f"http://127.0.0.1:{closed_door}", "--attempts", "1", *token], "no answer from http://"),
    ]:
        refused = CliRunner().invoke(edge, arguments)
        assert refused.exit_code == 1
        assert reason in str(refused.exception)
        fell_back = CliRunner().invoke(edge, [*arguments, "--fallback", "--json"])
        assert json.loads(fell_back.stdout)["answers"][0]["answered_by"] == "edge"


def test_half_a_tls_handshake_is_closed(files: Path) -> None:
    """It happens before there is a request."""
    access = Access(tls=server_tls(files / "c.pem", files / "k.pem"))
    with front(HeadsHere(), access, header_s=0.3) as opened:
        assert Client(opened.port).until_closed() == b""
        assert Client(opened.port).send(bytes.fromhex("16030100c8010000c40303")).until_closed() == b""
        assert b"HTTP" not in Client(opened.port).send(request(message())).until_closed()


def test_half_handshakes_make_room(files: Path) -> None:
    """They are connections of their peer before there is anything that uvicorn could count."""
    access = Access(tls=server_tls(files / "c.pem", files / "k.pem"))
    with front(HeadsHere(), access, connections_per_peer=5) as opened:
        slow = [Client(opened.port) for _ in range(10)]
        assert [client.until_closed() for client in slow[:5]] == [b""] * 5
        tls = client_tls(files / "c.pem")
        with tls.wrap_socket(Client(opened.port).sock, server_hostname="127.0.0.1") as sock:
            sock.sendall(request(message()))
            assert sock.recv(2**16).startswith(b"HTTP/1.1 200 OK")


def test_wrong_files_are_named(files: Path, export: Path, tmp_path: Path) -> None:
    for content, match in [
        (b"short\n", "16 to 1024 printable"),
        (b"two words of a token", "one word"),
        (b"\xff" * 20, "cannot be read"),
    ]:
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(ValueError, match=match):
            read_token(tmp_path / "token")
    with pytest.raises(ValueError, match="give --certificate and --key"):
        server_tls(files / "c.pem", None)
    with pytest.raises(ValueError, match=r"the certificate .*c\.pem with the key .*other-key\.pem cannot be used"):
        server_tls(files / "c.pem", files / "other-key.pem")
    with pytest.raises(ValueError, match=r"cannot be used: .*; give a PEM file"):
        client_tls(files / "token")
    encrypted = serialization.load_pem_private_key((files / "k.pem").read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(encrypted)
    with pytest.raises(ValueError, match="give one without a password"):
        server_tls(files / "c.pem", tmp_path / "locked.pem")
    result = CliRunner().invoke(serve, [str(export), "--key", str(files / "k.pem")])
    assert "give --certificate and --key" in str(result.exception)
    asked = [str(export), str(export / "picture.png"), "--server", "http://127.0.0.1:1", "--ca", str(files / "c.pem")]
    result = CliRunner().invoke(edge, asked)
    assert "--ca is for https" in str(result.exception)


def test_a_server_for_all_says_who_can_ask(files: Path) -> None:
    assert [is_loopback(host) for host in ("127.0.0.9", "::1", "localhost", "0.0.0.0", "::", "heads.lan")] == [
        True
    ] * 3 + [False] * 3
    assert len(openness(Access())) == 2
    assert openness(Access(token=TOKEN))[0].startswith("nothing is encrypted, the token included")
    assert openness(Access(token=TOKEN, tls=server_tls(files / "c.pem", files / "k.pem"))) == []
