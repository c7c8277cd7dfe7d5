"""Rows of the matrix: more work than there is room for, one tenant's flood, an old queue."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil

from tests.faults.ledger import Ledger, quantile
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand
from tests.faults.verdict import ENDED


SMALL = "[[bytes:4000]]"
_SLOTS, _CALL = 10, 0.5
_CAPACITY = _SLOTS / _CALL  # jobs a second
_MIB = 1024 * 1024


async def overrun(stand: Stand, scale: Scale) -> list[Measure]:
    """Submit as fast as jobs can be done, then twice and five times as fast, and never wait."""
    direct = {"DARKROOM_REDIS__URL": stand.here.redis_url}
    await stand.restart_service(DARKROOM_LIMITS__QUEUED="60", **direct)
    worker = await stand.add_worker(**{**SOON, **direct}, DARKROOM_WORKER__SLOTS=str(_SLOTS))
    warm = Ledger(stand, "F36 warm")
    await warm.ended([await warm.submit(SMALL) for _ in range(4)], within=30)
    processes = [psutil.Process(stand.here.service.pid), psutil.Process(worker.pid)]
    done: dict[float, float] = {}
    measures: list[Measure] = []
    rss = 0
    try:
        for times in (1.0, 2.0, 5.0):
            ledger = Ledger(stand, f"F36 x{times:g}")
            answers, ended = await _poured(ledger, times * _CAPACITY, float(scale.of(60, least=8)))
            done[times] = ended
            if times == 1.0:
                rss = sum(process.memory_info().rss for process in processes)
                continue
            refused = [took for status, took in answers if status == 503]
            odd = sum(status not in {202, 503} for status, _ in answers)
            measures += [
                Measure(what=f"{times:g}x: goodput / peak", value=ended / done[1.0], least=0.9),
                Measure(what=f"{times:g}x: refused", value=len(refused), least=1),
                seconds(f"{times:g}x: refusals p99", quantile(refused, 0.99), 0.05),
                none(f"{times:g}x: odd answers", odd),
            ]
            verdict = await ledger.judge(within=60, hooks=False)
            measures += judged(verdict)
        growth = sum(process.memory_info().rss for process in processes) - rss
    finally:
        await stand.restart_service()
    measures.append(Measure(what="growth of both", value=growth / _MIB, most=32, unit="MiB"))
    return [Measure(what="peak", value=done[1.0], unit="jobs/s"), *measures]


async def _poured(
    ledger: Ledger, rate: float, length: float
) -> tuple[list[tuple[int, float]], float]:
    """Submit at a rate for so long; return the answers, and how many jobs ended a second."""
    answers: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()
    begun, wall = loop.time(), time.time()

    async def one(number: int) -> None:
        prompt = f"{ledger.name} {number}. [[slow:{_CALL}]] {SMALL}"
        asked = loop.time()
        body = {"model": "gpt-image-2", "prompt": prompt}
        async with ledger.stand.client.post("/v1/jobs", json=body) as answer:
            job = await answer.json()
        answers.append((answer.status, loop.time() - asked))
        if answer.status == 202:
            ledger.prompts[job["id"]] = prompt

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * length)):
            group.create_task(one(number))
            await asyncio.sleep(max(begun + (number + 1) / rate - loop.time(), 0))
    await ledger.ended(within=60)
    jobs = await ledger.records()
    # The first call needs its time before anything can end.
    first, last = wall + 2 * _CALL, wall + length + _CALL
    within = [j for j in jobs.values() if first <= (j.get("finished_at") or 0) <= last]
    return answers, len(within) / (last - first)


async def flooded(stand: Stand, scale: Scale) -> list[Measure]:
    """Let one tenant queue thousands of jobs, and another ten."""
    await stand.add_worker(**SOON, DARKROOM_WORKER__SLOTS="4")
    async with _tenant(stand, "globex") as small:
        alone = await _spans(stand, small, "F37 alone")
        flood = Ledger(stand, "F37 flood")
        gate = asyncio.Semaphore(16)

        async def one() -> None:
            async with gate:
                await flood.submit(f"[[slow:0.4]] {SMALL}", hook=False)

        count = scale.of(10_000, least=300)
        await asyncio.gather(*(one() for _ in range(count)))
        beside = await _spans(stand, small, "F37 beside")
        behind = await flood.ended(within=0)
        waiting = sum(job["status"] not in ENDED for job in behind.values())
        for job_id in flood.ids:
            async with stand.client.post(f"/v1/jobs/{job_id}/cancel") as answer:
                assert answer.status in {200, 409}
    verdict = await flood.judge(within=60, hooks=False)
    return [
        *judged(verdict),
        Measure(what="still queued by the flood", value=waiting, least=count / 4),
        seconds("first of ten alone", alone[0]),
        seconds("first of ten beside the flood", beside[0]),
        seconds("mean of ten alone", sum(alone) / 10),
        seconds("mean of ten beside the flood", sum(beside) / 10),
        Measure(what="ratio of means", value=sum(beside) / sum(alone), most=2.0),
    ]


@asynccontextmanager
async def _tenant(stand: Stand, name: str) -> Any:
    """Give a session of another tenant."""
    key = await stand.here.command("-m", "service", "keys", "create", "--tenant", name)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(stand.here.url, headers=headers) as session:
        yield session


async def _spans(stand: Stand, session: aiohttp.ClientSession, name: str) -> list[float]:
    """Submit ten jobs at once and return the seconds from then to the end of each, in order."""
    ids: list[str] = []
    for number in range(10):
        body = {"model": "gpt-image-2", "prompt": f"{name} {number}. [[slow:0.4]] {SMALL}"}
        async with session.post("/v1/jobs", json=body) as answer:
            ids.append((await answer.json())["id"])
    for job_id in ids:
        async with session.get(f"/v1/jobs/{job_id}?wait=60") as answer:
            assert (await answer.json())["status"] == "succeeded"
    jobs = await Ledger(stand, name, dict.fromkeys(ids, "")).records()
    begun = min(job["created_at"] for job in jobs.values())
    return sorted(job["finished_at"] - begun for job in jobs.values())


async def grown_old(stand: Stand, scale: Scale) -> list[Measure]:
    """Let jobs wait for longer than they may."""
    ledger = Ledger(stand, "F38")
    await stand.add_worker(**SOON, DARKROOM_WORKER__SLOTS="1", DARKROOM_WORKER__REAP_EVERY="1")
    busy = await ledger.submit(f"[[slow:8]] {SMALL}")
    await asyncio.sleep(1.5)
    ids = [await ledger.submit(SMALL, start_within=2.0) for _ in range(scale.of(500, least=20))]
    jobs = await ledger.ended(ids, within=30)
    records = await ledger.records()
    late = [records[i]["finished_at"] - records[i]["created_at"] - 2.0 for i in ids]
    verdict = await ledger.judge(within=30)
    calls = await stand.calls(containing="F38")
    return [
        *judged(verdict),
        none("not expired", sum(job["status"] != "expired" for job in jobs.values())),
        seconds("expired after their time", _largest(late), 5.0),
        none("calls for them", len(calls) - 1),
        none("the one at work harmed", (await ledger.job(busy))["status"] != "succeeded"),
    ]


def _largest(values: Sequence[float]) -> float:
    return max(values, default=float("nan"))


ROWS = (
    Row(id="F36", fault="twice and five times more than there is room for", run=overrun),
    Row(id="F37", fault="one tenant's flood", run=flooded),
    Row(id="F38", fault="a queue older than its jobs may wait", run=grown_old),
)
