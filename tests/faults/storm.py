"""The storm: everything is killed, again and again, while jobs come in, and nothing may be lost."""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from typing import Any

from tests.faults.crew import Crew, crewed
from tests.faults.ledger import Ledger, quantile
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import Stand
from tests.upstream.calls import fingerprint


WORKERS = 6
_CALL = 2.0
_PACE = 3.0  # seconds between two kills of a worker


async def storm(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill workers, services and Redis at random moments, with every setting at its default."""
    ledger = Ledger(stand, "storm")
    kills = {"worker": scale.of(200, least=8), "service": scale.of(20, least=2)}
    kills["redis"] = scale.of(20, least=2)
    count = scale.of(2000, least=80)
    length = kills["worker"] * _PACE
    await stand.here.service.end()
    await stand.here.redis.end()
    async with crewed(stand.here.folder, "service", *_names(), "redis") as crew:
        _crew(stand, crew)
        await stand.here_answers()
        killing = asyncio.create_task(_kill(crew, kills, length))
        await _submit(ledger, count, length)
        killed = await killing
        verdict = await ledger.judge(within=180)
        calls = await stand.calls(containing="storm")
        jobs = (await ledger.records()).values()
    waits = restarts(calls, killed)
    failed = [job["error"]["code"] for job in jobs if job["status"] == "failed"]
    return [
        *judged(verdict),
        Measure(what=f"outcomes {dict(verdict.outcomes)}", value=verdict.jobs),
        Measure(what="worker kills", value=len(killed), least=kills["worker"]),
        Measure(what="service kills", value=kills["service"]),
        Measure(what="Redis kills", value=kills["redis"]),
        Measure(what="restarts", value=len(waits), least=1),
        seconds("restart p50", quantile(waits, 0.5)),
        seconds("restart p99", quantile(waits, 0.99), 15.0),
        # A kill cuts every call of its worker; who lost a lease and lived would call in vain.
        Measure(what="calls beyond jobs", value=len(calls) - count, most=sum(kills.values())),
        none("leases lost by the living", stand.here.logs().count("lease_lost")),
        none("failed for more than two cuts", len(failed) - failed.count("outcome_unknown")),
        Measure(what="lives", value=crew.deaths),
    ]


def _names() -> list[str]:
    return [f"worker-{number}" for number in range(WORKERS)]


def _crew(stand: Stand, crew: Crew) -> None:
    """Let the supervisor keep it all; each worker's calls can be told by its key."""
    crew.add("redis", stand.here.redis.command, stand.here.redis.environment)
    crew.add("service", stand.here.service.command, stand.here.service.environment)
    for number, name in enumerate(_names()):
        stand.keep_worker(crew, name=name, FAKE_OPENAI_KEY=f"sk-fake-{number}")


async def _submit(ledger: Ledger, count: int, length: float) -> None:
    """Submit jobs evenly over the time, each as a careful client does."""

    async def one(number: int) -> None:
        await asyncio.sleep(number * length / count)
        model = "queued" if number % 4 == 3 else "gpt-image-2"
        await ledger.submit(f"[[slow:{_CALL:g}]] [[bytes:4000]]", model=model, tries=600)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def _kill(crew: Crew, kills: dict[str, int], length: float) -> list[tuple[float, int]]:
    """Kill at random moments; return when each worker was killed, by its number."""
    chance = random.Random(5)
    begun = time.monotonic()
    moments = sorted(
        (chance.uniform(1, length), kind) for kind, count in kills.items() for _ in range(count)
    )
    killed: list[tuple[float, int]] = []
    for moment, kind in moments:
        await asyncio.sleep(max(begun + moment - time.monotonic(), 0))
        while True:
            number = chance.randrange(WORKERS)
            name = f"worker-{number}" if kind == "worker" else kind
            if crew.kill_one(name, chance) is not None:
                break
            await asyncio.sleep(0.1)
        if kind == "worker":
            killed.append((time.time(), number))
    return killed


def restarts(calls: list[dict[str, Any]], killed: list[tuple[float, int]]) -> list[float]:
    """Return the seconds from each kill that cut a call to the next call for the same job."""
    deaths = defaultdict(list)
    for at, number in killed:
        deaths[fingerprint(f"sk-fake-{number}")].append(at)
    by_prompt = defaultdict(list)
    for call in calls:
        by_prompt[call["prompt"]].append(call)
    found = []
    for same in by_prompt.values():
        same.sort(key=lambda call: call["started_at"])
        for cut, again in itertools.pairwise(same):
            begun = cut["started_at"]
            ends = [at for at in deaths[cut["key"]] if begun <= at <= begun + _CALL + 1]
            found += [again["started_at"] - at for at in ends[:1]]
    return found


ROWS = (Row(id="storm", fault="everything killed at random under load", run=storm),)
