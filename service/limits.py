"""How much of a request is taken in, and how long that may take.

What can be refused from the headers is refused before a byte of the body is read. A body that stops
coming is given up, as is one that drips: aiohttp itself would wait for either for ever.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from service.settings import LimitSettings
from storage.errors import Error, Invalid, TooLarge, Unavailable


class TooSlow(Error):
    """The body did not come within the time that it has."""


class UnsupportedBody(Error):
    """The body is of a type or an encoding that is not read here."""


class Room:
    """How many bytes of large bodies one process holds in memory at one time, and the most."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> None:
        """Take room for a body; raises `Unavailable` when there is none."""
        if size > self._left:
            raise Unavailable(
                "Too many large bodies are under way; send images as files of a form.",
                code="too_many_large_bodies",
                retry_after=2.0,
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give room back."""
        self._left += size


ROOM: Final = web.AppKey("room", Room)


def check_headers(request: web.Request, limits: LimitSettings) -> None:
    """Refuse a body by what its headers say: too long, compressed, or of two lengths."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedBody(
            "Send the body as it is: no Content-Encoding is decoded.",
            param="Content-Encoding",
            code="unsupported_encoding",
        )
    length = request.content_length
    if length is not None and length > limits.request_bytes:
        raise _too_large(limits)


async def read_body(request: web.Request, limits: LimitSettings) -> bytes:
    """Return the whole body; raises `TooLarge`, `TooSlow` or `Invalid` when it breaks off."""
    content = request.content
    if content.is_eof():  # a small body has come with its headers
        body = content.read_nowait(-1)
        if len(body) > limits.request_bytes:
            raise _too_large(limits)
        return body
    return b"".join([chunk async for chunk in body_chunks(request, limits)])


async def body_chunks(request: web.Request, limits: LimitSettings) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, within its limits of bytes, idle time and total time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.body_total
    taken = 0
    while True:
        try:
            async with asyncio.timeout_at(min(loop.time() + limits.body_idle, end)):
                chunk = await request.content.readany()
        except TimeoutError:
            raise TooSlow("The body did not come in time.", code="body_timeout") from None
        except (HTTPException, ConnectionError, ValueError) as error:
            raise Invalid("The body broke off.", code="body_incomplete") from error
        if not chunk:
            return
        taken += len(chunk)
        if taken > limits.request_bytes:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: LimitSettings) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limits.request_bytes} bytes.", code="request_too_large"
    )
