"""The network to a server: HTTP/1.1 by httpx, with bounds on the time and the size of every reply.

An edge device is small, and it cannot know who answers: a reply is read as a stream and never held beyond the size that
its request allows. It is taken as it was sent, without content encodings, redirects or cookies.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from raysplit.serving.front.access import bearer
from raysplit.serving.transport import Reply, ServerUnreachable, WrongAnswer, shown

MAX_REFUSAL_BYTES = 4096
"""The bytes that are read of a reply that is no answer, for its reason."""


class HttpTransport:
    """HTTP/1.1 over a pool of connections, which stay open between requests; several threads may use it.

    The exchanges run in a thread with an event loop, where one time limit can hold for the whole of each.

    Args:
        server: address of the server, ``http://host:port`` or ``https://host:port``.
        timeout_s: seconds allowed for a whole exchange, from connecting to the last byte of the reply.
        token: token that the server asks for.
        tls: certificates to trust; by default those that certifi lists.

    Raises:
        ValueError: if ``server`` is not such an address, or ``timeout_s`` is not above 0.
    """

    def __init__(
        self, server: str, timeout_s: float = 10.0, *, token: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL as error:
            raise ValueError(f"{server!r} is not a server address: {error}") from error
        if url.userinfo or url.query or url.fragment:
            raise ValueError(
                f"the address of the server at {url.host!r} must have no user, query or fragment; a token is what it "
                f"can ask for"
            )
        if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 1) < 2**16:
            raise ValueError(f"{server!r} is not a server address; give one such as http://127.0.0.1:8000")
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"the time for an answer must be above 0 s and finite, got {timeout_s}")
        self.server, self.timeout_s = server, timeout_s
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=None,  # a limit for each wait would not end a reply of one byte per second
            headers={"accept-encoding": "identity"} | ({} if token is None else {"authorization": bearer(token)}),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            verify=True if tls is None else tls,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="raysplit-edge", daemon=True)
        self._thread.start()

    def exchange(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
        coming: Future[Reply] = asyncio.run_coroutine_threadsafe(
            self._exchanged(method, path, body, max_bytes), self._loop
        )
        return coming.result()

    async def _exchanged(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
        headers = {"content-type": "application/octet-stream"} if body else {}
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                self._client.stream(method, path, content=body or None, headers=headers) as response,
            ):
                found = await self._body(response, max_bytes)
        except TimeoutError as error:
            raise ServerUnreachable(
                f"no answer from {self.server}: timed out, no whole reply within {self.timeout_s:g} s"
            ) from error
        except httpx.HTTPError as error:
            raise ServerUnreachable(
                f"no answer from {self.server}: {shown(str(error)) or type(error).__name__}"
            ) from error
        return Reply(status=response.status_code, headers=dict(response.headers), body=found)

    async def _body(self, response: httpx.Response, max_bytes: int) -> bytes:
        """Read the body of an answer up to `max_bytes`, or the beginning of another reply."""
        answers = response.status_code == 200
        if answers:
            self._check_headers(response.headers, max_bytes)
        found = bytearray()
        async for part in response.aiter_raw():
            found += part
            if answers and len(found) > max_bytes:
                raise WrongAnswer(f"{self.server} sends more than the {max_bytes} bytes of an answer")
            if not answers and len(found) >= MAX_REFUSAL_BYTES:
                break
        return bytes(found)

    def _check_headers(self, headers: Mapping[str, str], max_bytes: int) -> None:
        encoding, length = headers.get("content-encoding", "identity"), headers.get("content-length", "")
        if encoding.lower() != "identity":
            raise WrongAnswer(f"{self.server} sends its answer encoded ({shown(encoding)}), which nobody asked for")
        if length.isdecimal() and int(length) > max_bytes:
            raise WrongAnswer(f"{self.server} announces {shown(length)} bytes, an answer has at most {max_bytes}")

    def close(self) -> None:
        """Close all connections; the transport is of no use afterwards."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
