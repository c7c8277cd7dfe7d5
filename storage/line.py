"""A line to Redis: one connection on which many callers' commands are under way at the same time.

A connection that is asked for one command at a time spends most of its cost on the asking. Here
what is said in one turn of the event loop leaves in one write, nobody waits for the answers to what
was said before, and answers are told apart by their order. Connecting, signing in and reading are
redis-py's.
"""

import asyncio
from collections import deque
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError


Argument: TypeAlias = str | bytes | int | float
Answer: TypeAlias = "asyncio.Future[Any]"

STALE: Final = (
    30.0  # seconds of silence after which a connection may be dead without having said so
)
_SERIALIZER: Final = HiredisRespSerializer()


class Line:
    """Carries commands over one connection of `redis`, made when it is first needed.

    An answer that takes longer than `timeout` seconds ends the connection and, with redis-py's
    `TimeoutError` or `ConnectionError`, all that is under way on it: whether those commands were
    carried out is not known. What comes after them goes over a new connection.
    """

    def __init__(self, redis: Redis, *, timeout: float) -> None:
        self._redis = redis
        self._timeout = timeout
        self._unsent: list[tuple[bytes, str, Answer]] = []
        self._sent: deque[tuple[float, str, Answer]] = deque()
        self._connection: AbstractConnection | None = None
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._parting: set[asyncio.Task[None]] = set()
        self._patience: float | None = None
        self._used = 0.0

    def say(self, *command: Argument) -> Answer:
        """Send a command off; await the future for its answer, which redis-py's errors may be."""
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        packed = b"".join(_SERIALIZER.pack(*command))  # type: ignore[arg-type]  # mistyped there
        self._unsent.append((packed, str(command[0]), answer))
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        return answer

    async def close(self) -> None:
        """Wait for what is under way, within the timeout, and hang up."""
        if self._sent or self._unsent:
            waiting = [answer for _, _, answer in (*self._sent, *self._unsent)]
            await asyncio.wait(waiting, timeout=self._timeout)
        self._hang_up(RedisConnectionError("closed"))
        if self._parting:
            await asyncio.wait(self._parting, timeout=self._timeout)

    async def _send(self) -> None:
        """Send whatever was said since the last turn, until nothing is left."""
        try:
            while self._unsent:
                connection = await self._connected()
                batch, self._unsent = self._unsent, []
                now = asyncio.get_running_loop().time()
                self._sent.extend((now, name, answer) for _, name, answer in batch)
                self._used = now
                self._watch_over()
                packed = b"".join(part for part, _, _ in batch)
                await connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._hang_up(error)
            self._refuse_unsent(error)
        finally:
            self._sender = None

    async def _connected(self) -> AbstractConnection:
        now = asyncio.get_running_loop().time()
        if self._connection is not None and not self._sent and now - self._used > STALE:
            self._hang_up(RedisConnectionError("stale"))
        if self._connection is None:
            connection = await self._redis.connection_pool.get_connection()
            # The watch keeps the time for all commands together.
            self._patience, connection.socket_timeout = connection.socket_timeout, None
            self._connection = connection
            self._reader = asyncio.create_task(self._read(connection))
        return self._connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Hand out answers in the order of their commands, until the connection ends."""
        try:
            while True:
                try:
                    answer = await connection.read_response(
                        disable_decoding=True, disconnect_on_error=False
                    )
                except ResponseError as error:
                    answer = error
                _, name, future = self._sent.popleft()
                _settle(future, name, answer, self._redis)
        except (RedisError, OSError, IndexError) as error:
            if connection is self._connection:
                self._hang_up(error)

    def _watch_over(self) -> None:
        if self._watch is None and self._sent:
            at = self._sent[0][0] + self._timeout
            self._watch = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        """End a connection that has kept somebody waiting for too long."""
        self._watch = None
        now = asyncio.get_running_loop().time()
        if self._sent and now >= self._sent[0][0] + self._timeout:
            self._hang_up(RedisTimeoutError("Redis does not answer."))
        else:
            self._watch_over()

    def _hang_up(self, error: Exception) -> None:
        """Drop the connection, and with it whoever waits for an answer on it."""
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        while self._sent:
            _, _, future = self._sent.popleft()
            if not future.done():
                future.set_exception(error)
        if connection is not None:
            parting = asyncio.get_running_loop().create_task(self._part(connection))
            self._parting.add(parting)
            parting.add_done_callback(self._parting.discard)

    async def _part(self, connection: AbstractConnection) -> None:
        """Give a connection back, for another that signs in within its own time."""
        connection.socket_timeout = self._patience
        writer = connection._writer  # noqa: SLF001 — redis-py waits for a peer that takes nothing
        if isinstance(writer, asyncio.StreamWriter):
            writer.transport.abort()
        try:
            await connection.disconnect(nowait=True)
        finally:
            await self._redis.connection_pool.release(connection)

    def _refuse_unsent(self, error: Exception) -> None:
        unsent, self._unsent = self._unsent, []
        for _, _, future in unsent:
            if not future.done():
                future.set_exception(error)


def _settle(future: Answer, name: str, answer: Any, redis: Redis) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
        return
    callback = redis.response_callbacks.get(name)
    future.set_result(callback(answer) if callback is not None else answer)
