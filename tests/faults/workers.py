"""Rows of the matrix: workers that are killed or stalled in the middle of a job."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterable
from typing import Any

from tests.faults.crew import crewed
from tests.faults.ledger import Ledger, quantile
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand, eventually


SLOW = 3.0
SLOTS = 8
SMALL = "[[bytes:4000]]"


async def killed_in_call(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill workers at random moments, with the lease that a worker has by default."""
    ledger = Ledger(stand, "F1")
    kills: list[float] = []
    chance = random.Random(1)
    count, deaths = scale.of(2000, least=24), scale.of(200, least=2)
    async with crewed(stand.here.folder, "worker") as crew:
        for _ in range(3):
            stand.keep_worker(crew, DARKROOM_WORKER__SLOTS=f"{SLOTS}")
        for number in range(count):
            model = "queued" if number % 2 else "gpt-image-2"
            await ledger.submit(f"[[slow:{SLOW:g}]] {SMALL}", model=model)
        await eventually(lambda: _called(stand, "F1", SLOTS), within=30)
        while len(kills) < deaths:
            await asyncio.sleep(chance.random())
            if crew.kill_one("worker", chance) is not None:
                kills.append(time.time())
            await asyncio.sleep(SLOW + 1.5)
        verdict = await ledger.judge(within=180)
    jobs = list((await ledger.ended(within=5)).values())
    waits = restarts((await ledger.records()).values(), kills)
    calls = await stand.calls(containing="F1")
    return [
        *judged(verdict),
        Measure(what="kills", value=len(kills)),
        seconds("restart p99", quantile(waits, 0.99), 15.0),
        Measure(what="restarts", value=len(waits), least=1),
        none("calls beyond jobs and what kills cut", max(len(calls) - count - len(waits), 0)),
        none("submits after the id was stored", await resubmitted(stand, jobs, ledger)),
    ]


def restarts(jobs: Iterable[dict[str, Any]], kills: list[float]) -> list[float]:
    """Return the seconds from each kill in the middle of a call to the next attempt."""
    found = []
    for job in jobs:
        for before, after in itertools.pairwise(job.get("attempts", ())):
            begun = before["started_at"]
            if before["status"] == "outcome_unknown":
                cut = [k for k in kills if begun <= k <= begun + SLOW + 1]
                found += [after["started_at"] - kill for kill in cut[:1]]
    return found


async def resubmitted(stand: Stand, jobs: Iterable[dict[str, Any]], ledger: Ledger) -> int:
    """Count the submits of jobs in their only attempt, of which one is enough."""
    count = 0
    for job in jobs:
        if job["model"] == "queued" and len(job["attempts"]) == 1:
            calls = await stand.calls(containing=ledger.prompts[job["id"]])
            count += max(len(calls) - 1, 0)
    return count


async def killed_before_the_record(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill a worker between the upload of a result and the record that names it."""
    ledger = Ledger(stand, "F2")
    deaths = await _crashed(stand, ledger, "kept:5", scale.of(500, least=16))
    verdict = await ledger.judge(within=90)
    return [
        *judged(verdict),
        Measure(what="deaths", value=deaths, least=2),
        Measure(what="orphans, named by nobody", value=verdict.orphans, least=1),
    ]


async def killed_before_the_webhook(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill a worker after the end of a job was recorded and before anybody was told."""
    ledger = Ledger(stand, "F3")
    deaths = await _crashed(stand, ledger, "settled:5", scale.of(500, least=16))
    await ledger.ended(within=90)
    late = await ledger.told(within=30)
    return [
        *judged(await ledger.judge(within=5)),
        Measure(what="deaths", value=deaths, least=2),
        seconds("last webhook after the last end", late, 15.0),
    ]


async def _crashed(stand: Stand, ledger: Ledger, point: str, count: int) -> int:
    """Submit to a worker that dies at a point of the walk; then let a healthy one finish."""
    async with crewed(stand.here.folder, "worker") as crew:
        stand.keep_worker(crew, DARKROOM_CRASH_AT=point, DARKROOM_WORKER__SLOTS="3", **SOON)
        for _ in range(count):
            await ledger.submit(SMALL)

        async def enough() -> bool:
            return crew.deaths >= max(count // 8, 2)

        await eventually(enough, within=120, every=0.1)
        deaths = crew.deaths
    await stand.add_worker(**SOON)
    return deaths


async def stalled(stand: Stand, scale: Scale) -> list[Measure]:
    """Block a worker's event loop for longer than its lease, then let it write what it made."""
    ledger = Ledger(stand, "F35")
    stall = scale.of(60, least=8)
    sick = await stand.add_worker(
        DARKROOM_WORKER__SLOTS="4", **SOON, module="tests.faults.saboteur"
    )
    ids = [
        await ledger.submit(f"[[stall:{stall}]]", model="sketch", size="256x256"),
        *[await ledger.submit(SMALL) for _ in range(3)],
    ]
    await eventually(lambda: ledger.started(ids[0]), within=30)
    await stand.add_worker(**SOON)
    taken_over = time.monotonic()
    jobs = await ledger.ended(ids, within=stall + 30)
    ended_after = time.monotonic() - taken_over
    await asyncio.sleep(max(stall + 3 - ended_after, 0))
    verdict = await ledger.judge(within=30)
    return [
        *judged(verdict),
        seconds("taken over and ended", ended_after, 15.0),
        none("not succeeded", sum(job["status"] != "succeeded" for job in jobs.values())),
        Measure(what="stalls told", value=sick.log.read_text().count("loop_stalled"), least=1),
        none("worker ended", not sick.is_alive),
    ]


async def _called(stand: Stand, containing: str, count: int) -> bool:
    return len(await stand.calls(containing=containing)) >= count


ROWS = (
    Row(id="F1", fault="worker killed in a call", run=killed_in_call),
    Row(id="F2", fault="worker killed between upload and record", run=killed_before_the_record),
    Row(id="F3", fault="worker killed between record and webhook", run=killed_before_the_webhook),
    Row(id="F35", fault="event loop blocked beyond the lease", run=stalled),
)
