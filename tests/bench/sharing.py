"""Trials of sharing with real processes: a flood beside others, and more than can be done.

Each trial returns plain figures; the benchmark shows them, the integration tests hold their bars.
"""

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from storage.jobs import Jobs
from storage.redis_client import Commands, connect
from storage.request import Request
from storage.settings import RedisSettings, RetentionSettings
from storage.tenant import Tenant, new_key
from storage.tenants import Tenants
from tests.bench.table import Row, quantile
from tests.integration.walk import all_ended
from tests.processes import Installation, installed
from tests.samples import a_job


SECONDS: Final = 0.25  # of one call
SLOTS: Final = 4


async def run() -> list[Row]:
    """Run both trials."""
    with tempfile.TemporaryDirectory() as folder:
        beside = await flooded(Path(folder) / "flooded")
        overrun = await overload(Path(folder) / "overload")
    return [
        Row(
            what="a tenant's first job beside 10,000 of another: ms to its call",
            ours=f"{beside.loaded * 1000:.1f}",
            baseline=f"unloaded {beside.unloaded * 1000:.1f}",
            bar="<= 2 x, or 30",
            good=beside.is_fair,
        ),
        *(
            Row(
                what=f"{seen.times:g} times what can be done: goodput, jobs/s",
                ours=f"{seen.goodput:.1f}",
                baseline=f"most {overrun.most:.1f} of {SLOTS / SECONDS:g}",
                bar=">= 90 %",
                good=seen.goodput >= 0.9 * overrun.most,
            )
            for seen in overrun.levels
        ),
        *(
            Row(
                what=f"{seen.times:g} times: refusals p99, ms",
                ours=f"{seen.refusal * 1000:.0f} ({len(seen.flood.refused)})",
                baseline=f"/livez {seen.idle * 1000:.0f}",
                bar="<= 50",
                good=seen.refusal <= 0.05,
            )
            for seen in overrun.levels
            if seen.flood.refused
        ),
        Row(
            what="growth of the service from the first to the last, MB",
            ours=f"{overrun.growth / 2**20:.1f}",
            bar="<= 16",
            good=overrun.growth <= 16 * 2**20,
        ),
    ]


async def calls_of(here: Installation) -> list[dict[str, Any]]:
    """Return the calls that came in at the upstream."""
    url = f"{here.upstream_url}/_calls?model=gpt-image-2"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        calls: list[dict[str, Any]] = await answer.json()
        return calls


# -- a flood ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodSeen:
    """Median seconds from a tenant's first request to its call: alone, and beside a flood."""

    unloaded: float
    loaded: float

    @property
    def is_fair(self) -> bool:
        """Say whether the flood held nobody up.

        Ten of the flood's calls end every two seconds. Whoever waited for one of their slots would
        wait for a second; a few milliseconds are what a busy machine takes.
        """
        return self.loaded <= max(2 * self.unloaded, 0.030)


async def flooded(folder: Path) -> FloodSeen:
    """Queue 10,000 jobs of one tenant and see how long others wait."""
    options: Any = {"DARKROOM_WORKER__SLOTS": "10", "DARKROOM_WORKER__RESERVE": "2"}
    async with installed(folder, **options) as here:
        await first_waits(here, "warm", 3)
        unloaded = await first_waits(here, "calm", 9)
        await flood(here, 10_000)
        await asyncio.sleep(2)
        loaded = await first_waits(here, "busy", 9)
    return FloodSeen(unloaded=statistics.median(unloaded), loaded=statistics.median(loaded))


async def first_waits(here: Installation, name: str, count: int) -> list[float]:
    """Return the seconds from the first request of each of some new tenants to its call."""
    accepted: dict[str, float] = {}
    async with opened(here) as commands, aiohttp.ClientSession(here.url) as client:
        tenants = Tenants(commands)
        for at in range(count):
            tenant = f"{name}-{at}"
            await tenants.add(Tenant(id=tenant, created_at=0.0))
            key, text = new_key(tenant, 0.0)
            await tenants.add_key(key)
            accepted[tenant] = time.time()
            body = {"model": "gpt-image-2", "prompt": tenant}
            headers = {"Authorization": f"Bearer {text}"}
            async with client.post("/v1/jobs", json=body, headers=headers) as answer:
                assert answer.status == 202
            await asyncio.sleep(0.3)
    await asyncio.sleep(3)
    started = {call["prompt"]: call["started_at"] for call in await calls_of(here)}
    return [started[tenant] - at for tenant, at in accepted.items()]


@asynccontextmanager
async def opened(here: Installation) -> AsyncIterator[Commands]:
    """Give a way to the installation's Redis."""
    commands = Commands(connect(RedisSettings(url=here.redis_url)))
    try:
        yield commands
    finally:
        await commands.close()


async def flood(here: Installation, count: int) -> None:
    """Queue jobs of acme, as fast as Redis takes them."""
    request = Request(prompt="flood [[slow:2]]", n=1)
    async with opened(here) as commands:
        jobs = Jobs(commands, RetentionSettings())
        for start in range(0, count, 200):
            batch = (
                a_job(f"flood_{at}", model="gpt-image-2", request=request, created_at=time.time())
                for at in range(start, start + 200)
            )
            await asyncio.gather(*(jobs.add(job) for job in batch))


# -- more than can be done -------------------------------------------------------------------------


@dataclass
class Flood:
    """What came of an open-loop load: answers by status, seconds of the refusals, and the jobs.

    `idle` holds the seconds of answers that cost the service nothing: what the machine takes.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    refused: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


async def offer(client: aiohttp.ClientSession, rate: float, seconds: float) -> Flood:
    """Submit at a rate, whatever becomes of it: nobody waits for the answer before the next."""
    seen = Flood()

    async def one() -> None:
        body = {"model": "gpt-image-2", "prompt": f"[[slow:{SECONDS}]]"}
        began = time.perf_counter()
        async with client.post("/v1/jobs", json=body) as answer:
            document = await answer.json()
        seen.statuses[answer.status] += 1
        if answer.status == 202:
            seen.ids.append(document["id"])
        else:
            seen.refused.append(time.perf_counter() - began)

    async def probe() -> None:
        began = time.perf_counter()
        async with client.get("/livez") as answer:
            await answer.read()
        seen.idle.append(time.perf_counter() - began)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            group.create_task(one())
            if number % 2:
                group.create_task(probe())
    return seen


async def made_per_second(here: Installation, start: float, end: float) -> float:
    """Return how many calls were over each second of a span."""
    over: list[float] = [call["finished_at"] or 0.0 for call in await calls_of(here)]
    return sum(start <= moment < end for moment in over) / (end - start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What came of so many `times` the load that can be done; `goodput` is in jobs per second."""

    times: float
    flood: Flood
    goodput: float
    statuses: frozenset[str]

    @property
    def refusal(self) -> float:
        """Return the seconds within which 99 of 100 refusals came."""
        return quantile(self.flood.refused, 0.99)

    @property
    def idle(self) -> float:
        """Return the same of answers that cost the service nothing."""
        return quantile(self.flood.idle, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadSeen:
    """Each level of load, and by how many bytes the service grew from the first to the last."""

    levels: tuple[Level, ...]
    growth: int

    @property
    def most(self) -> float:
        """Return the best goodput of all levels."""
        return max(level.goodput for level in self.levels)


async def overload(folder: Path) -> OverloadSeen:
    """Offer a little more, twice and five times as much as can be done."""
    options = {"SLOTS": str(SLOTS), "RESERVE": "0"}
    environment: Any = {f"DARKROOM_WORKER__{name}": value for name, value in options.items()}
    levels, memory = [], []
    async with (
        installed(folder, DARKROOM_LIMITS__QUEUED="40", **environment) as here,
        here.client() as client,
    ):
        for times in (1.2, 2.0, 5.0):
            start = time.time()
            seen = await offer(client, times * SLOTS / SECONDS, 6)
            goodput = await made_per_second(here, start + 2, start + 6)
            memory.append(here.service.usage()[1])
            jobs = await all_ended(client, seen.ids)
            ends = frozenset(job["status"] for job in jobs)
            levels.append(Level(times=times, flood=seen, goodput=goodput, statuses=ends))
    return OverloadSeen(levels=tuple(levels), growth=memory[-1] - memory[0])
