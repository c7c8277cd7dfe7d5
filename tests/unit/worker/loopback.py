"""Small servers on loopback that behave as badly as they are told, and count what reached them."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult


Behaviour: TypeAlias = Callable[
    ["Loopback", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]

OK = b"HTTP/1.1 200 OK\r\n"


def answer(body: bytes = b"ok", *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole answer as it goes over the wire."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Loopback:
    """A server that hands each connection to *behave* and notes each request as (head, body)."""

    def __init__(
        self, behave: Behaviour, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.connections = 0
        self.requests: list[tuple[str, bytes]] = []
        self.port = 0
        self._behave = behave
        self._host = host
        self._tls = tls
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)
        # Little is taken from the wire before it is read, so that a sender can be left waiting.
        self._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def stop(self) -> None:
        """Accept nobody any more."""
        self._server.close()

    async def request(self, reader: asyncio.StreamReader) -> tuple[str, bytes]:
        """Read one request whole and note it."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        self.requests.append((head, body))
        return head, body

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._behave(self, reader, writer)
        finally:
            writer.close()


def say(*replies: bytes, then: str = "close") -> Behaviour:
    """Answer the requests of a connection with *replies*, then close, reset, hang or go on."""

    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for reply in replies:
            await server.request(reader)
            writer.write(reply)
            await writer.drain()
        while then == "go on":
            await server.request(reader)
            writer.write(replies[-1])
        if then == "lose the next":
            await server.request(reader)
        if then in {"reset", "lose the next"}:
            writer.transport.abort()
        if then == "hang":
            await asyncio.Event().wait()

    return behave


class Names(AbstractResolver):
    """A DNS of our own: each name has a list of answers, given in turn; the last one stays."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        self.asked += 1
        answers = self.names.get(host.lower().removesuffix("."))
        if not answers:
            raise OSError("no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=0, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""
