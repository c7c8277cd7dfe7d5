"""The way to Redis: bounded waits on every command, and few writes for many callers.

A connection that is asked for one command at a time spends most of its cost on the asking. Commands
that are issued while others are under way are therefore sent together, in one write, and answered
in order; callers see single commands. What Redis or the network cannot do becomes `Unavailable`,
here and for everybody, so that no caller knows redis-py's exceptions.
"""

import asyncio
from collections import deque
from typing import Any, TypeAlias

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from storage.errors import Unavailable
from storage.settings import RedisSettings


Argument: TypeAlias = str | bytes | int | float
AnyRedis: TypeAlias = Redis

_SERIALIZER = HiredisRespSerializer()
_MOST_TOGETHER = 128
_MOST_FLIGHTS = 4
_NO_WRITES = ("OOM", "MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "BUSY")


def connect(settings: RedisSettings, *, socket_timeout: float | None = None) -> ArqRedis:
    """Return a client whose every wait is bounded; it dials when it is first used.

    Nothing is sent twice on its own: a command whose reply was lost may have been carried out, and
    only its caller knows whether saying it again is harmless.
    """
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=settings.max_connections,
        timeout=settings.socket_timeout,
        socket_timeout=socket_timeout or settings.socket_timeout,
        socket_connect_timeout=settings.connect_timeout,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_PackedInC, kind), {})
    return ArqRedis(pool)


class _PackedInC:
    """Packs commands by hiredis, as redis-py does only for its blocking half: 3 µs and not 50."""

    def pack_command(self, *args: Argument) -> list[bytes]:
        packed: list[bytes] = _SERIALIZER.pack(*args)  # type: ignore[arg-type]  # mistyped there
        return packed


def unavailable(error: Exception) -> Unavailable | None:
    """Return what a redis-py error means for a caller, or None when the fault is our own.

    The text of redis-py's errors is not passed on: it can hold the arguments of a command.
    """
    if isinstance(
        error, RedisConnectionError | RedisTimeoutError | BusyLoadingError | ReadOnlyError
    ):
        return Unavailable("The job store does not answer.", code="store_unavailable")
    if isinstance(error, OutOfMemoryError) or (
        isinstance(error, ResponseError) and str(error).startswith(_NO_WRITES)
    ):
        return Unavailable("The job store takes no writes.", code="store_full", retry_after=5.0)
    if isinstance(error, OSError | TimeoutError):
        return Unavailable("The job store does not answer.", code="store_unavailable")
    return None


class Commands:
    """Single commands to Redis, sent together when they come together.

    Every method raises `storage.errors.Unavailable` when Redis does not answer in time; the command
    may then have been carried out all the same.
    """

    def __init__(self, redis: AnyRedis) -> None:
        self._redis = redis
        self._waiting: deque[tuple[tuple[Argument, ...], asyncio.Future[Any]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._flying = 0
        self._boarding = False

    @property
    def redis(self) -> AnyRedis:
        """Return the client beneath, for what is no single command: blocking and subscribing."""
        return self._redis

    async def execute(self, *command: Argument) -> Any:
        """Carry out one command and return Redis's answer."""
        return await self.issue(*command)

    def issue(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command, together with others issued now; await the future for its answer."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        # Flights count themselves: a task is called done only some time after its end, and a
        # command that came in between would wait for ever.
        if self._flying < _MOST_FLIGHTS and not self._boarding:
            self._flying += 1
            self._boarding = True
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return future

    async def eval(self, script: str, keys: list[str], args: list[Argument]) -> Any:
        """Run a Lua script, sent as text each time: it costs no more and survives a failover."""
        return await self.execute("EVAL", script, len(keys), *keys, *args)

    async def close(self) -> None:
        """Let what is under way end, then close every connection."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=5)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _fly(self) -> None:
        self._boarding = False
        try:
            await self._carry()
        finally:
            self._flying -= 1

    async def _carry(self) -> None:
        while self._waiting:
            together = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))
            ]
            try:
                answers = await self._send([command for command, _ in together])
            except Exception as error:  # noqa: BLE001 — each caller gets it, and the flight goes on
                answers = [error] * len(together)
            except BaseException:
                for _, future in together:
                    future.cancel()
                raise
            for (_, future), answer in zip(together, answers, strict=True):
                _settle(future, answer)

    async def _send(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        if len(commands) == 1:
            only: Any = self._redis.execute_command(*commands[0])  # type: ignore[no-untyped-call]  # bare
            return [await only]
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(await pipe.execute(raise_on_error=False))


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(unavailable(answer) or answer)
    else:
        future.set_result(answer)
