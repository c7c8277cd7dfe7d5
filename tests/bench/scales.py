"""What the trials of hostile clients weigh and time with: memory, and calls one by one."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import psutil

from tests.bench.table import quantile
from tests.processes import Installation


class Weight:
    """The memory of the service: before, and by how much it has grown at most since."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.before = self.most = self._process.memory_info().rss

    @property
    def growth(self) -> int:
        """Return by how many bytes the service was larger than before, at most."""
        return self.most - self.before

    async def watch(self) -> None:
        """Look every few milliseconds until cancelled."""
        while True:
            self.most = max(self.most, self._process.memory_info().rss)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def weighed(here: Installation) -> AsyncIterator[Weight]:
    """Watch what the service weighs."""
    weight = Weight(here.service.pid)
    watching = asyncio.create_task(weight.watch())
    try:
        yield weight
    finally:
        await asyncio.sleep(0.1)
        watching.cancel()


def calm_p99(seconds: list[float]) -> float:
    """Return the median of the p99 of each tenth: a burst of other processes weighs little."""
    size = max(1, len(seconds) // 10)
    tenths = [seconds[start : start + size] for start in range(0, len(seconds), size)]
    return statistics.median(quantile(tenth, 0.99) for tenth in tenths)


async def calls(client: aiohttp.ClientSession, count: int, path: str = "/livez") -> list[float]:
    """Return the seconds of calls, one after another."""

    async def call() -> None:
        async with client.get(path) as answer:
            await answer.read()
            assert answer.status == 200

    return [await timed(call) for _ in range(count)]


async def timed(act: Callable[[], Awaitable[None]]) -> float:
    """Return how long something takes, in seconds."""
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began
