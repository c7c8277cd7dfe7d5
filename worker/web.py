"""The only door to the network, with one entrance for each level of trust.

A URL that the operator configured is called plainly. A URL that came from a tenant or out of an
answer is foreign, and a foreign socket is guarded where it is made, after each name is resolved and
again on each redirect. Nothing here keeps a cookie, reads a proxy from the environment or trusts an
unverified certificate. What can go wrong is said in `worker.exchange`.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Self

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver
from yarl import URL

from storage.address import NOTHING, WEB_PORTS, Allowance, check_url
from storage.errors import Invalid
from worker.exchange import (
    HIDDEN,
    Answer,
    Body,
    Refused,
    Stream,
    TimedOut,
    TooBig,
    Unreachable,
    WebError,
    exchange,
)
from worker.guard import Lookup, Permits, guarded_socket


__all__ = [
    "Answer",
    "Refused",
    "Stream",
    "TimedOut",
    "TooBig",
    "Unreachable",
    "Web",
    "WebError",
]

LIMIT: Final = 256 * 1024 * 1024
REPLY_LIMIT: Final = 64 * 1024
CONNECT_SECONDS: Final = 5.0
# Below the 5 s after which uvicorn and Node hang up: a POST must not meet a closing connection.
KEEPALIVE_SECONDS: Final = 4.0
# One host that hangs must leave connections for the others.
FOREIGN_PER_HOST: Final = 16
MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "Darkroom"}


class Web:
    """Calls out, for the whole worker.

    Made inside a running event loop and closed with `close`. *connections* and
    *foreign_connections* bound the sockets open at once; a request over the bound waits within its
    own time. Foreign URLs reach *ports* of public addresses; *allowance* opens further networks to
    them, at any port and over plain http. *allow_http* lets webhooks go anywhere over plain http.
    *ssl_context* replaces the system's certificate authorities, and *resolver* its names.
    """

    def __init__(
        self,
        *,
        allowance: Allowance = NOTHING,
        allow_http: bool = False,
        ports: frozenset[int] = WEB_PORTS,
        connections: int = 500,
        foreign_connections: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_http = allow_http
        self._check = partial(check_url, param="url", ports=ports, allowance=allowance)
        session = partial(_session, ssl_context=ssl_context, resolver=resolver)
        self._plain = session(connections)
        self._foreign = session(
            foreign_connections, permits=partial(allowance.permits, ports=ports)
        )
        # Plain http to a name: only its addresses can tell whether the operator opened it.
        covers = allowance.covers
        self._opened = session(foreign_connections, permits=lambda address, _: covers(address))

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
        data: Body = None,
        params: Mapping[str, str] | None = None,
        timeout: float,
        limit: int = LIMIT,
    ) -> Answer:
        """Return the answer of a configured upstream, whatever its status; redirects are answers.

        *json* is anything that orjson can write; *data* is sent as it is (give the large parts of
        a form as `io.BytesIO`). Raises `WebError` unless a whole answer of at most *limit* bytes
        has come within *timeout* seconds.
        """
        call = self.stream(
            method,
            url,
            headers=headers,
            json=json,
            data=data,
            params=params,
            timeout=timeout,
            limit=limit,
        )
        async with call as stream:
            return Answer(stream.status, stream.headers, await stream.read())

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: Body = None,
        params: Mapping[str, str] | None = None,
        timeout: float,
        limit: int = LIMIT,
    ) -> AbstractAsyncContextManager[Stream]:
        """Do what `call` does, but give the answer while it comes.

        *timeout* covers the whole context, so what the caller does with the chunks counts too.
        """
        all_headers = dict(headers or {})
        if json is not None:
            data = orjson.dumps(json)
            all_headers.setdefault("Content-Type", "application/json")
        request = partial(self._plain.request, method, url, headers=all_headers, params=params)
        return exchange(request, data, timeout=timeout, limit=limit)

    async def fetch_foreign(self, url: str, *, limit: int, timeout: float) -> Answer:
        """Return what a foreign URL gives to a bare GET, after at most three redirects.

        Raises `WebError`; refused, unresolvable and unreachable addresses read the same.
        """
        now = asyncio.get_running_loop().time
        end = now() + timeout
        for _ in range(1 + MAX_REDIRECTS):
            target = self._checked(url, allow_http=True)
            request = partial(self._foreign.get, target)
            fetch = _hidden(exchange(request, None, timeout=end - now(), limit=limit))
            async with fetch as stream:
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
        """Return what a foreign receiver answers to *body*; a redirect is an answer.

        The reply is kept up to *reply_limit* bytes, and a reply that breaks off after its headers
        is an answer too: the receiver has spoken. Raises `WebError` like `fetch_foreign`.
        """
        target = self._checked(url, allow_http=self._allow_http)
        plain = target.scheme == "http" and not self._allow_http
        request = partial((self._opened if plain else self._foreign).post, target, headers=headers)
        post = exchange(request, body, timeout=timeout, limit=sys.maxsize)
        async with _hidden(post) as stream:
            reply = await stream.beginning(reply_limit)
            return Answer(stream.status, stream.headers, reply)

    def _checked(self, url: str, *, allow_http: bool) -> URL:
        try:
            return self._check(url, allow_http=allow_http)
        except Invalid:
            raise Refused from None


@asynccontextmanager
async def _hidden(exchange: AbstractAsyncContextManager[Stream]) -> AsyncIterator[Stream]:
    """Let each way of not being reached read the same: a tenant must not learn what is behind."""
    try:
        async with exchange as stream:
            yield stream
    except Refused:
        raise
    except Unreachable as error:
        raise Unreachable(HIDDEN, sent=error.sent) from None


def _joined(base: URL, location: str) -> str:
    try:
        return str(base.join(URL(location)))
    except ValueError:
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
            limit_per_host=FOREIGN_PER_HOST if permits else 0,
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
    """Closes its resolver with itself: aiohttp's own closes only one that it made."""

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._resolver.close()
