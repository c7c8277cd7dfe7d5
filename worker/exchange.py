"""One request and its answer: bounded in time and bytes, with every way to fail put into few words.

What can go wrong, as a tree:

    WebError            `sent`: whether the request was, or may have been, received whole
      Unreachable       no answer, or not a whole one
        Refused         a foreign URL that we do not call; reads like any unreachable address
      TimedOut          the total time ran out
      TooBig            the answer is over its limit

`sent` decides about money. After False the upstream has not got the whole body and cannot have
started the work; in doubt it is True, as when a keep-alive connection dies with a request in it. No
POST is ever sent twice: aiohttp repeats a request, once, only if its method is idempotent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from worker.guard import Denied
from worker.inflate import Garbled, Inflater, Overflow


SLICE: Final = 1024 * 1024
HIDDEN: Final = "The address cannot be reached."

Body: TypeAlias = bytes | aiohttp.FormData | None
Request: TypeAlias = Callable[..., Coroutine[Any, Any, aiohttp.ClientResponse]]


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
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Stream:
    """An answer whose body is still coming: iterate over its chunks or `read` it, once.

    Both give plain bytes. Both raise `TooBig` over *limit* bytes, and `Unreachable` when the body
    breaks off or is compressed in a way that cannot be read.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, tracker: aiohttp.UploadTracker, limit: int
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._tracker = tracker
        self._limit = limit
        self._taken = 0
        self._encoding = self.headers.get("Content-Encoding", "identity").lower()

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._encoding != "identity":
            return b"".join([chunk async for chunk in self])
        # The hot path: megabytes of base64, copied only where they are joined.
        chunks = []
        try:
            while chunk := await self._next():
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            chunks.clear()  # the traceback of a failure would hold them while anybody holds it

    async def beginning(self, size: int) -> bytes:
        """Return the first *size* bytes at most, or what came of them if the rest is unreadable."""
        body = bytearray()
        try:
            async for chunk in self:
                body += chunk
                if len(body) >= size:
                    break
        except (TooBig, Unreachable):
            pass
        return bytes(body[:size])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks as they come."""
        if self._encoding == "identity":
            while chunk := await self._next():
                yield chunk
            return
        try:
            inflater = Inflater(self._encoding, limit=self._limit)
            while chunk := await self._next():
                for piece in inflater.feed(chunk):
                    yield piece
                    await asyncio.sleep(0)
            inflater.finish()
        except Overflow:
            raise TooBig(self._limit) from None
        except Garbled:
            raise Unreachable("The answer is compressed and unreadable.", sent=True) from None

    async def _next(self) -> bytes:
        """Return the next chunk as it came, or nothing at the end."""
        if self._taken == 0 and (self._response.content_length or 0) > self._limit:
            raise TooBig(self._limit)
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _explained(error, self._tracker) from None
        self._taken += len(chunk)
        if self._taken > self._limit:
            raise TooBig(self._limit)
        return chunk


@asynccontextmanager
async def exchange(
    request: Request, data: Body, *, timeout: float, limit: int
) -> AsyncIterator[Stream]:
    """Send *request* with *data* and give its answer; redirects are answers.

    *timeout*, in seconds, covers all until the end of the context, the caller's own work included.
    Raises `WebError`.
    """
    tracker = aiohttp.UploadTracker()
    payload = _Slices(data) if isinstance(data, bytes) else data
    try:
        async with asyncio.timeout(timeout) as clock:
            try:
                response = await request(
                    data=payload, allow_redirects=False, upload_tracker=tracker
                )
            except (aiohttp.ClientError, OSError) as error:
                raise _explained(error, tracker) from None
            async with response:
                yield Stream(response, tracker, limit)
    except TimeoutError:
        if not clock.expired():
            raise
        raise TimedOut("There was no whole answer in time.", sent=_sent(tracker)) from None


class _Slices(aiohttp.BytesPayload):
    """A body written slice by slice, so that a large one does not stall the loop.

    aiohttp's own class writes it in one go, and warns about that from a mebibyte on.
    """

    def __init__(self, value: bytes) -> None:
        super().__init__(b"")
        self._value = value
        self._size = len(value)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), SLICE):
            await writer.write(view[start : start + SLICE])


def _sent(tracker: aiohttp.UploadTracker) -> bool:
    upload = tracker.upload_complete
    return tracker.attempts > 1 or (upload.done() and upload.exception() is None)


def _explained(error: Exception, tracker: aiohttp.UploadTracker) -> Unreachable:
    """Return *error* in words of ours: those of aiohttp quote URLs, queries and all."""
    match error:
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, Denied):
            return Refused()
        case aiohttp.ClientConnectorDNSError():
            reason = "the name of the server cannot be resolved"
        case aiohttp.ClientSSLError():
            reason = "the TLS handshake failed"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            reason = "the server cannot be reached"
        case aiohttp.InvalidURL():
            reason = "the URL cannot be read"
        case aiohttp.ClientPayloadError():
            reason = "it broke off"
        case aiohttp.ClientResponseError():
            reason = "what came is not HTTP"
        case _:
            reason = "the connection was lost"
    return Unreachable(f"No answer came: {reason}.", sent=_sent(tracker))
