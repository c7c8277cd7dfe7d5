"""Rows beside the matrix: a cancel at every moment of a job's life, and what is left in the end."""

import asyncio
import random
import time
from collections import Counter

from storage import redis_keys
from storage.jobs import Jobs
from storage.local import LocalObjects
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings, RetentionSettings
from tests.faults.buckets import DOT
from tests.faults.ledger import Ledger
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand, eventually
from worker.reaper import Reaper


SMALL = "[[bytes:4000]]"


async def cancelled(stand: Stand, scale: Scale) -> list[Measure]:
    """Cancel jobs while they wait, run and end, and when they have ended."""
    ledger = Ledger(stand, "R1")
    chance = random.Random(3)
    await stand.add_worker(**SOON, DARKROOM_WORKER__SLOTS="8")
    count = scale.of(100, least=20)
    statuses: Counter[str] = Counter()
    answers: Counter[int] = Counter()

    async def race(moment: float, call: float) -> None:
        job_id = await ledger.submit(f"[[slow:{call:g}]] {SMALL}")
        await asyncio.sleep(moment)
        async with stand.client.post(f"/v1/jobs/{job_id}/cancel") as answer:
            answers[answer.status] += 1
            if answer.status == 200:
                statuses[(await answer.json())["status"]] += 1

    # queued and running, in the middle of a call, around its end, and long after it
    for least, most, call in ((0, 0.05, 0.5), (0.1, 0.4, 0.6), (0.18, 0.3, 0.2), (0.8, 1.0, 0.1)):
        for _ in range(0, count, 8):
            await asyncio.gather(*(race(chance.uniform(least, most), call) for _ in range(8)))
    verdict = await ledger.judge(within=60)
    jobs = (await ledger.ended(within=5)).values()
    ended = [job for job in jobs if job["status"] == "cancelled"]
    last = [job["attempts"][-1]["status"] for job in ended if job["attempts"]]
    return [
        *judged(verdict),
        Measure(what=f"races {dict(answers)}", value=answers.total(), least=4 * count),
        none("odd answers", answers.total() - answers[200] - answers[409]),
        none("cancels that were answered and not kept", abs(len(ended) - answers[200])),
        none("answers that say anything else", statuses.total() - statuses["cancelled"]),
        none("attempts left open", last.count("running")),
        seconds("longest call after its cancel", await _longest(stand, ledger), 1.0),
    ]


async def _longest(stand: Stand, ledger: Ledger) -> float:
    """Cancel jobs in the middle of a long call; return how long the upstream was still held."""
    ids = [await ledger.submit(f"[[hang]] {SMALL}") for _ in range(4)]
    await eventually(lambda: _hang(stand, 4), within=10)
    at = time.time()
    for job_id in ids:
        async with stand.client.post(f"/v1/jobs/{job_id}/cancel") as answer:
            assert answer.status == 200
    await eventually(lambda: _let_go(stand), within=20)
    return time.time() - at


async def _hang(stand: Stand, count: int) -> bool:
    return len(await stand.calls(containing="[[hang]]")) >= count


async def _let_go(stand: Stand) -> bool:
    calls = await stand.calls(containing="[[hang]]")
    return all(call["finished_at"] is not None for call in calls)


async def retired(stand: Stand, scale: Scale) -> list[Measure]:
    """Let jobs grow older than they are kept, and sweep what no job names."""
    ledger = Ledger(stand, "R2")
    kept = {"DARKROOM_RETENTION__DAYS": "0.0001"}  # nine seconds
    await stand.restart_service(**kept)
    await stand.add_worker(**SOON, **kept, DARKROOM_WORKER__REAP_EVERY="1")
    try:
        for _ in range(scale.of(200, least=10)):
            await ledger.submit("", model="sketch", size="64x64", images=[DOT], hook=False)
        jobs = await ledger.ended(within=60)
        before = sum([len(await stand.kept(f"t/acme/{job_id}/in/")) for job_id in jobs])
        took = await eventually(lambda: _gone(stand, ledger), within=60, every=0.5)
        left = [name for name in await stand.store.keys("*") if _names(name, ledger)]
        entries = [await stand.store.get(key) for key in await stand.store.keys("*idempotency*")]
        left += [entry for entry in entries if entry is not None and _names(entry, ledger)]
        objects = sum([len(await stand.kept(f"t/acme/{job_id}/")) for job_id in jobs])
    finally:
        await stand.restart_service()
    swept, spared = await _swept(stand)
    return [
        Measure(what="jobs with inputs", value=before, least=len(ledger.ids)),
        seconds("until all are gone", took, 30.0),
        none("keys left", len(left)),
        none("entries left in indexes", await _listed(stand, ledger)),
        none("objects left", objects),
        Measure(what="orphans swept", value=swept, least=3, most=3),
        Measure(what="objects of jobs spared", value=spared, least=1, most=1),
    ]


async def _gone(stand: Stand, ledger: Ledger) -> bool:
    for job_id in ledger.ids:
        async with stand.client.get(f"/v1/jobs/{job_id}") as answer:
            if answer.status != 404:
                return False
    return True


def _names(key: bytes, ledger: Ledger) -> bool:
    return any(job_id.encode() in key for job_id in ledger.ids)


async def _listed(stand: Stand, ledger: Ledger) -> int:
    count = 0
    for index in (redis_keys.IMAGE_QUEUE, redis_keys.APPOINTMENTS, redis_keys.jobs_of("acme")):
        found = {job_id.decode() for job_id in await stand.store.zrange(index, 0, -1)}
        count += len(found & set(ledger.ids))
    return count


async def _swept(stand: Stand) -> tuple[int, int]:
    """Plant objects that nobody names, sweep as a worker does a day later, and count."""
    ledger = Ledger(stand, "R2 spared")
    await stand.add_worker(**SOON)
    spared = await ledger.submit(SMALL, hook=False)
    await ledger.ended([spared], within=30)
    planted = [f"t/acme/job_of_nobody_{number}/1/0.png" for number in range(3)]
    objects = LocalObjects(
        stand.here.folder / "objects", secret=b"x" * 32, base_url="http://127.0.0.1"
    )
    commands = Commands(connect(RedisSettings(url=stand.here.redis_url)))
    jobs = Jobs(commands, RetentionSettings())
    try:
        for key in planted:
            await objects.put(key, b"bytes", content_type="image/png")
        late = Reaper(
            jobs, objects, clock=lambda: time.time() + 90_000, life=1e9, orphan_life=86_400
        )
        await late.sweep()
    finally:
        await objects.close()
        await commands.close()
    left = await stand.kept("t/acme/job_of_nobody_")
    return len(planted) - len(left), len(await stand.kept(f"t/acme/{spared}/"))


ROWS = (
    Row(id="R1", fault="cancelled at every moment", run=cancelled),
    Row(id="R2", fault="older than they are kept", run=retired),
)
