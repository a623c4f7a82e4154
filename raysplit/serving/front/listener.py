"""The connections of all peers, and the thread that serves them.

Connections are accepted here rather than by uvicorn, so that they are counted before a TLS handshake begins. A new
one that finds no room closes the one of the same peer, or of the peer with the most, that has kept the server waiting
for the longest time. So whoever opens connections and leaves them open loses those, and a client whose request comes
at once keeps its own, even behind the same address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from raysplit.serving.front.access import Access
from raysplit.serving.front.connection import Connection
from raysplit.serving.front.limits import FrontLimits

logger = logging.getLogger(__name__)

_MAX_HEADER_BYTES = 16 * 2**10
_IPV6_PREFIX = 64
_STOP_S = 5
_RETRY_S = 0.1


def peer_of(address: str) -> str:
    """Return whom an address is counted as: itself, or the network of 64 bits that one IPv6 customer has."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
    return str(found)


class Listener:
    """Everything that is connected to one listening socket.

    Args:
        listening: bound socket that listens, without blocking.
        server: uvicorn's server, whose configuration is loaded.
        limits: bounds on connections and their times.
        access: TLS of the connections.
    """

    def __init__(self, listening: socket.socket, server: uvicorn.Server, limits: FrontLimits, access: Access) -> None:
        self.listening, self.server, self.limits, self.tls = listening, server, limits, access.tls
        self._peers: dict[str, set[Connection]] = {}

    async def accept(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self.listening)
            except OSError as error:  # no file descriptors left, for example
                logger.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            peer = peer_of(address[0])
            if self._make_room(peer):
                self._greet(sock, peer)
            else:
                sock.close()
            await asyncio.sleep(0)  # a flood of connections must not keep the others from being served

    def drop_waiting(self) -> None:
        """Close every connection to which no answer is due."""
        for peer, connections in list(self._peers.items()):
            for connection in list(connections):
                if not connection.is_answered:
                    self._forget(peer, connection)
                    connection.drop()

    def _greet(self, sock: socket.socket, peer: str) -> None:
        def lost(connection: Connection) -> None:
            self._forget(peer, connection)

        connection = Connection(
            config=self.server.config, server_state=self.server.server_state, limits=self.limits, lost=lost
        )
        self._peers.setdefault(peer, set()).add(connection)
        connection.greeting = asyncio.create_task(self._connect(connection, sock, peer))

    async def _connect(self, connection: Connection, sock: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.header_s):
                await loop.connect_accepted_socket(lambda: connection, sock, ssl=self.tls)
        except BaseException as error:
            sock.close()
            self._forget(peer, connection)
            if not isinstance(error, (OSError, asyncio.CancelledError)):
                raise
            logger.debug("no connection with %s: %r", peer, error)

    def _make_room(self, peer: str) -> bool:
        """Close a connection where there are too many; return False if all of them wait for an answer."""
        if len(self._peers.get(peer, ())) >= self.limits.connections_per_peer:
            return self._drop_slowest(peer)
        if sum(map(len, self._peers.values())) >= self.limits.max_connections:
            return self._drop_slowest(max(self._peers, key=lambda each: len(self._peers[each])))
        return True

    def _drop_slowest(self, peer: str) -> bool:
        waiting = [connection for connection in self._peers[peer] if not connection.is_answered]
        if not waiting:
            return False
        slowest = min(waiting, key=lambda connection: connection.since)
        self._forget(peer, slowest)
        slowest.drop()
        return True

    def _forget(self, peer: str, connection: Connection) -> None:
        connections = self._peers.get(peer, set())
        connections.discard(connection)
        if not connections:
            self._peers.pop(peer, None)


class Front:
    """A thread that serves an application at an address until `stop`.

    Args:
        app: application to serve.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        limits: bounds on time and connections.
        access: TLS of the connections.

    Attributes:
        port: port that it listens on.

    Raises:
        ValueError: if this machine cannot listen there.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, limits: FrontLimits, access: Access) -> None:
        self._listening = listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        self._up: Future[asyncio.AbstractEventLoop] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(app, limits, access), name="raysplit-front", daemon=True
        )
        self._thread.start()
        self._loop = self._up.result()

    def stop(self) -> None:
        """Stop listening, let answers that are due be sent for a few seconds, and close everything."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, app: ASGIApp, limits: FrontLimits, access: Access) -> None:
        try:
            asyncio.run(self._serve(app, limits, access))
        except BaseException as error:
            if self._up.done():
                raise
            self._up.set_exception(error)

    async def _serve(self, app: ASGIApp, limits: FrontLimits, access: Access) -> None:
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            server_header=False, proxy_headers=False, h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            timeout_keep_alive=int(limits.idle_s) + 1, timeout_graceful_shutdown=_STOP_S,
        )  # fmt: skip
        config.load()
        server = uvicorn.Server(config)
        listener = Listener(self._listening, server, limits, access)
        serving = asyncio.create_task(server.serve(sockets=[]))
        accepting = asyncio.create_task(listener.accept())
        self._up.set_result(asyncio.get_running_loop())
        await self._stopping.wait()
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        self._listening.close()
        listener.drop_waiting()
        server.should_exit = True
        await serving


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; raise ``ValueError`` where this machine cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen at {host}:{port}: {error}; choose another --host or --port") from error
    listening.setblocking(False)
    return listening
