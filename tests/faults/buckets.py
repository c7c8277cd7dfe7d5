"""Rows of the matrix: an object store that is down, slow, forbidding, throttling or forgetful."""

import asyncio
import random
import time
from typing import Any

from tests.faults.bucket import Bucket
from tests.faults.ledger import Ledger, quantile
from tests.faults.proxy import DOWN, FINE, HOLE, Line, Proxy
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand
from tests.faults.stores import asked


SMALL = "[[bytes:4000]]"


def _line(stand: Stand) -> Proxy:
    assert stand.objects is not None
    return stand.objects


def _bucket(stand: Stand) -> Bucket:
    assert stand.bucket is not None
    return stand.bucket


async def down(stand: Stand, scale: Scale) -> list[Measure]:
    """Take the store away while results come in, and give it back."""
    ledger = Ledger(stand, "F12")
    await stand.add_worker(**SOON)
    await stand.add_worker(**SOON)
    before = [await ledger.submit(f"[[slow:1]] {SMALL}") for _ in range(scale.of(50, least=6))]
    await _line(stand).become(DOWN)
    outage = scale.of(60, least=10)
    during = [await ledger.submit(SMALL) for _ in range(4)]
    await asyncio.sleep(outage)
    back = time.time()
    await _line(stand).become(FINE)
    verdict = await ledger.judge(within=60)
    jobs = (await ledger.ended(within=5)).values()
    calls = await stand.calls(containing="F12")
    late = max(job["finished_at"] for job in (await ledger.records()).values()) - back
    return [
        *judged(verdict),
        none("not succeeded", sum(job["status"] != "succeeded" for job in jobs)),
        none("calls beyond one for a job", len(calls) - len(before) - len(during)),
        none("attempts beyond one", sum(len(job["attempts"]) - 1 for job in jobs)),
        seconds("last end after the store is back", late, 15.0),
    ]


async def slow(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the store take a kilobyte a second, then nothing at all."""
    ledger = Ledger(stand, "F13")
    bound = {"DARKROOM_OBJECTS__OPERATION_TIMEOUT": "4", "DARKROOM_OBJECTS__MAX_ATTEMPTS": "1"}
    await stand.restart_service(**bound)
    await stand.add_worker(**SOON, **bound)
    first = await ledger.submit(SMALL)
    await ledger.ended(within=30)
    reads: list[float] = []
    uploads: list[tuple[int, float]] = []
    for line in (Line(rate=1000), HOLE):
        await _line(stand).become(line)
        for _ in range(3):
            await ledger.submit("[[bytes:60000]]")
        stop = time.monotonic() + scale.of(60, least=9)

        async def read(stop: float = stop) -> None:
            while time.monotonic() < stop:
                reads.append((await asked(stand, "GET", f"/v1/jobs/{first}"))[1])
                await asyncio.sleep(0.05)

        edit = {"images": [DOT], "model": "sketch"}
        upload, _ = await asyncio.gather(asked(stand, "POST", "/v1/jobs", **edit), read())
        uploads.append(upload)
    await _line(stand).become(FINE)
    verdict = await ledger.judge(within=60)
    calls = await stand.calls(containing="F13")
    return [
        *judged(verdict),
        none("calls beyond one for a job", len(calls) - len(ledger.ids)),
        seconds("reads of jobs p99", quantile(reads, 0.99), 0.1),
        seconds("slowest answer to an upload", max(took for _, took in uploads), 6.0),
        none("uploads neither taken nor 503", sum(s not in {202, 503} for s, _ in uploads)),
    ]


async def forbidden(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the store forbid every write, to workers that run already."""
    ledger = Ledger(stand, "F14")
    worker = await stand.add_worker(**SOON)
    await ledger.ended([await ledger.submit(SMALL)], within=30)
    bucket = _bucket(stand)
    bucket.asked.clear()
    bucket.refuses = lambda method, _: (403, "AccessDenied") if method == "PUT" else None
    ids = [await ledger.submit(SMALL) for _ in range(3)]
    edit_status, _ = await asked(stand, "POST", "/v1/jobs", images=[DOT], model="sketch")
    jobs = list((await ledger.ended(ids, within=30)).values())
    puts = bucket.asked["PUT"]
    bucket.refuses = lambda _method, _key: None
    calls = await stand.calls(containing="F14")
    told = "".join(str(job) for job in jobs)
    secrets = ("faults-access", "faults-secret", "AccessDenied", f"/{bucket.port}/", "BucketName")
    return [
        *judged(await ledger.judge(within=30)),
        none("not failed as storage_error", sum(_code(job) != "storage_error" for job in jobs)),
        Measure(what="writes for a result", value=(puts - 1) / len(ids), most=2),
        none("calls beyond one for a job", len(calls) - len(ledger.ids)),
        none("secrets or names in the job", sum(secret in told for secret in secrets)),
        none("upload not refused", edit_status < 500),
        Measure(what="told to the operator", value=_said(worker.log.read_text()), least=1),
    ]


def _code(job: dict[str, Any]) -> str | None:
    return (job.get("error") or {}).get("code")


def _said(log: str) -> int:
    return log.count("result_not_kept")


async def throttled(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the store answer 503 SlowDown to three requests in ten."""
    ledger = Ledger(stand, "F15")
    chance = random.Random(15)
    bucket = _bucket(stand)
    await stand.add_worker(**SOON)
    count = scale.of(2000, least=60)
    ids = [await ledger.submit(SMALL) for _ in range(3)]
    await ledger.ended(ids, within=30)
    bucket.asked.clear()
    bucket.refuses = lambda _method, _key: (503, "SlowDown") if chance.random() < 0.3 else None
    ids += [await ledger.submit(SMALL) for _ in range(count)]
    jobs = (await ledger.ended(within=60 + count / 10)).values()
    puts = bucket.asked["PUT"]
    bucket.refuses = lambda _method, _key: None
    share = sum(job["status"] == "succeeded" for job in jobs) / len(jobs)
    return [
        *judged(await ledger.judge(within=30)),
        Measure(what="succeeded", value=share, least=0.999),
        Measure(what="writes / results", value=puts / count, most=1.6),
    ]


async def truncating(stand: Stand, scale: Scale) -> list[Measure]:
    """Let the store keep only half of what it is given, now and then, and say all is well."""
    ledger = Ledger(stand, "F16")
    chance = random.Random(16)
    await stand.add_worker(**SOON)
    _bucket(stand).keeps = lambda _, data: data[: len(data) // 2] if chance.random() < 0.3 else data
    for _ in range(scale.of(500, least=30)):
        await ledger.submit(SMALL)
    verdict = await ledger.judge(within=90)
    return [*judged(verdict), none("corrupt results served", verdict.dangling)]


# A PNG of one white pixel.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"

ROWS = (
    Row(id="F12", fault="object store down", run=down, stand="s3"),
    Row(id="F13", fault="object store slow, then silent", run=slow, stand="s3"),
    Row(id="F14", fault="object store forbids", run=forbidden, stand="stub"),
    Row(id="F15", fault="object store throttles", run=throttled, stand="stub"),
    Row(id="F16", fault="object store keeps half", run=truncating, stand="stub"),
)
