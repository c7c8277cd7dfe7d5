"""Tenants beside each other on real processes: a flood, limits, and more than can be done."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.jobs import Jobs
from storage.redis_client import Commands, connect
from storage.request import Request
from storage.settings import RedisSettings, RetentionSettings
from storage.tenant import Tenant, new_key
from storage.tenants import Tenants
from tests.integration.walk import all_ended, submit
from tests.processes import Installation, installed
from tests.samples import a_job


SECONDS = 0.25  # of one call


async def calls_of(here: Installation) -> list[dict[str, Any]]:
    """Return the calls that came in at the upstream."""
    url = f"{here.upstream_url}/_calls?model=gpt-image-2"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        calls: list[dict[str, Any]] = await answer.json()
        return calls


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
    commands = Commands(connect(RedisSettings(url=here.redis_url)))
    try:
        yield commands
    finally:
        await commands.close()


@pytest.mark.timeout(180)
async def test_a_tenants_ten_thousand_jobs_do_not_hold_up_anothers_first(tmp_path: Path) -> None:
    options: Any = {"DARKROOM_WORKER__SLOTS": "10", "DARKROOM_WORKER__RESERVE": "2"}
    async with installed(tmp_path, **options) as here:
        await first_waits(here, "warm", 3)
        unloaded = await first_waits(here, "calm", 9)
        await flood(here, 10_000)
        await asyncio.sleep(2)
        loaded = await first_waits(here, "busy", 9)
    # Ten of A's calls end every two seconds. Whoever waited for one of their slots would wait for a
    # second; a few milliseconds are what a busy machine takes.
    most = max(2 * statistics.median(unloaded), 0.030)
    assert statistics.median(loaded) <= most, (loaded, unloaded)


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


async def test_a_tenant_has_no_more_calls_under_way_than_it_may(tmp_path: Path) -> None:
    async with installed(tmp_path, workers=2) as here, here.client() as client:
        await here.command("-m", "service", "tenants", "set", "acme", "--max-running", "3")
        await asyncio.sleep(4.5)  # until the service believes it
        ids = [
            await submit(client, model="gpt-image-2", prompt=f"{at} [[slow:0.2]]")
            for at in range(15)
        ]
        jobs = await all_ended(client, ids)
        calls = await calls_of(here)
    assert {job["status"] for job in jobs} == {"succeeded"}
    begins = [(call["started_at"], 1) for call in calls]
    ends = [(call["finished_at"], -1) for call in calls]
    under_way = accumulate(change for _, change in sorted(begins + ends))
    assert max(under_way) == 3


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


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


async def made_per_second(here: Installation, start: float, end: float) -> float:
    """Return how many calls were over each second of a span."""
    over: list[float] = [call["finished_at"] or 0.0 for call in await calls_of(here)]
    return sum(start <= moment < end for moment in over) / (end - start)


@pytest.mark.timeout(180)
async def test_at_twice_and_five_times_what_can_be_done_as_much_is_done(tmp_path: Path) -> None:
    options = {"SLOTS": "4", "RESERVE": "0"}
    environment: Any = {f"DARKROOM_WORKER__{name}": value for name, value in options.items()}
    goodput: dict[float, float] = {}
    memory = []
    async with (
        installed(tmp_path, DARKROOM_LIMITS__QUEUED="40", **environment) as here,
        here.client() as client,
    ):
        for times in (1.2, 2.0, 5.0):
            start = time.time()
            seen = await offer(client, times * 4 / SECONDS, 6)
            goodput[times] = await made_per_second(here, start + 2, start + 6)
            memory.append(here.service.usage()[1])
            jobs = await all_ended(client, seen.ids)
            assert {job["status"] for job in jobs} == {"succeeded"}
            if times > 1.5:
                assert set(seen.statuses) == {202, 503}
                assert p99(seen.refused) <= max(0.050, 2 * p99(seen.idle))
    assert min(goodput.values()) >= 0.9 * max(goodput.values()), goodput
    assert memory[-1] - memory[0] < 16 * 2**20
