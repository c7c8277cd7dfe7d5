"""The only door to the network, with one entrance for each level of trust.

A URL that the operator configured is called plainly; a URL that came from a tenant or out of an answer
is foreign, and a foreign socket is guarded where it is made, after the name is resolved and again
on every redirect. Nothing here follows a redirect by itself, keeps a cookie or reads a proxy from
the environment, and nothing is unbounded: each exchange has a total time and each body a limit.

What can go wrong, as a tree:

    WebError            `sent`: whether the request was, or may have been, received whole
      Unreachable       no answer, or not a whole one
        Refused         a foreign URL that we do not call; reads like any other unreachable address
      TimedOut          the total time ran out
      TooBig            the answer is over its limit

`sent` decides about money: after `sent=False` the upstream cannot have started the work; when in
doubt it is True. No POST is ever sent twice: aiohttp repeats a request on a fresh connection only for
idempotent methods, and a POST that a dying keep-alive connection swallowed is `sent=True`.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self, TypeAlias

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from yarl import URL

from storage.address import NOTHING, Allowance, check_url
from storage.errors import Invalid
from worker.guard import Denied, Lookup, Permits, guarded_socket
from worker.inflate import ENCODINGS, Inflater, Overflow


MIB: Final = 1024 * 1024
LIMIT: Final = 256 * MIB
REPLY_LIMIT: Final = 64 * 1024
CONNECT_SECONDS: Final = 5.0
# Below the 5 s after which uvicorn and Node hang up: a POST must not meet a closing connection.
KEEPALIVE_SECONDS: Final = 4.0
MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
SLICE: Final = 256 * 1024
HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "Darkroom"}
HIDDEN: Final = "The address cannot be reached."

Query: TypeAlias = Mapping[str, str]


class WebError(Exception):
    """An exchange that did not end in an answer; `message` holds no URL and no secret."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.message = message
        self.sent = sent


class Unreachable(WebError):
    """There was no answer, or not a whole one."""


class Refused(Unreachable):
    """The foreign URL is not one that we call; the text is that of any unreachable address."""

    def __init__(self) -> None:
        super().__init__(HIDDEN, sent=False)


class TimedOut(WebError):
    """The total time ran out."""


class TooBig(WebError):
    """The answer is over its limit of bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The answer is larger than {limit} bytes.", sent=True)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whatever its status; names of headers are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Stream:
    """An answer whose body is still coming: iterate over its chunks or `read` it, once."""

    def __init__(
        self, response: aiohttp.ClientResponse, tracker: aiohttp.UploadTracker, limit: int
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._tracker = tracker
        self._limit = limit

    async def read(self) -> bytes:
        """Return the whole body; raises like iteration does."""
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the plain body in chunks as they come.

        Raises `TooBig` over the limit and `Unreachable` when the body breaks off or is compressed in
        a way that cannot be read.
        """
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if (self._response.content_length or 0) > self._limit:
            raise TooBig(self._limit)
        if encoding == "identity":
            async for chunk in self._chunks():
                yield chunk
        elif encoding in ENCODINGS:
            async for chunk in self._inflated(encoding):
                yield chunk
        else:
            raise Unreachable("The answer is in an encoding not asked for.", sent=True)

    async def _chunks(self) -> AsyncIterator[bytes]:
        size = 0
        while True:
            try:
                chunk = await self._response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise _translated(error, self._tracker) from None
            if not chunk:
                return
            size += len(chunk)
            if size > self._limit:
                raise TooBig(self._limit)
            yield chunk

    async def _inflated(self, encoding: str) -> AsyncIterator[bytes]:
        inflater = Inflater(encoding, limit=self._limit)
        try:
            async for chunk in self._chunks():
                for piece in inflater.feed(chunk):
                    yield piece
                    await asyncio.sleep(0)
            inflater.finish()
        except Overflow:
            raise TooBig(self._limit) from None
        except zlib.error:
            raise Unreachable("The answer is compressed, but not readable.", sent=True) from None


class Web:
    """Calls out, for the whole worker.

    Made inside a running event loop and closed with `close`. *connections* and *foreign_connections*
    bound the sockets open at once; a request over the bound waits within its own time. *allowance* opens
    networks that are not public, at any port and over plain http, to foreign URLs; *allow_http*
    lets webhooks go to any address over plain http. *ssl_context* replaces the system's authorities, and
    *resolver* the system's names.
    """

    def __init__(
        self,
        *,
        allowance: Allowance = NOTHING,
        allow_http: bool = False,
        connections: int = 500,
        foreign_connections: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allowance = allowance
        self._allow_http = allow_http
        session = partial(_session, ssl_context=ssl_context, resolver=resolver)
        self._plain = session(connections)
        self._foreign = session(foreign_connections, permits=allowance.permits)
        # Plain http to a name: whether the operator opened its network is known once it is resolved.
        self._opened = session(
            foreign_connections, permits=lambda address, _port: allowance.covers(address)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, busy or not."""
        for session in (self._plain, self._foreign, self._opened):
            await session.close()

    async def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | aiohttp.FormData | None = None,
        params: Query | None = None,
        timeout: float,
        limit: int = LIMIT,
    ) -> Answer:
        """Return the answer of a configured upstream, whatever its status; redirects are answers.

        *json* is anything orjson can write. Raises `WebError` when there is no whole answer of at most
        *limit* bytes within *timeout* seconds.
        """
        async with self.stream(
            method,
            url,
            headers=headers,
            json=json,
            data=data,
            params=params,
            timeout=timeout,
            limit=limit,
        ) as stream:
            return Answer(stream.status, stream.headers, await stream.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | aiohttp.FormData | None = None,
        params: Query | None = None,
        timeout: float,
        limit: int = LIMIT,
    ) -> AsyncIterator[Stream]:
        """Like `call`, but give the answer as it comes; *timeout* covers the reading too."""
        sent_headers = dict(headers or {})
        if json is not None:
            data = orjson.dumps(json)
            sent_headers.setdefault("Content-Type", "application/json")
        request = partial(
            self._plain.request,
            method,
            url,
            headers=sent_headers,
            data=_payload(data),
            params=params,
        )
        async with _exchange(request, timeout=timeout, limit=limit) as stream:
            yield stream

    async def fetch_foreign(self, url: str, *, limit: int, timeout: float) -> Answer:
        """Return what a foreign URL gives to a plain GET, after at most three redirects.

        Raises `WebError`; refused, unresolvable and unreachable addresses read the same.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        for _ in range(MAX_REDIRECTS + 1):
            target = self._checked(url, allow_http=True)
            request = partial(self._foreign.get, target)
            async with _hidden(_exchange(request, timeout=end - clock(), limit=limit)) as stream:
                location = stream.headers.get("Location")
                if stream.status not in REDIRECTS or location is None:
                    return Answer(stream.status, stream.headers, await stream.read())
            url = _joined(target, location)
        raise Refused

    async def post_foreign(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float = 15.0,
        reply_limit: int = REPLY_LIMIT,
    ) -> Answer:
        """Return what a foreign receiver answers to *body*; a redirect is an answer, not followed.

        At most *reply_limit* bytes of the reply are kept. Raises `WebError` like `fetch_foreign`.
        """
        target = self._checked(url, allow_http=self._allow_http)
        plain = target.scheme == "http" and not self._allow_http
        session = self._opened if plain else self._foreign
        request = partial(session.post, target, data=_payload(body), headers=headers)
        async with _hidden(_exchange(request, timeout=timeout, limit=LIMIT)) as stream:
            return Answer(stream.status, stream.headers, await _beginning(stream, reply_limit))

    def _checked(self, url: str, *, allow_http: bool) -> URL:
        try:
            return check_url(url, param="url", allow_http=allow_http, allowance=self._allowance)
        except Invalid:
            raise Refused from None


def _session(
    connections: int,
    *,
    permits: Permits | None = None,
    ssl_context: ssl.SSLContext | None,
    resolver: AbstractResolver | None,
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(
            limit=connections,
            keepalive_timeout=KEEPALIVE_SECONDS,
            resolver=Lookup(permits=permits, resolver=resolver),
            socket_factory=partial(guarded_socket, permits) if permits else None,
            ssl=ssl_context or True,
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        trust_env=False,
    )


class _Connector(aiohttp.TCPConnector):
    """Owns its resolver: aiohttp closes only one that it made itself."""

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._resolver.close()


class _Bytes(aiohttp.BytesPayload):
    """A body written in slices, so that a large one neither is copied whole nor stalls the loop."""

    def __init__(self, value: bytes) -> None:
        aiohttp.Payload.__init__(self, value, content_type="application/octet-stream")
        self._size = len(value)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), SLICE):
            await writer.write(view[start : start + SLICE])


def _payload(data: bytes | aiohttp.FormData | None) -> _Bytes | aiohttp.FormData | None:
    return _Bytes(data) if isinstance(data, bytes) else data


@asynccontextmanager
async def _exchange(
    request: Callable[..., Any], *, timeout: float, limit: int
) -> AsyncIterator[Stream]:
    tracker = aiohttp.UploadTracker()
    try:
        async with asyncio.timeout(timeout) as clock:
            try:
                response = await request(allow_redirects=False, upload_tracker=tracker)
            except (aiohttp.ClientError, OSError) as error:
                raise _translated(error, tracker) from None
            async with response:
                yield Stream(response, tracker, limit)
    except TimeoutError:
        if not clock.expired():
            raise
        raise TimedOut("There was no whole answer in time.", sent=_sent(tracker)) from None


@asynccontextmanager
async def _hidden(exchange: AbstractAsyncContextManager[Stream]) -> AsyncIterator[Stream]:
    """Let every way of not being reached read the same: a tenant must not learn what is behind."""
    try:
        async with exchange as stream:
            yield stream
    except Refused:
        raise
    except Unreachable as error:
        raise Unreachable(HIDDEN, sent=error.sent) from None


def _sent(tracker: aiohttp.UploadTracker) -> bool:
    done = tracker.upload_complete
    return tracker.attempts > 1 or (done.done() and done.exception() is None)


def _translated(error: Exception, tracker: aiohttp.UploadTracker) -> WebError:
    sent = _sent(tracker)
    match error:
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, Denied):
            return Refused()
        case aiohttp.ClientConnectorDNSError():
            reason = "its name cannot be resolved"
        case aiohttp.ClientSSLError():
            reason = "the TLS handshake failed"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            reason = "no connection"
        case aiohttp.ClientPayloadError():
            reason = "the answer broke off"
        case aiohttp.ClientResponseError():
            reason = "the answer is not HTTP"
        case _:
            reason = "the connection was lost"
    return Unreachable(f"The server cannot be reached: {reason}.", sent=sent)


async def _beginning(stream: Stream, size: int) -> bytes:
    """Return the first *size* bytes of a reply; what the status said does not depend on the rest."""
    body = bytearray()
    try:
        async for chunk in stream:
            body += chunk
            if len(body) >= size:
                break
    except (TooBig, Unreachable):
        pass
    return bytes(body[:size])


def _joined(base: URL, location: str) -> str:
    try:
        return str(base.join(URL(location)))
    except ValueError:
        raise Refused from None
