"""What Ray needs to start on this machine, and what a failure to start or to join it means.

Ray itself answers several of these with a timeout after half a minute or longer, so they are checked before.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_MIB = 2**20
_MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107  # bytes of the path of a Unix socket
_SESSION = "session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
_MIN_DISK_BYTES = 100 * _MIB
_MIN_OPEN_FILES = 256

Subject = Literal["temporary folder", "disk", "open files"]


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Something on this machine that keeps Ray from starting, and the way out."""

    subject: Subject
    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what}; {self.way_out}"


def temp_folder(given: str | None = None) -> Path:
    """Return the folder for the files of a Ray that starts here; ``given`` is that of the settings."""
    if given is not None:
        return Path(given)
    on_linux = sys.platform.startswith("linux")
    return Path(os.environ.get("RAY_TMPDIR") or (on_linux and os.environ.get("TMPDIR")) or "/tmp") / "ray"


def obstacles(given_folder: str | None = None) -> list[Obstacle]:
    """Return what keeps Ray from starting on this machine: its temporary folder, the disk or the open files."""
    folder = temp_folder(given_folder)
    found = [_folder_obstacle(folder), _files_obstacle()]
    if found[0] is None:
        found.append(_disk_obstacle(folder))
    return [obstacle for obstacle in found if obstacle is not None]


def _folder_obstacle(folder: Path) -> Obstacle | None:
    another = "set RAY_TMPDIR to a short path of a folder that you can write to, such as /tmp"
    longest = f"{folder}/{_SESSION.format(pid=os.getpid())}"
    excess = len(os.fsencode(longest)) - _MAX_SOCKET_PATH
    if excess > 0:
        what = (
            f"the path of Ray's temporary folder, {folder}, is {excess} bytes too long: the sockets below it may have "
            f"paths of {_MAX_SOCKET_PATH} bytes"
        )
        return Obstacle(subject="temporary folder", what=what, way_out=another)
    there = _nearest(folder)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return None
    why = "cannot be written to" if there.is_dir() else "is a file"
    what = f"Ray's temporary folder is {folder}, and {there} {why}"
    return Obstacle(subject="temporary folder", what=what, way_out=another)


def _disk_obstacle(folder: Path) -> Obstacle | None:
    free = shutil.disk_usage(_nearest(folder)).free
    if free >= _MIN_DISK_BYTES:
        return None
    what = f"{folder}, Ray's temporary folder, is on a disk with {free // _MIB} MiB left and Ray needs 100"
    return Obstacle(subject="disk", what=what, way_out="free space there, or set RAY_TMPDIR to a folder elsewhere")


def _files_obstacle() -> Obstacle | None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises its own limit up to this one
    if hard == resource.RLIM_INFINITY or hard >= _MIN_OPEN_FILES:
        return None
    what = f"a process may open {hard} files here and Ray needs {_MIN_OPEN_FILES}"
    return Obstacle(subject="open files", what=what, way_out="raise the limit: ulimit -n 8192")


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest folder or file above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def probe(address: str, timeout_s: float) -> None:
    """Fail at once where nothing, or something other than Ray, listens at the address; Ray would retry for minutes.

    Ray's control service speaks gRPC, which answers the beginning of HTTP/2 with a frame of settings.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} does not have the form host:port")
    name = host.strip("[]")
    tls = _client_tls()
    with socket.create_connection((name, int(port)), timeout=timeout_s) as plain:
        peer = plain if tls is None else tls.wrap_socket(plain, server_hostname=name)
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        head = _received(peer, 9)
    if head[:2] == b"\x15\x03" and tls is None:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the cluster asks for TLS, and RAY_USE_TLS is not set")
    if tls is not None and not head:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the connection was closed after this machine's certificate was shown")
    if head[3:4] != b"\x04":
        raise NotRay(f"what listens there answers {head!r}" if head else "what listens there does not answer")


def _client_tls() -> ssl.SSLContext | None:
    """Return the TLS that Ray's variables ask for, which shows a certificate to the cluster; None for no TLS."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    try:
        context = ssl.create_default_context(cafile=os.environ["RAY_TLS_CA_CERT"])
        context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    except KeyError as missing:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"RAY_USE_TLS is set and {missing.args[0]} is not") from None
    context.set_alpn_protocols(["h2"])
    return context


class NotRay(ConnectionError):
    """Error raised where something else than Ray listens."""


def _received(peer: socket.socket, count: int) -> bytes:
    data = b""
    try:
        while len(data) < count and (more := peer.recv(count - len(data))):
            data += more
    except (TimeoutError, ConnectionError):
        pass
    return data


def failure_to_join(address: str, error: Exception, token: str) -> str:
    """Return what it means that Ray could not be reached at an address, and what to do.

    Args:
        address: ``host:port`` or ``auto``.
        error: what Ray or the connection raised.
        token: where this user's token is looked for, and whether one was sent, in words.
    """
    text, name = _first_line(error), type(error).__name__
    local = "or leave the address out to start a local cluster"
    if "uthenti" in f"{name} {text}" or "token" in text.lower():
        advice = f"The cluster does not accept this user's token ({token}): give RAY_AUTH_TOKEN that cluster's token"
    elif isinstance(error, ssl.SSLError):
        advice = (
            "Give RAY_USE_TLS=1, and RAY_TLS_CA_CERT, RAY_TLS_SERVER_CERT and RAY_TLS_SERVER_KEY of the authority that "
            "signed the cluster's certificates (of a lab: the file that raysplit cluster status names)"
        )
    elif "ersion mismatch" in text:
        advice = "Use the same versions of Ray and Python here as on the cluster"
    elif isinstance(error, NotRay):
        advice = (
            f"Give the port of Ray's control service, as `ray start --head` prints it (6379 by default; 8265 is the "
            f"dashboard's), set RAY_USE_TLS and its certificates if the cluster asks for TLS, {local}"
        )
    elif address == "auto":
        advice = "Start one with `ray start --head`, give the host:port of another (cluster.address), " + local
    elif isinstance(error, ValueError):
        advice = f"Write host:port (RAY_ADDRESS or cluster.address), {local}"
    else:
        advice = f"Check the address (RAY_ADDRESS or cluster.address) and that `ray start --head` runs there, {local}"
    return f"Ray could not be reached at {address} ({name}: {text}). {advice}"


def failure_to_start(error: Exception, *, object_store_bytes: int, given_folder: str | None = None) -> str:
    """Return what it means that Ray could not be started on this machine, and what to do."""
    import psutil

    text, folder = _first_line(error), temp_folder(given_folder)
    code = error.errno if isinstance(error, OSError) else None
    free = psutil.virtual_memory().available
    memory = f"{free // _MIB:,} MiB of memory are free and the object store takes {object_store_bytes // _MIB:,}"
    if "object store" in text or "object_store" in text or isinstance(error, MemoryError) or code == errno.ENOMEM:
        advice = f"Memory is short: {memory}; set cluster.object_store_mib lower, or end other programs"
    elif code == errno.ENOSPC or "No space left" in text:
        advice = f"The disk is full: free space for {folder}, or set RAY_TMPDIR to a folder elsewhere"
    elif code == errno.EADDRINUSE or "ddress already in use" in text or "port" in text.lower().split():
        advice = "A port is taken: end the other Ray or program that has it, or leave cluster.dashboard false"
    elif code in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EROFS) or "AF_UNIX" in text:
        advice = f"Ray cannot use its temporary folder {folder}: set RAY_TMPDIR to a short path that you can write to"
    else:
        advice = (
            f"{memory[0].upper()}{memory[1:]}; the logs in {folder}/session_latest/logs have the reason, and "
            f"`raysplit doctor` checks this machine"
        )
    return f"Ray could not be started on this machine ({type(error).__name__}: {text}). {advice}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")
