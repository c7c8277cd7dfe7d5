"""Server-sent events, read as they come.

Some upstreams send previews and results as an event stream in which one line holds megabytes of
base64, so a line is searched once, not again with each chunk, and its length is bounded.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from worker.exchange import TooBig


MAX_EVENT: Final = 64 * 1024 * 1024


async def lines(chunks: AsyncIterable[bytes], *, limit: int) -> AsyncIterator[bytes]:
    """Yield each line of *chunks* without its LF or CRLF; raises `TooBig` over *limit* bytes."""
    pending: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if size + len(part) > limit:
                raise TooBig(limit)
            yield b"".join((*pending, part)).removesuffix(b"\r")
            pending.clear()
            size = 0
        pending.append(rest)
        size += len(rest)
        if size > limit:
            raise TooBig(limit)
    if size:
        yield b"".join(pending).removesuffix(b"\r")


async def sse(
    chunks: AsyncIterable[bytes], *, limit: int = MAX_EVENT
) -> AsyncIterator[tuple[str, bytes]]:
    """Yield (event, data) for each event of *chunks*; an event without a name is a "message".

    Comments, ids and retry hints are skipped, and so is an event without data. The last event
    counts even without the blank line after it. Raises `TooBig` for one of over *limit* bytes.
    """
    event, size = "message", 0
    data: list[bytes] = []
    async for line in lines(chunks, limit=limit):
        if not line:
            if data:
                yield event, b"\n".join(data)
            event, data, size = "message", [], 0
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value.decode(errors="replace")
        elif field == b"data":
            data.append(value)
            size += len(value) + 1
            if size > limit:
                raise TooBig(limit)
    if data:
        yield event, b"\n".join(data)
