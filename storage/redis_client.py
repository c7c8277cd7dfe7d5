"""The way to Redis: bounded waits on every command, and its faults in our own words.

What Redis or the network cannot do becomes `Unavailable`, here and for everybody, so that no caller
knows redis-py's exceptions.
"""

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
        isinstance(error, ResponseError) and str(error).startswith(_NO_WRITES)
    ):
        return Unavailable("The job store takes no writes.", code="store_full", retry_after=5.0)
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

    async def eval(self, script: str, keys: list[str], args: list[Argument]) -> Any:
        """Run a Lua script, sent as text each time: it costs no more and survives a failover."""
        return await self.execute("EVAL", script, len(keys), *keys, *args)

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
