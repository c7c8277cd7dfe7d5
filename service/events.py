"""Server-sent events: an answer that comes in pieces while a job goes on.

A comment every now and then keeps proxies from cutting a line on which nothing happens. A client
that does not read is given up, so that nobody's slowness holds memory for ever.
"""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import orjson
from aiohttp import web


PATIENCE: Final = 60.0  # seconds that a client may take to read one event
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events
    "Connection": "keep-alive",
}


class Events:
    """One open stream; used with `async with`, which ends it."""

    def __init__(self, request: web.Request, headers: dict[str, str]) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={**_HEADERS, **headers})

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._write(b"", end=True)

    async def send(
        self, data: dict[str, Any] | bytes, *, event: str | None = None, mark: str | None = None
    ) -> None:
        """Send one event; its data is JSON, or bytes without a line end. `mark` is its id."""
        lines = []
        if event is not None:
            lines.append(b"event: " + event.encode())
        if mark is not None:
            lines.append(b"id: " + mark.encode())
        lines.append(b"data: " + (data if isinstance(data, bytes) else orjson.dumps(data)))
        await self._write(b"\n".join(lines) + b"\n\n")

    async def keep_alive(self) -> None:
        """Say that there is nothing to say."""
        await self._write(b": keep-alive\n\n")

    async def _write(self, data: bytes, *, end: bool = False) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await (self.response.write_eof() if end else self.response.write(data))
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client does not read") from None
