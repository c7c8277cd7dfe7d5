"""Rows of the matrix: webhook receivers that are down, hang, lead astray or want no more."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from storage.deliveries import Deliveries
from storage.delivery import SCHEDULE
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.faults.ledger import Ledger, quantile
from tests.faults.proxy import DOWN, FINE
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand


SMALL = "[[bytes:4000]]"
_SCALE = 0.001  # an hour is 3.6 s
_THOUSANDTH = {"DARKROOM_WORKER__WEBHOOK_SCALE": str(_SCALE)}


async def down(stand: Stand, scale: Scale) -> list[Measure]:
    """Take the receiver away for an hour of a schedule a thousand times as fast; 500s first."""
    ledger = Ledger(stand, "F25")
    await stand.add_worker(**SOON, **_THOUSANDTH)
    stand.receiver.status = lambda _: 500
    for _ in range(scale.of(200, least=20)):
        await ledger.submit(SMALL)
    jobs = await ledger.ended(within=60)
    await asyncio.sleep(0.8)
    await stand.hook.become(DOWN)
    took = await _image_job(stand, ledger)
    await asyncio.sleep(2.8)
    told_while_away = {i for i, b in stand.receiver.messages}
    stand.receiver.status = lambda _: 200
    stand.receiver.messages.clear()
    await stand.hook.become(FINE)
    late = await ledger.told(within=60)
    verdict = await ledger.judge(within=10)
    ids = {message for messages in stand.receiver.ids_by_job.values() for message in messages}
    waits = await _waits(stand, told_while_away, 3)
    return [
        *judged(verdict),
        Measure(what="delivered", value=len(stand.receiver.ids_by_job) / len(ledger.ids), least=1),
        none("messages under a new id", len(told_while_away - ids)),
        none("signatures refused", stand.receiver.forged),
        Measure(what="third wait / schedule, least", value=min(waits), least=0.8),
        Measure(what="most", value=max(waits), most=1.3),  # a tenth is our own doing
        seconds("all told after the receiver is back", late, max(SCHEDULE[:6]) * _SCALE * 1.3 + 5),
        seconds("an image job meanwhile", took, 3.0),
        Measure(what="jobs ended", value=len(jobs)),
    ]


async def _waits(stand: Stand, messages: Iterable[str], number: int) -> list[float]:
    """Return how long each delivery waited for a try, as a share of what the schedule says."""
    commands = Commands(connect(RedisSettings(url=stand.here.redis_url)))
    try:
        found = [await Deliveries(commands).find(message) for message in messages]
    finally:
        await commands.close()
    return [
        (after.at - before.at - before.latency) / (SCHEDULE[number] * _SCALE)
        for delivery in found
        if delivery is not None and len(delivery.tries) > number
        for before, after in [delivery.tries[number - 1 : number + 1]]
    ]


async def _image_job(stand: Stand, ledger: Ledger) -> float:
    begun = time.monotonic()
    job_id = await ledger.submit(SMALL)
    await ledger.ended([job_id], within=20)
    return time.monotonic() - begun


async def hanging(stand: Stand, scale: Scale) -> list[Measure]:
    """Let one receiver hold every message it gets, beside one that answers."""
    baseline = Ledger(stand, "F26 alone")
    beside = Ledger(stand, "F26 beside")
    await stand.add_worker(**SOON, DARKROOM_WORKER__WEBHOOK_TIMEOUT="6")
    for _ in range(10):
        await baseline.submit(SMALL)
    await baseline.judge(within=30)
    alone = await _latencies(stand, baseline)
    async with _holding() as (url, held):
        count = scale.of(1000, least=120)
        for _ in range(count):
            await beside.submit(SMALL, hook=False, webhook_url=url)
        await beside.ended(within=60)
        healthy = Ledger(stand, "F26 healthy")
        for _ in range(20):
            await healthy.submit(SMALL)
        verdict = await healthy.judge(within=60)
        slow = await _latencies(stand, healthy)
        most = held["most"]
    ratio = quantile(slow, 0.99) / max(quantile(alone, 0.99), 0.25)
    return [
        *judged(verdict),
        Measure(what="messages held", value=count),
        Measure(what="held at once", value=most),
        seconds("healthy delivery p99 alone", quantile(alone, 0.99)),
        seconds("healthy delivery p99 beside", quantile(slow, 0.99)),
        Measure(what="ratio, to at least 0.25 s", value=ratio, most=2.0),
    ]


async def _latencies(stand: Stand, ledger: Ledger) -> list[float]:
    """Return the seconds from the end of each job to its message."""
    jobs = await ledger.records()
    return [
        stand.receiver.first_at[job_id] - job["finished_at"]
        for job_id, job in jobs.items()
        if job_id in stand.receiver.first_at
    ]


@asynccontextmanager
async def _holding() -> AsyncIterator[tuple[str, Counter[str]]]:
    """Run a receiver that takes every message and answers none."""
    held: Counter[str] = Counter()

    async def hold(request: web.Request) -> web.Response:
        held["now"] += 1
        held["most"] = max(held["most"], held["now"])
        try:
            await asyncio.sleep(60)
        finally:
            held["now"] -= 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/hold", hold)
    async with _serving(app, cancels=True) as url:
        yield f"{url}/hold", held


@asynccontextmanager
async def _serving(app: web.Application, *, cancels: bool = False) -> AsyncIterator[str]:
    """Serve on loopback; `cancels` ends the handler of a client that has gone."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=cancels)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def astray(stand: Stand, scale: Scale) -> list[Measure]:
    """Let receivers redirect inwards, and name receivers that are inside."""
    ledger = Ledger(stand, "F27")
    await stand.add_worker(**SOON, **_THOUSANDTH)
    canary: Counter[str] = Counter()
    async with _serving(_leading_to(canary)) as url:
        for _ in range(scale.of(200, least=4)):
            for status in (301, 302, 303, 307, 308):
                hook = f"{url}/redirect/{status}"
                await ledger.submit(SMALL, hook=False, webhook_url=hook)
        await ledger.ended(within=60)
        await asyncio.sleep(3)
        followed = canary["touched"]
        # The same worker with no network opened: what resolves inwards is never dialled.
        for worker in stand.workers:
            await worker.end()
        await stand.add_worker(DARKROOM_ALLOW_NETWORKS="", **SOON, **_THOUSANDTH)
        for _ in range(scale.of(200, least=10)):
            await ledger.submit(SMALL, hook=False, webhook_url=f"{url}/canary")
        await ledger.ended(within=60)
        await asyncio.sleep(3)
    return [
        *judged(await ledger.judge(within=30, hooks=False)),
        Measure(what="redirects offered", value=canary["redirect"], least=1),
        none("redirects followed", followed),
        none("inner receivers reached", canary["touched"] - followed),
    ]


def _leading_to(canary: Counter[str]) -> web.Application:
    """Return a receiver that redirects to a canary of its own, and counts who comes to either."""

    async def redirect(request: web.Request) -> web.Response:
        await request.read()
        canary["redirect"] += 1
        status = int(request.match_info["status"])
        return web.Response(status=status, headers={"Location": f"http://{request.host}/canary"})

    async def touched(_request: web.Request) -> web.Response:
        canary["touched"] += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/redirect/{status}", redirect)
    app.router.add_route("*", "/canary", touched)
    return app


async def unwanted(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the receiver say 410: it gets nothing of that kind again."""
    ledger = Ledger(stand, "F28")
    await stand.add_worker(**SOON, **_THOUSANDTH)
    stand.receiver.status = lambda _: 410
    for _ in range(10):
        await ledger.submit(SMALL)
    await ledger.ended(within=30)
    await ledger.told(within=20)
    await asyncio.sleep(4)  # more than an hour of the schedule
    tries = stand.receiver.tries
    return [
        *judged(await ledger.judge(within=10)),
        none("tries beyond one", sum(count - 1 for count in tries.values())),
    ]


ROWS = (
    Row(id="F25", fault="receiver down for an hour", run=down),
    Row(id="F26", fault="receiver that holds every message", run=hanging),
    Row(id="F27", fault="receiver that leads to the inner network", run=astray),
    Row(id="F28", fault="receiver that wants no more", run=unwanted),
)
