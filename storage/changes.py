"""Changes: how those who wait for a job learn that it moved, without asking again and again.

A change is told once and to whoever listens at that moment; it is a wake-up and no record. So a
waiter listens first, reads the record second and only then waits, and it still looks now and then,
in case the line broke while something was told.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from storage import redis_keys
from storage.errors import Unavailable
from storage.redis_client import AnyRedis, stopped, unavailable


_SUBSCRIBE_TIMEOUT = 2.0
_READ_WAIT = 5.0
_MOST_HELD = 64


class Changes:
    """One subscription of a process, shared by all its waiters."""

    def __init__(self, redis: AnyRedis) -> None:
        self._redis = redis
        self._pubsub: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._listeners: dict[str, set[asyncio.Queue[dict[str, Any]]]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        # One at a time: a PubSub asked twice while it connects would make two connections.
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def of(self, job_id: str) -> AsyncIterator["Feed"]:
        """Listen to one job from here on; raises `Unavailable` when that fails."""
        news: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_HELD)
        self._listeners.setdefault(job_id, set()).add(news)
        try:
            await self._subscribe(redis_keys.changes(job_id))
            yield Feed(news)
        finally:
            listeners = self._listeners[job_id]
            listeners.discard(news)
            if not listeners:
                del self._listeners[job_id]

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            await stopped(self._reader)
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare

    async def _subscribe(self, channel: str) -> None:
        """Join a channel and stay on it: the next job that shares it will not have to wait."""
        until = asyncio.get_running_loop().time() + _SUBSCRIBE_TIMEOUT
        try:
            async with asyncio.timeout_at(until):
                confirmed = self._confirmed.get(channel) or await self._ask(channel)
            # One timeout for both would not do: redis-py may have swallowed it; see `stopped`.
            async with asyncio.timeout_at(until):
                await confirmed.wait()
        except TimeoutError as error:
            message = "The job store does not answer."
            raise Unavailable(message, code="store_unavailable") from error

    async def _ask(self, channel: str) -> asyncio.Event:
        """Ask for a channel; whoever does not get to the end of it leaves that to the next."""
        confirmed = self._confirmed[channel] = asyncio.Event()
        asked = False
        try:
            async with self._asking:
                await self._open().subscribe(channel)
            asked = True
        except (RedisError, OSError) as error:
            raise unavailable(error) or Unavailable("The job store does not answer.") from error
        finally:
            if not asked:
                self._confirmed.pop(channel, None)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        return confirmed

    def _open(self) -> PubSub:
        if self._pubsub is None:
            self._pubsub = self._redis.pubsub()
        return self._pubsub

    async def _read(self) -> None:
        """Pass on what is told; redis-py joins the channels anew after a reconnect."""
        while True:
            try:
                message = await self._open().get_message(timeout=_READ_WAIT)
            except (RedisError, OSError):
                await asyncio.sleep(0.2)
                continue
            if message is None:
                continue
            if message["type"] == "subscribe":
                if (confirmed := self._confirmed.get(message["channel"].decode())) is not None:
                    confirmed.set()
            elif message["type"] == "message":
                self._pass_on(orjson.loads(message["data"]))

    def _pass_on(self, news: dict[str, Any]) -> None:
        for listener in self._listeners.get(news.pop("job"), ()):
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(news)


class Feed:
    """What is told of one job, in order; the oldest is dropped when nobody reads."""

    def __init__(self, news: "asyncio.Queue[dict[str, Any]]") -> None:
        self._news = news

    async def next(self, timeout: float) -> dict[str, Any] | None:
        """Return what is told next, or None when nothing was within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._news.get()
        except TimeoutError:
            return None
