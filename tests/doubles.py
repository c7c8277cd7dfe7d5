"""What stands in for the world in unit tests: time, Redis, upstreams, and a place that fails."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, TypeAlias

from arq.connections import ArqRedis
from fakeredis.aioredis import FakeAsyncRedisConnection, FakeRedis, FakeWriter

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from storage.local import LocalObjects
from storage.objects import ObjectsRefused, ObjectsUnavailable
from storage.request import Adaptation
from tests import images
from worker.provider import Order, Picture, Progress, ProviderError, Reply


class Clock:
    """Unix seconds that move only when a test moves them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class _Writer(FakeWriter):
    """Can be broken off at once, as a real transport can."""

    @property
    def transport(self) -> Self:
        return self

    def abort(self) -> None:
        self.close()


class _Connection(FakeAsyncRedisConnection):
    async def _connect(self) -> None:
        await super()._connect()
        assert self._sock is not None
        self._writer = _Writer(self._sock)


def fake_redis() -> ArqRedis:
    """Return a client of a new Redis that lives inside this process."""
    return ArqRedis(FakeRedis(connection_class=_Connection).connection_pool)


# -- upstreams -------------------------------------------------------------------------------------

Act: TypeAlias = Callable[[Order, Progress], Awaitable[Reply]]

PNG = images.picture("png")


class Painter:
    """A provider that acts by its script, one act for each call; the last act is repeated."""

    def __init__(self, *script: Act) -> None:
        self.orders: list[Order] = []
        self.at_once = 0
        self.most_at_once = 0
        self._script = list(script) or [paint()]

    async def generate(self, order: Order, progress: Progress) -> Reply:
        self.orders.append(order)
        return await self._act(order, progress)

    async def _act(self, order: Order, progress: Progress) -> Reply:
        act = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await act(order, progress)
        finally:
            self.at_once -= 1


class TaskPainter(Painter):
    """A painter whose upstream keeps tasks, which another worker can go on with."""

    def __init__(self, *script: Act) -> None:
        super().__init__(*script)
        self.resumed: list[str] = []

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        self.resumed.append(upstream_id)
        return await self._act(order, progress)


def paint(
    *,
    cost: float | None = 0.05,
    data: bytes = PNG,
    short_by: int = 0,
    last: Failure | None = None,
    adaptations: tuple[Adaptation, ...] = (),
    text: str | None = None,
) -> Act:
    """Make every picture that is ordered, but for the last `short_by`, or for the `last` one."""

    async def act(order: Order, progress: Progress) -> Reply:
        failures = () if last is None else (last,)
        count = order.n - short_by - len(failures)
        return Reply(
            outcomes=(*(Picture(data=data),) * count, *failures),
            cost=cost,
            usage=Usage(images=count),
            adaptations=adaptations,
            text=text,
        )

    return act


def refuse(
    code: FailureCode,
    *,
    unknown: bool = False,
    retry_after: float | None = None,
    cost: float | None = None,
) -> Act:
    """Give no picture at all."""

    async def act(order: Order, progress: Progress) -> Reply:
        raise ProviderError(
            f"The upstream said {code}.",
            code=code,
            outcome_unknown=unknown,
            retry_after=retry_after,
            cost=cost,
        )

    return act


def refuse_each(code: FailureCode) -> Act:
    """Answer, with a reason in place of each picture."""

    async def act(order: Order, progress: Progress) -> Reply:
        failure = Failure(code=code, message="Not this one.")
        return Reply(outcomes=(failure,) * order.n)

    return act


def break_down(fault: Exception) -> Act:
    """Fail as a provider with a fault of its own does."""

    async def act(order: Order, progress: Progress) -> Reply:
        raise fault

    return act


def hang() -> Act:
    """Never answer."""

    async def act(order: Order, progress: Progress) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    return act


def submit(upstream_id: str, then: Act) -> Act:
    """Tell the id of a task before anything else; several calls get ids of their own."""

    async def act(order: Order, progress: Progress) -> Reply:
        await progress.submitted(f"{upstream_id}-{order.first_index}")
        return await then(order, progress)

    return act


class Gate:
    """An act that waits: a test sees that it has begun, and lets it go on."""

    def __init__(self, then: Act) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self._then = then

    async def __call__(self, order: Order, progress: Progress) -> Reply:
        self.begun.set()
        await self.open.wait()
        return await self._then(order, progress)


# -- objects ---------------------------------------------------------------------------------------


class FailingObjects(LocalObjects):
    """A folder that is away for the next `away` operations, or refuses them all."""

    def __init__(self, path: Path, *, away: int = 0, refuses: bool = False) -> None:
        super().__init__(path, secret=b"x" * 32, base_url="https://darkroom.example", fsync=False)
        self.away = away
        self.refuses = refuses
        self.puts = 0

    async def put(self, key: str, data: bytes | Path, *, content_type: str) -> None:
        self.puts += 1
        self._fail()
        await super().put(key, data, content_type=content_type)

    async def get(self, key: str, *, limit: int) -> bytes | None:
        self._fail()
        return await super().get(key, limit=limit)

    def _fail(self) -> None:
        if self.refuses:
            raise ObjectsRefused("No permission for this bucket.")
        if self.away > 0:
            self.away -= 1
            raise ObjectsUnavailable("The objects do not answer.")
