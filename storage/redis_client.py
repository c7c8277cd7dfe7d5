"""The way to Redis: bounded waits on every command, and its faults in our own words.

What Redis or the network cannot do becomes `Unavailable`, here and for everybody, so that no caller
knows redis-py's exceptions.
"""

import asyncio
import re
from collections.abc import Awaitable
from typing import Any, TypeAlias

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from storage.errors import Unavailable
from storage.line import Answer, Argument, Line
from storage.settings import RedisSettings


AnyRedis: TypeAlias = Redis

FULL = "store_full"
_TELLINGS = 40
_TELL_AGAIN = 0.25
_WROTE = "redis.call('DEL', '')\n"
# Before Redis 7, the word stands in the middle of what is said about a script.
_NO_WRITES = re.compile(r"(?:^|-)(?:OOM|MISCONF|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|BUSY)\b")


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
    return ArqRedis(pool)


def unavailable(error: Exception) -> Unavailable | None:
    """Return what a redis-py error means for a caller, or None when the fault is our own.

    The text of redis-py's errors is not passed on: it can hold the arguments of a command.
    """
    if isinstance(
        error, RedisConnectionError | RedisTimeoutError | BusyLoadingError | ReadOnlyError
    ):
        return Unavailable("The job store does not answer.", code="store_unavailable")
    if isinstance(error, OutOfMemoryError) or (
        isinstance(error, ResponseError) and _NO_WRITES.search(str(error)) is not None
    ):
        return Unavailable("The job store takes no writes.", code=FULL, retry_after=5.0)
    if isinstance(error, OSError | TimeoutError):
        return Unavailable("The job store does not answer.", code="store_unavailable")
    return None


class Commands:
    """Single commands to Redis, for many callers at once.

    Every method raises `storage.errors.Unavailable` when Redis does not answer within `timeout`
    seconds; the command may then have been carried out all the same.
    """

    def __init__(self, redis: AnyRedis, *, timeout: float = 2.0) -> None:
        self._redis = redis
        self._line = Line(redis, timeout=timeout)

    @property
    def redis(self) -> AnyRedis:
        """Return the client beneath, for what is no single command: blocking and subscribing."""
        return self._redis

    async def execute(self, *command: Argument) -> Any:
        """Carry out one command and return Redis's answer."""
        return await answered(self._line.say(*command))

    def issue(self, *command: Argument) -> Awaitable[Any]:
        """Send a command at once; await what is returned for Redis's answer."""
        return answered(self._line.say(*command))

    async def eval(
        self, script: str, keys: list[str], args: list[Argument], *, takes_in: bool = False
    ) -> Any:
        """Run a Lua script, sent as text each time: it costs no more and survives a failover.

        While Redis's memory is full, a script that takes something in is refused; any other goes on
        over the limit, since what was taken in must come to its end.
        """
        try:
            return await self.execute("EVAL", script, len(keys), *keys, *args)
        except Unavailable as error:
            if takes_in or error.code != FULL:
                raise
        # Redis refuses a script at its first write only: nothing of it was done.
        return await self.execute("EVAL", _WROTE + script, len(keys), *keys, *args)

    async def close(self) -> None:
        """Let what is under way end, then close every connection."""
        await self._line.close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


async def answered(answer: Answer) -> Any:
    """Return Redis's answer, with redis-py's errors put into our words."""
    try:
        return await answer
    except (RedisError, OSError) as error:
        if (plain := unavailable(error)) is not None:
            raise plain from error
        raise


async def stopped(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks that talk to Redis, and return when they have ended, whichever way.

    A task may have to be told more than once: before Python 3.12, `asyncio.wait_for`, by which
    redis-py sends, forgets a cancellation that comes in the moment of its success.
    """
    pending = set(tasks)
    for _ in range(_TELLINGS):
        if not pending:
            break
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_TELL_AGAIN)
    await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)
