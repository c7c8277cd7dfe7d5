"""Rows of the matrix: a disk that is full, and clocks that disagree."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from tests import images
from tests.faults.ledger import Ledger
from tests.faults.row import Measure, NotRun, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand, eventually
from tests.faults.stores import asked


SMALL = "[[bytes:4000]]"
SKEW = Path(__file__).parent / "skew"
_HOUR = 3600


async def disk_full(stand: Stand, scale: Scale) -> list[Measure]:
    """Fill the disks of uploads, of objects and of Redis, one after the other."""
    with _tiny_disk(stand.here.folder / "tiny") as disk:
        return [
            *await _uploads_full(stand, disk),
            *await _objects_full(stand, disk),
            *await _redis_full(stand, disk),
        ]


async def _uploads_full(stand: Stand, disk: Path) -> list[Measure]:
    await stand.restart_service(DARKROOM_DATA=str(disk / "data"))
    _fill(disk)
    statuses = [await _upload(stand) for _ in range(3)]
    _empty(disk)
    after = await _upload(stand)
    return [
        none("uploads neither 503 nor 507", sum(s not in {503, 507} for s in statuses)),
        none("service harmed", not stand.here.service.is_alive),
        none("upload refused with space again", after >= 500),
    ]


async def _upload(stand: Stand) -> int:
    """Send an image that is too large to wait in memory; return the status."""
    form = aiohttp.FormData({"prompt": "F29", "model": "sketch"})
    form.add_field("image", images.heavy_png((1100, 1100)), filename="a.png")
    async with stand.client.post("/v1/jobs", data=form) as answer:
        await answer.read()
        return answer.status


async def _objects_full(stand: Stand, disk: Path) -> list[Measure]:
    where = {"DARKROOM_OBJECTS__PATH": str(disk / "objects")}
    await stand.restart_service(**where)
    worker = await stand.add_worker(**where, **SOON)
    ledger = Ledger(stand, "F29 objects")
    await ledger.ended([await ledger.submit(SMALL)], within=30)
    _fill(disk)
    ids = [await ledger.submit(SMALL) for _ in range(4)]
    waiting = await ledger.ended(ids, within=4)
    _empty(disk)
    begun = time.monotonic()
    jobs = await ledger.ended(ids, within=60)
    took = time.monotonic() - begun
    calls = await stand.calls(containing="F29 objects")
    verdict = await ledger.judge(within=30)
    await worker.end()
    await stand.restart_service()
    return [
        *judged(verdict),
        none("ended without space", sum(j["status"] == "succeeded" for j in waiting.values())),
        none("not succeeded", sum(job["status"] != "succeeded" for job in jobs.values())),
        none("calls beyond one for a job", len(calls) - len(ledger.ids)),
        seconds("recovery of objects", took, 15.0),
    ]


async def _redis_full(stand: Stand, disk: Path) -> list[Measure]:
    """Fill the disk of Redis, which ends when it cannot write, with `always`."""
    ledger = Ledger(stand, "F29 redis")
    worker = await stand.add_worker(**SOON)
    async with _redis_on(stand, disk / "redis"):
        await ledger.ended([await ledger.submit(SMALL) for _ in range(5)], within=30)
        _fill(disk)
        statuses = []
        for _ in range(10):
            statuses.append((await asked(stand, "POST", "/v1/jobs", F="F29 refused"))[0])
            await asyncio.sleep(0.2)
        _empty(disk)
        begun = time.monotonic()
        await ledger.submit(SMALL)
        verdict = await ledger.judge(within=60)
        took = time.monotonic() - begun
    return [
        *judged(verdict),
        Measure(what="refused while Redis's disk is full", value=statuses.count(503), least=1),
        none("odd answers", sum(status not in {202, 503} for status in statuses)),
        seconds("recovery of Redis", took, 15.0),
        none("worker ended", not worker.is_alive),
    ]


@asynccontextmanager
async def _redis_on(stand: Stand, folder: Path) -> AsyncIterator[None]:
    """Let Redis begin anew in another folder for a while, with a key and a secret of its own."""
    home = stand.here.folder / "redis"
    config = home / "redis.conf"
    before = config.read_text()
    key, secret = stand.here.key, stand.receiver.secret
    await stand.here.redis.end(within=10)
    await asyncio.to_thread(folder.mkdir)
    config.write_text(before.replace(f'dir "{home.resolve()}"', f'dir "{folder}"'))
    keeper = asyncio.create_task(_keep_redis(stand))
    try:
        await eventually(lambda: _answers(stand), within=20)
        made = await stand.here.command("-m", "service", "keys", "create", "--tenant", "acme")
        stand.client.headers["Authorization"] = f"Bearer {made}"
        async with stand.client.get("/v1/webhook-secret") as answer:
            stand.receiver.secret = (await answer.json())["secret"]
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        config.write_text(before)
        if stand.here.redis.is_alive:
            await stand.here.redis.end(within=10)
        stand.client.headers["Authorization"] = f"Bearer {key}"
        stand.receiver.secret = secret


async def _keep_redis(stand: Stand) -> None:
    """Start Redis whenever it has ended, as a supervisor does."""
    while True:
        if not stand.here.redis.is_alive:
            await stand.here.redis.start()
        await asyncio.sleep(0.3)


async def _answers(stand: Stand) -> bool:
    try:
        return bool(await stand.store.ping())
    except Exception:  # noqa: BLE001 — any way of not answering
        return False


@contextmanager
def _tiny_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of a few MiB."""
    if os.geteuid() != 0:
        raise NotRun("only root can mount a tiny disk")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        raise NotRun("no tiny disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def _fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


def _empty(disk: Path) -> None:
    (disk / "ballast").unlink()


async def skewed(stand: Stand, scale: Scale) -> list[Measure]:
    """Set one worker's clock back by an hour, another's forward, and the service's forward."""
    ledger = Ledger(stand, "F30")
    await stand.restart_service(**_skew(_HOUR))
    early = await stand.add_worker(**_skew(-_HOUR), **SOON)
    late = await stand.add_worker(**_skew(_HOUR), **SOON)
    try:
        await ledger.ended([await ledger.submit(SMALL) for _ in range(8)], within=30)
        waits = []
        for number in range(scale.of(100, least=12)):
            begun = time.monotonic()
            job_id = await ledger.submit(
                f"[[slow:0.2]] {SMALL}", start_within=30.0, end_within=120.0
            )
            await eventually(lambda: ledger.started(job_id), within=40)  # noqa: B023 — awaited
            waits.append(time.monotonic() - begun)
            if number % 4 == 3:  # leases are renewed and judged across both clocks
                await ledger.submit(f"[[slow:5]] {SMALL}")
        verdict = await ledger.judge(within=60)
        jobs = (await ledger.ended(within=5)).values()
        wrong = sum(abs(job["created_at"] - time.time()) > 600 for job in jobs)
        logs = [worker.log.read_text() for worker in (early, late)]
        link = next(iter(jobs))["images"][0]["url_expires_at"] - time.time()
    finally:
        await stand.restart_service()
    return [
        *judged(verdict),
        none("not succeeded", verdict.jobs - verdict.outcomes["succeeded"]),
        seconds("slowest start", max(waits), 2.0),
        none("workers that took nothing", sum("job_ended" not in log for log in logs)),
        none("leases lost", sum(log.count("lease_lost") for log in logs)),
        none("attempts beyond one", sum(len(job["attempts"]) - 1 for job in jobs)),
        none("moments an hour off", wrong),
        Measure(what="a link is good for", value=link, least=600, most=1000, unit="s"),
    ]


def _skew(by: int) -> dict[str, str]:
    return {"PYTHONPATH": str(SKEW), "SKEW": str(by)}


ROWS = (
    Row(id="F29", fault="disks full", run=disk_full),
    Row(id="F30", fault="clocks an hour apart", run=skewed),
)
