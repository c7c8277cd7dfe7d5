"""Sending objects: the bytes of images, whole or in part, with headers that keep them harmless."""

import re
from contextlib import aclosing
from typing import Final

from aiohttp import web

from service.context import Context
from storage.errors import Missing
from storage.local import LocalObjects
from storage.objects import Objects, disposition


_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, max-age=300",
    "Accept-Ranges": "bytes",
}


async def open_link(request: web.Request, context: Context) -> web.StreamResponse:
    """Send what a link opens that this service has signed itself."""
    objects = context.objects
    if not isinstance(objects, LocalObjects):
        raise Missing("There is nothing at this address.")
    opened = objects.open_link(request.match_info["key"], request.query, now=context.clock())
    return await _send(
        request, objects, opened.key, opened.content_type, opened.disposition, etag=None
    )


async def send_object(
    request: web.Request,
    objects: Objects,
    key: str,
    *,
    content_type: str,
    filename: str,
    etag: str | None,
) -> web.StreamResponse:
    """Send an object as a download of that type and name; honours Range and If-None-Match."""
    return await _send(request, objects, key, content_type, disposition(filename), etag=etag)


async def _send(
    request: web.Request,
    objects: Objects,
    key: str,
    content_type: str,
    content_disposition: str,
    *,
    etag: str | None,
) -> web.StreamResponse:
    stat = await objects.stat(key)
    if stat is None:
        raise Missing("The image is gone.", code="image_not_found")
    headers = {"Content-Type": content_type, "Content-Disposition": content_disposition, **_SAFE}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
        if _is_known(etag, request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=headers)
    start, end = _wanted(request, stat.size)
    if request.headers.get("If-Range", f'"{etag}"') != f'"{etag}"':  # a part of another file
        start, end = 0, stat.size
    if start >= end:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{stat.size}"})
    answer = web.StreamResponse(status=200 if end - start == stat.size else 206, headers=headers)
    if answer.status == 206:
        answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
    answer.content_length = end - start
    if request.method == "HEAD":
        await answer.prepare(request)
        return answer
    stream = await objects.stream(key, start=start, end=end)
    if stream is None:
        raise Missing("The image is gone.", code="image_not_found")
    async with aclosing(stream):
        await answer.prepare(request)
        async for chunk in stream:
            await answer.write(chunk)
    await answer.write_eof()
    return answer


def _is_known(etag: str, tags: str) -> bool:
    return tags.strip() == "*" or f'"{etag}"' in tags


def _wanted(request: web.Request, size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last; a range not understood means all."""
    match = _RANGE.fullmatch(request.headers.get("Range", "")[:60])
    if match is None or not (match[1] or match[2]):
        return 0, size
    if not match[1]:
        return max(0, size - int(match[2])), size
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (start, end) if start < size else (size, size)
