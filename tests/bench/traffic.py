"""Trials of the router with real processes: what upstreams see while they fail, limit and heal.

Each trial returns plain figures; the benchmark runs them at full length, the integration tests for
as long as a check may take.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from storage import redis_keys
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.bench.table import Row
from tests.processes import Installation, installed


LEASE = {"DARKROOM_WORKER__LEASE": "2", "DARKROOM_WORKER__HEARTBEAT": "0.5"}
_SMALL = "[[bytes:3000]]"
_WORKERS = 3
_LEFT = 1.75  # seconds that a lease of two goes on after a kill: it was renewed just before

LIMITED = """\
[[deployments]]
name = "limited"
model = "painter"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "{upstream}/openai/v1"
api_key_env = "FAKE_OPENAI_KEY"
max_concurrency = {limit}
timeout = 30
"""

PAIR = """\
[[deployments]]
name = "first"
model = "painter"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "{upstream}/openai/v1"
api_key_env = "KEY_FIRST"
timeout = 30

[[deployments]]
name = "second"
model = "painter"
provider = "xai"
upstream_model = "grok-imagine-image"
base_url = "{upstream}/xai/v1"
api_key_env = "KEY_SECOND"
priority = 1
timeout = 30
"""


@dataclass(frozen=True, slots=True)
class Span:
    """One call as the fake saw it, in Unix seconds, and its status."""

    begun: float
    over: float
    status: int | None
    prompt: str


@asynccontextmanager
async def running(catalog: str, *, workers: int, **environment: str) -> AsyncIterator[Installation]:
    """Run an installation in a folder of its own."""
    with tempfile.TemporaryDirectory() as own:
        every: dict[str, Any] = {**environment}
        async with installed(Path(own), workers=workers, catalog=catalog, **every) as here:
            yield here


@asynccontextmanager
async def commands_of(here: Installation) -> AsyncIterator[Commands]:
    """Give a way to the installation's Redis."""
    commands = Commands(connect(RedisSettings(url=here.redis_url)))
    try:
        yield commands
    finally:
        await commands.close()


async def submit(client: aiohttp.ClientSession, model: str, prompt: str, **body: Any) -> str:
    """Submit one job and return its id."""
    whole = {"model": model, "prompt": prompt, **body}
    async with client.post("/v1/jobs", json=whole) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def drained(here: Installation, within: float) -> float:
    """Wait until the queue holds nothing, and return when that was."""
    deadline = time.monotonic() + within
    async with commands_of(here) as commands:
        while (left := await commands.execute("ZCARD", redis_keys.IMAGE_QUEUE)) > 0:
            assert time.monotonic() < deadline, f"{left} jobs without an end"
            await asyncio.sleep(0.2)
    return time.time()


async def jobs_of(client: aiohttp.ClientSession, ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return the jobs as they are now."""
    found = []
    for job_id in ids:
        async with client.get(f"/v1/jobs/{job_id}") as answer:
            found.append(await answer.json())
    return found


async def spans(here: Installation, dialect: str) -> list[Span]:
    """Return every call that the fake saw of one dialect, in order."""
    now = time.time()
    url = f"{here.upstream_url}/_calls?dialect={dialect}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        calls = await answer.json()
    return [
        Span(c["started_at"], c["finished_at"] or now, c["status"], c["prompt"] or "")
        for c in calls
    ]


async def rule(here: Installation, **body: Any) -> None:
    """Have the fake misbehave."""
    url = f"{here.upstream_url}/_faults"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 201


async def no_rules(here: Installation) -> None:
    """Have the fake behave."""
    url = f"{here.upstream_url}/_faults"
    async with aiohttp.ClientSession() as session, session.delete(url) as answer:
        assert answer.status == 204


def busy(calls: Sequence[Span], start: float, end: float) -> float:
    """Return the seconds of calls between two moments."""
    return sum(max(0.0, min(c.over, end) - max(c.begun, start)) for c in calls)


def most_at_once(calls: Sequence[Span]) -> int:
    """Return how many calls were open at one time, at most."""
    steps = sorted(
        itertools.chain(((c.begun, 1) for c in calls), ((c.over, -1) for c in calls)),
        key=lambda step: (step[0], step[1]),
    )
    return max(itertools.accumulate(change for _, change in steps), default=0)


# -- a limit of calls at once ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSeen:
    """How a limit was kept and used; `use` is the share of it that was busy.

    `withheld` is the share that dead workers keep idle in any case: each dies with its part of the
    places, whose calls end after half of their time on average while the leases go on.
    """

    limit: int
    most: int
    use: float
    withheld: float
    kills: int
    succeeded: int
    jobs: int
    commands_per_job: float


async def limit(
    *, limit: int = 7, seconds: float = 60.0, call: float = 1.0, kill_every: float = 0.0
) -> LimitSeen:
    """Load a limited deployment from three workers, some of which die.

    A call that lost its worker goes on at the upstream, so it must be shorter than the lease.
    """
    catalog = LIMITED.replace("{limit}", str(limit))
    async with running(catalog, workers=_WORKERS, **LEASE) as here, here.client() as client:
        count = int(limit * seconds / call) + 3 * limit
        prompts = (f"limit {n} [[slow:{call:g}]] {_SMALL}" for n in range(count))
        async with commands_of(here) as commands:
            before = await _count(commands)
            ids = [await submit(client, "painter", prompt) for prompt in prompts]
            start = time.time() + 0.5
            kills = await _kill_now_and_then(here, start + seconds, kill_every)
            await drained(here, within=4 * limit * call + 60)
            spent = await _count(commands) - before
        calls = await spans(here, "openai")
        jobs = await jobs_of(client, ids)
    return LimitSeen(
        limit=limit,
        most=most_at_once(calls),
        use=busy(calls, start, start + seconds) / (limit * seconds),
        withheld=kills * max(_LEFT - call / 2, 0.0) / (_WORKERS * seconds),
        kills=kills,
        succeeded=sum(job["status"] == "succeeded" for job in jobs),
        jobs=count,
        commands_per_job=spent / count,
    )


async def _kill_now_and_then(here: Installation, until: float, every: float) -> int:
    kills = 0
    for worker in itertools.cycle(here.workers):
        left = until - time.time()
        if left <= 0:
            return kills
        await asyncio.sleep(min(left, every or left))
        if every and time.time() < until - every / 2:
            await worker.kill()
            await worker.start()
            kills += 1
    return kills


async def _count(commands: Commands) -> int:
    stats: dict[str, Any] = await commands.redis.info("commandstats")
    return sum(row["calls"] for row in stats.values())


# -- a pause ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseSeen:
    """What happened around a 429: calls during the pause, and seconds from it to the last end."""

    hint: float
    during: int
    seconds: float
    succeeded: int
    jobs: int


async def pause(*, hint: float = 5.0, jobs: int = 60) -> PauseSeen:
    """Have one call be told to come later, then submit many jobs to three workers."""
    async with running(PAIR, workers=3, KEY_FIRST="sk-first") as here, here.client() as client:
        await rule(here, dialect="openai", status=429, seconds=hint, times=1)
        ids = [await submit(client, "painter", f"pause 0 {_SMALL}")]
        while not (told := await spans(here, "openai")):
            await asyncio.sleep(0.01)
        prompts = (f"pause {number} {_SMALL}" for number in range(1, jobs))
        ids += [await submit(client, "painter", prompt) for prompt in prompts]
        end = await drained(here, within=hint + 30)
        calls = await spans(here, "openai")
        found = await jobs_of(client, ids)
    paused = told[0].over
    return PauseSeen(
        hint=hint,
        during=sum(paused < c.begun < paused + hint for c in calls),
        seconds=end - paused,
        succeeded=sum(job["status"] == "succeeded" for job in found),
        jobs=jobs,
    )


# -- failover --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverSeen:
    """How jobs fared while one of two deployments failed every call, and after it healed.

    `allowed` is what its breaker allows: as many failures as there were good calls just before,
    what was under way by then, and one probe in five seconds. `recovery` is how long after it
    healed the next call went well.
    """

    succeeded: int
    jobs: int
    failing_calls: int
    allowed: int
    recovery: float
    calls_after: int


async def failover(
    *, seconds: float = 60.0, rate: float = 20.0, healthy: float = 15.0
) -> FailoverSeen:
    """Have the preferred of two deployments fail for a while under a steady load."""
    keys = {"KEY_FIRST": "sk-first", "KEY_SECOND": "sk-second"}
    async with running(PAIR, workers=3, **keys) as here, here.client() as client:
        ids = await _steadily(client, rate, 3.0, "before")
        await rule(here, dialect="openai", status=500)
        broken = time.time()
        ids += await _steadily(client, rate, seconds, "while")
        await no_rules(here)
        healed = time.time()
        ids += await _steadily(client, rate, healthy, "after")
        await drained(here, within=60)
        calls = await spans(here, "openai")
        jobs = await jobs_of(client, ids)
    failing = [c for c in calls if c.begun >= broken and c.status == 500]
    good_before = sum(broken - _COUNTED < c.begun < broken for c in calls)
    well = [c.begun for c in calls if c.begun >= healed and c.status == 200]
    return FailoverSeen(
        succeeded=sum(job["status"] == "succeeded" for job in jobs),
        jobs=len(ids),
        failing_calls=len(failing),
        allowed=max(5, good_before) + _UNDER_WAY + int(seconds / 5.0) + 1,
        recovery=min(well, default=float("inf")) - healed,
        calls_after=len(well),
    )


_COUNTED = 30.0  # seconds of calls that a breaker looks back at
_UNDER_WAY = 3


async def _steadily(
    client: aiohttp.ClientSession, rate: float, seconds: float, name: str
) -> list[str]:
    ids = []
    begun = time.monotonic()
    for number in range(int(rate * seconds)):
        ids.append(await submit(client, "painter", f"{name} {number} {_SMALL}"))
        await asyncio.sleep(max(0.0, begun + (number + 1) / rate - time.monotonic()))
    return ids


# -- an outage of the only deployment --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageSeen:
    """What the only deployment of a model saw while it failed every call, and how jobs fared."""

    jobs: int
    succeeded: int
    calls: int
    failing_calls: int
    recovery: float


async def outage(*, seconds: float = 60.0, rate: float = 5.0) -> OutageSeen:
    """Have the only deployment fail for a while; the jobs wait for it."""
    async with running(PAIR, workers=2, KEY_FIRST="sk-first") as here, here.client() as client:
        await rule(here, dialect="openai", status=500)
        ids = await _steadily(client, rate, seconds, "outage")
        await no_rules(here)
        healed = time.time()
        await drained(here, within=120)
        calls = await spans(here, "openai")
        jobs = await jobs_of(client, ids)
    well = [c.begun for c in calls if c.status == 200]
    return OutageSeen(
        jobs=len(ids),
        succeeded=sum(job["status"] == "succeeded" for job in jobs),
        calls=len(calls),
        failing_calls=sum(c.status == 500 for c in calls),
        recovery=min(well, default=float("inf")) - healed,
    )


# -- the table -------------------------------------------------------------------------------------


async def run() -> list[Row]:
    """Run every trial at full length."""
    rows = []
    seen = await limit(call=2.0)
    rows += _limit_rows(seen, "without kills")
    rows += _limit_rows(await limit(kill_every=12.0), "with a kill each 12 s")
    paused = await pause()
    rows.append(
        Row(
            what=f"429 with a hint of {paused.hint:g} s: calls during it, seconds to the last end",
            ours=f"{paused.during}, {paused.seconds:.1f}",
            bar="0, <= hint + 5",
            good=paused.during == 0 and paused.seconds <= paused.hint + 5,
        )
    )
    over = await failover()
    share = over.succeeded / over.jobs
    rows += [
        Row(
            what="one of two deployments fails for 60 s: jobs that succeed",
            ours=f"{share:.2%}",
            bar=">= 99.5 %",
            good=share >= 0.995,
        ),
        Row(
            what="calls to the failing one against what its breaker allows",
            ours=f"{over.failing_calls} / {over.allowed}",
            bar="<= 1.1 x",
            good=over.failing_calls <= 1.1 * over.allowed,
        ),
        Row(
            what="seconds from its recovery to the next good call",
            ours=f"{over.recovery:.1f}",
            bar="<= 10",
            good=over.recovery <= 10,
        ),
    ]
    alone = await outage()
    rows.append(
        Row(
            what="the only deployment fails for 60 s: jobs that succeed, failed calls, recovery s",
            ours=f"{alone.succeeded}/{alone.jobs}, {alone.failing_calls}, {alone.recovery:.1f}",
            bar="all, -, <= 10",
            good=alone.succeeded == alone.jobs and alone.recovery <= 10,
        )
    )
    return rows


def _limit_rows(seen: LimitSeen, how: str) -> list[Row]:
    return [
        Row(
            what=f"a limit of {seen.limit} over 3 workers {how}: most at once",
            ours=f"{seen.most} ({seen.kills} kills)",
            bar=f"<= {seen.limit}",
            good=seen.most <= seen.limit,
        ),
        Row(
            what=f"its use over the time of the load, {how}",
            ours=f"{seen.use:.1%}",
            baseline=f"{1 - seen.withheld:.1%} is to be had",
            bar=">= 95 %",
            good=seen.use >= 0.95,
        ),
        Row(
            what=f"Redis commands per job that waits, {how}",
            ours=f"{seen.commands_per_job:.0f}",
        ),
    ]
