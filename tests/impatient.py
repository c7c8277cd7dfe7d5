"""A proxy as stands before many services: it cuts a connection on which nothing comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


@asynccontextmanager
async def impatient(target: str, cut: float) -> AsyncIterator[str]:
    """Pass everything on both ways, until nothing came back for `cut` seconds."""
    where = urlsplit(target)

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float | None
    ) -> None:
        try:
            while data := await asyncio.wait_for(reader.read(65_536), idle):
                writer.write(data)
                await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(where.hostname, where.port)
        await asyncio.gather(pump(reader, forth, None), pump(back, writer, cut))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
