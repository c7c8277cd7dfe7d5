"""A TCP line that can be made bad while it is in use: slow, thin, cut, reset, or a black hole.

It stands between two processes that know nothing of it. What a line does is one value, so a test
says what is wrong with the network in one assignment and takes it back in another. Bytes are never
lost or changed: a line that was dead for a while goes on where it stopped, as TCP does.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto


CHUNK = 64 * 1024
_IN_FLIGHT = 256  # chunks on a slow line before its sender has to wait
_LOOK = 0.02


class State(Enum):
    """Whether bytes pass. DOWN refuses connections; RESET takes and resets them; HOLE is silent."""

    OPEN = auto()
    DOWN = auto()
    RESET = auto()
    HOLE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a line is. Times are seconds for each direction; `rate` is bytes a second.

    `piece` hands bytes on in pieces of at most that size; `limit` cuts a connection after so many
    bytes from the server.
    """

    state: State = State.OPEN
    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    piece: int | None = None
    limit: int | None = None


FINE = Line()
DOWN = Line(state=State.DOWN)
RESET = Line(state=State.RESET)
HOLE = Line(state=State.HOLE)


class Proxy:
    """A line to `target`, a port of loopback; `port` is its own end."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.line = FINE
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Return how many connections there are."""
        return len(self._pairs)

    async def become(self, line: Line) -> None:
        """Change the line, for the connections that are there too."""
        self.line = line
        if line.state is State.DOWN:
            await self._deafen()
        elif self._server is None:
            await self._listen()
        if line.state in {State.DOWN, State.RESET}:
            await self.cut()

    async def cut(self) -> None:
        """Reset every connection."""
        for pair in tuple(self._pairs):
            pair.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def close(self) -> None:
        """End the line."""
        await self._deafen()
        await self.cut()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, backlog=1024, limit=CHUNK
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.line.state is State.RESET:
            _reset(writer)
            return
        pair = asyncio.create_task(self._serve(reader, writer))
        self._pairs.add(pair)
        pair.add_done_callback(self._pairs.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        end: Callable[[asyncio.StreamWriter], None] = _reset
        try:
            await self._passable()
            answers, far = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far, limited=False))
                both.create_task(self._carry(answers, writer, limited=True))
            end = asyncio.StreamWriter.close
        except (OSError, asyncio.CancelledError, BaseExceptionGroup):
            pass
        finally:
            end(writer)
            if far is not None:
                end(far)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limited: bool
    ) -> None:
        """Hand on what comes, each chunk after its time on the way."""
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        loop = asyncio.get_running_loop()

        async def leave() -> None:
            while True:
                chunk = await reader.read(_piece(self.line))
                delay = self.line.latency + self.line.jitter * random.random()
                await way.put((loop.time() + delay, chunk))
                if not chunk:
                    return

        leaving = asyncio.create_task(leave())
        passed, due = 0, 0.0
        try:
            while True:
                at, chunk = await way.get()
                due = max(due, at)  # what left first arrives first, whatever the jitter
                await asyncio.sleep(max(due - loop.time(), 0.0))
                await self._passable()
                limit = self.line.limit if limited else None
                if limit is not None and passed + len(chunk) > limit:
                    writer.write(chunk[: limit - passed])
                    await writer.drain()
                    raise ConnectionResetError
                if not chunk:
                    with suppress(OSError):
                        writer.write_eof()
                    return
                if self.line.rate is not None:
                    await asyncio.sleep(len(chunk) / self.line.rate)
                writer.write(chunk)
                await writer.drain()
                passed += len(chunk)
        finally:
            leaving.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await leaving

    async def _passable(self) -> None:
        while self.line.state is State.HOLE:
            await asyncio.sleep(_LOOK)


@asynccontextmanager
async def proxying(target: int) -> AsyncIterator[Proxy]:
    """Run a line to a port of loopback while the context lasts."""
    proxy = Proxy(target)
    await proxy.become(FINE)
    try:
        yield proxy
    finally:
        await proxy.close()


def _piece(line: Line) -> int:
    size = line.piece or CHUNK
    return size if line.rate is None else max(1, min(size, int(line.rate / 10)))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side is told at once, and of bytes that never came."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
