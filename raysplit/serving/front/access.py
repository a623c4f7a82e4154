"""Who may ask: a token that edges send with every request, and TLS.

The token is a line of text in a file, which only the users of the server and the edges should be able to read. It does
not encrypt anything: without TLS, whoever sees the traffic sees the token, the features and the answers.
"""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

MIN_TOKEN, MAX_TOKEN = 16, 1024


@dataclass(frozen=True, kw_only=True)
class Access:
    """The token that requests must carry, and the TLS of the connections; None asks for neither."""

    token: str | None = None
    tls: ssl.SSLContext | None = None

    def admits(self, authorization: str | None) -> bool:
        """Tell whether an ``Authorization`` header carries the token; the time it takes does not depend on it."""
        if self.token is None:
            return True
        return hmac.compare_digest((authorization or "").encode(), bearer(self.token).encode())


def bearer(token: str) -> str:
    """Return the ``Authorization`` header for a token."""
    return f"Bearer {token}"


def read_token(path: Path) -> str:
    """Read the token in a file; raise ``ValueError`` for one that cannot be sent or is easily guessed."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the token file {path} cannot be read: {error}") from error
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not token.isprintable() or " " in token:
        raise ValueError(
            f"the token in {path} must be one word of {MIN_TOKEN} to {MAX_TOKEN} printable ASCII characters, got "
            f"{len(token)}; make one with: openssl rand -hex 32 > {path}"
        )
    return token


def server_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the TLS of a server with a certificate chain and its key, as PEM files, or None without them.

    Raises:
        ValueError: for one without the other, or for files that do not belong together or cannot be read.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("TLS needs a certificate and its key, got only one of them; give --certificate and --key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"the certificate {certificate} with the key {key} cannot be used: {error}") from error
    return context


def client_tls(ca: Path) -> ssl.SSLContext:
    """Return the TLS of a client that trusts the certificates in a PEM file alone; raise ``ValueError`` for no such."""
    try:
        return ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise ValueError(f"the certificates in {ca} cannot be used: {error}; give a PEM file") from error


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself, so that its traffic crosses no network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password; give one without a password")
