"""How an answer travels: whole, in pieces, cut off, or far too large."""

import asyncio
import zlib
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from tests.upstream.tokens import Tokens


HUGE = 1_500_000_000
UNSTREAMED = frozenset({"html", "bomb", "huge"})
"""What comes as a plain body also where a stream was asked for."""
_CHUNK = b"A" * 262_144
_PIECES = 20
_HANG = 600.0
_PAGE = b"<html><head><title>524: A timeout occurred</title></head><body>cloudflare</body></html>"
_JSON_HEAD = b'{"created":1793000000,"data":[{"b64_json":"'


async def send(
    request: web.Request,
    tokens: Tokens,
    body: bytes,
    *,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> web.StreamResponse:
    """Answer 200 with `body` in the way that `tokens` ask for."""
    if "hang" in tokens:
        await _hang(request)
    if "html" in tokens:
        return web.Response(body=_PAGE, content_type="text/html", headers=headers)
    if "bomb" in tokens:
        return await _send_bomb(request, content_type)
    if "huge" in tokens:
        return await _send_huge(request, content_type)
    if "drop" in tokens:
        return await _send_half(request, body, content_type)
    if "drip" in tokens:
        return await _send_slowly(request, body, content_type, tokens.number("drip", 3.0))
    return web.Response(body=body, content_type=content_type, headers=headers)


class Events:
    """A stream of server-sent events, which breaks off or goes slowly if the tokens say so.

    `drop` cuts it after the first event, `drip` spreads it.
    """

    def __init__(self, request: web.Request, tokens: Tokens) -> None:
        self._request = request
        self._tokens = tokens
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})

    async def __aenter__(self) -> Self:
        if "hang" in self._tokens:
            await _hang(self._request)
        await self.response.prepare(self._request)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.response.write_eof()

    async def send(self, payload: dict[str, Any] | str, *, event: str | None = None) -> None:
        """Write one event; a string is written as it is (`[DONE]`)."""
        data = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        name = f"event: {event}\n".encode() if event else b""
        frame = name + b"data: " + data + b"\n\n"
        if "drop" in self._tokens:
            await self.response.write(frame[: len(frame) // 2])
            _cut(self._request)
            raise ConnectionResetError
        await self.response.write(frame)
        if "drip" in self._tokens:
            await asyncio.sleep(self._tokens.number("drip", 3.0) / 4)

    async def comment(self, text: str) -> None:
        """Write a line that clients have to skip."""
        await self.response.write(f": {text}\n\n".encode())


async def _hang(request: web.Request) -> None:
    deadline = asyncio.get_running_loop().time() + _HANG
    while asyncio.get_running_loop().time() < deadline:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError
        await asyncio.sleep(0.05)


async def _send_half(request: web.Request, body: bytes, content_type: str) -> web.StreamResponse:
    response = await _prepared(request, content_type, length=len(body))
    await response.write(body[: len(body) // 2])
    _cut(request)
    raise ConnectionResetError


async def _send_slowly(
    request: web.Request, body: bytes, content_type: str, seconds: float
) -> web.StreamResponse:
    response = await _prepared(request, content_type, length=len(body))
    step = max(1, -(-len(body) // _PIECES))
    for start in range(0, len(body), step):
        await response.write(body[start : start + step])
        await asyncio.sleep(seconds / _PIECES)
    await response.write_eof()
    return response


async def _send_huge(request: web.Request, content_type: str) -> web.StreamResponse:
    response = await _prepared(request, content_type)
    await response.write(_JSON_HEAD)
    for _ in range(HUGE // len(_CHUNK)):
        await response.write(_CHUNK)
    await response.write(b'"}]}')
    await response.write_eof()
    return response


async def _send_bomb(request: web.Request, content_type: str) -> web.StreamResponse:
    response = await _prepared(request, content_type, encoding="gzip")
    for piece in _bomb():
        await response.write(piece)
    await response.write_eof()
    return response


def _bomb() -> list[bytes]:
    """Return pieces of a gzip stream whose middle ones all unpack to one chunk each."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(_JSON_HEAD) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(_CHUNK) + packer.flush(zlib.Z_FULL_FLUSH)
    return [head, *[middle] * (HUGE // len(_CHUNK)), packer.flush()]


async def _prepared(
    request: web.Request, content_type: str, *, length: int | None = None, encoding: str = ""
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type})
    if encoding:
        response.headers["Content-Encoding"] = encoding
    if length is not None:
        response.content_length = length
    await response.prepare(request)
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
