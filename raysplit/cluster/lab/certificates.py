"""Certificates of a lab, for TLS between its machines: an authority of its own, and one for each machine and drivers.

Ray's connections are authenticated on both ends: whoever has no certificate of the lab's authority is refused. The key
of the authority is not kept, so that no further certificate can be made.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DRIVER = "driver"
"""Name of the certificate of programs that join the lab."""
_DAYS = 365


def variables(folder: Path, name: str) -> dict[str, str]:
    """Return the environment variables with which Ray takes the certificate of a machine, or of `DRIVER`."""
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(folder / f"{name}.crt"),
        "RAY_TLS_SERVER_KEY": str(folder / f"{name}.key"),
        "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
    }


def make_certificates(folder: Path, machines: Iterable[str]) -> Path:
    """Make a new authority and the certificates of the machines and of drivers in a new folder.

    Returns the file of shell commands that set the variables of a driver.

    Raises:
        ModuleNotFoundError: the package cryptography, which Ray brings, is not installed.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _signed("raysplit lab", key, None, key)
    _write(folder / "ca.crt", _pem(authority))
    for name in (*machines, DRIVER):
        own = ec.generate_private_key(ec.SECP256R1())
        _write(folder / f"{name}.crt", _pem(_signed(name, own, authority, key)))
        _write(folder / f"{name}.key", _pem_of_key(own))
    commands = folder / "driver.env"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables(folder, DRIVER).items()]
    _write(commands, "".join(lines).encode())
    return commands


def _signed(
    name: str, own: EllipticCurvePrivateKey, issuer: x509.Certificate | None, key: EllipticCurvePrivateKey
) -> x509.Certificate:
    """Return a certificate signed by an issuer's key; one without an issuer is an authority's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(
            x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True
        )
    )
    if issuer is not None:
        both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        built = built.add_extension(both_ends, critical=False)
        built = built.add_extension(x509.SubjectAlternativeName(_names()), critical=False)
    return built.sign(key, hashes.SHA256())


def _names() -> list[x509.GeneralName]:
    """Return the names and addresses of this machine, at which its peers reach it."""
    from cryptography import x509

    addresses = {each.address.partition("%")[0] for found in psutil.net_if_addrs().values() for each in found
                 if each.family in (socket.AF_INET, socket.AF_INET6)}  # fmt: skip
    own = [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
    return [*own, *(x509.DNSName(name) for name in ("localhost", socket.gethostname()))]


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
