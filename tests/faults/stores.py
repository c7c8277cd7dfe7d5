"""Rows of the matrix: a Redis that is killed, frozen, far, full, truncated, replaced or unsafe."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from redis.asyncio import Redis

from deploy import probe
from storage import redis_keys
from tests.faults.ledger import Ledger, quantile
from tests.faults.proxy import FINE, HOLE, Line, Proxy, proxying
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand, eventually, freeze, resume
from tests.faults.verdict import ENDED
from tests.processes import Program


SMALL = "[[bytes:4000]]"


async def killed(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill Redis again and again under load, and start it again two seconds later."""
    ledger = Ledger(stand, "F6")
    crew = [await stand.add_worker() for _ in range(2)]
    pids = {program.pid for program in (stand.here.service, *crew)}
    refusals: list[float] = []
    back: list[float] = []
    async with _load(ledger, 8, f"[[slow:0.5]] {SMALL}"):
        for _ in range(scale.of(20, least=2)):
            await asyncio.sleep(2)
            await stand.here.redis.kill()
            for _ in range(8):
                status, took = await asked(stand, "POST", "/v1/jobs", F="F6 refused")
                if status == 503:
                    refusals.append(took)
                await asyncio.sleep(0.2)
            await stand.here.redis.start()
            begun = time.monotonic()
            await eventually(lambda: _runs(stand, ledger), within=30)
            back.append(time.monotonic() - begun)
    verdict = await ledger.judge(within=90)
    alive = {p.pid for p in (stand.here.service, *crew) if p.is_alive}
    return [
        *judged(verdict),
        Measure(what="refusals seen", value=len(refusals), least=1),
        seconds("slowest 503", max(refusals, default=float("nan")), 2.0),
        seconds("slowest recovery, a new job to its end", max(back), 15.0),
        none("processes ended", len(pids - alive)),
    ]


async def _runs(stand: Stand, ledger: Ledger) -> bool:
    """Say whether a new job is taken in and comes to its end."""
    job_id = await ledger.submit(SMALL)
    jobs = await ledger.ended([job_id], within=20)
    return bool(jobs[job_id]["status"] == "succeeded")


@asynccontextmanager
async def _load(ledger: Ledger, clients: int, tokens: str) -> AsyncIterator[None]:
    """Submit from so many clients while the context lasts."""
    stop = asyncio.Event()

    async def submit() -> None:
        while not stop.is_set():
            await ledger.submit(tokens)
            await asyncio.sleep(0.1)

    running = [asyncio.create_task(submit()) for _ in range(clients)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)


async def asked(stand: Stand, method: str, path: str, **body: Any) -> tuple[int, float]:
    """Ask the service once; return the status, 0 for none, and the seconds it took."""
    begun = time.monotonic()
    said = {"model": "gpt-image-2", "prompt": f"{body.pop('F', 'asked')} {SMALL}", **body}
    patience = aiohttp.ClientTimeout(total=30)
    json = said if method == "POST" else None
    try:
        async with stand.client.request(method, path, json=json, timeout=patience) as answer:
            await answer.read()
            return answer.status, time.monotonic() - begun
    except (aiohttp.ClientError, TimeoutError):
        return 0, time.monotonic() - begun


async def frozen(stand: Stand, scale: Scale) -> list[Measure]:
    """Freeze Redis while clients ask for everything; then put it 200 ms away."""
    ledger = Ledger(stand, "F9")
    crew = [await stand.add_worker() for _ in range(2)]
    first = await ledger.submit(SMALL)
    await ledger.ended(within=30)
    answers: list[tuple[str, int, float]] = []
    running = [await ledger.submit(f"[[slow:3]] {SMALL}") for _ in range(4)]
    await asyncio.sleep(1)
    freeze(stand.here.redis)
    stop = time.monotonic() + scale.of(30, least=10)

    async def ask(method: str, path: str, pause: float) -> None:
        while time.monotonic() < stop:
            answers.append((path, *await asked(stand, method, path, F="F9 frozen")))
            await asyncio.sleep(pause)

    doors = [("POST", "/v1/jobs"), ("GET", f"/v1/jobs/{first}"), ("GET", "/v1/jobs")]
    doors += [("POST", "/v1/images/generations"), ("GET", "/readyz"), ("GET", "/v1/models")]
    await asyncio.gather(
        *(ask(*door, 0.05) for door in doors for _ in range(6)), ask("GET", "/livez", 0.01)
    )
    resume(stand.here.redis)
    await eventually(lambda: _runs(stand, ledger), within=30)
    far = [await _far(stand, ledger) for _ in range(scale.of(200, least=20))]
    await stand.redis.become(FINE)
    await stand.worker_redis.become(FINE)
    verdict = await ledger.judge(within=60)
    lag = [took for path, _, took in answers if path == "/livez"]
    asks = [(path, status, took) for path, status, took in answers if path != "/livez"]
    jobs = await ledger.ended(running, within=5)
    slowest = max(asks, key=lambda one: one[2])
    odd = Counter(status for _, status, _ in asks if status not in {200, 202, 503})
    return [
        *judged(verdict),
        Measure(what=f"answers {dict(Counter(status for _, status, _ in asks))}", value=len(asks)),
        seconds(f"slowest answer, of {slowest[0]}", slowest[2], 3.0),
        none("odd statuses", odd.total()),
        seconds("/livez p99", quantile(lag, 0.99), 0.1),
        none("running jobs not succeeded", sum(j["status"] != "succeeded" for j in jobs.values())),
        none("workers ended", sum(not worker.is_alive for worker in crew)),
        Measure(what="taken in at once at 200 ms", value=sum(far) / len(far), least=0.99),
    ]


async def _far(stand: Stand, ledger: Ledger) -> bool:
    line = Line(latency=0.1, jitter=0.02)
    if stand.redis.line != line:
        await stand.redis.become(line)
        await stand.worker_redis.become(line)
    try:
        await ledger.submit(SMALL, tries=1)
    except AssertionError:
        return False
    return True


async def full(stand: Stand, scale: Scale) -> list[Measure]:
    """Take Redis's memory away while jobs run."""
    ledger = Ledger(stand, "F10")
    crew = [await stand.add_worker() for _ in range(2)]
    ids = [await ledger.submit(f"[[slow:2]] {SMALL}") for _ in range(scale.of(100, least=8))]
    ended = [await ledger.submit(SMALL)]
    await ledger.ended(ended, within=30)
    await stand.store.config_set("maxmemory", "1mb")
    creates = [await asked(stand, "POST", "/v1/jobs", F="F10 refused") for _ in range(10)]
    reads = [await asked(stand, "GET", f"/v1/jobs/{ids[0]}") for _ in range(10)]
    reads += [await asked(stand, "GET", "/v1/jobs") for _ in range(3)]
    under = await ledger.ended(ids, within=20)
    await asyncio.sleep(scale.of(60, least=12))  # beyond a lease and a record of health
    alive = sum(worker.is_alive for worker in crew)
    stats = await stand.store.info("stats")
    await stand.store.config_set("maxmemory", "0")
    recovered = await eventually(lambda: _runs(stand, ledger), within=30)
    logs = stand.here.logs()
    return [
        *judged(await ledger.judge(within=60)),
        none("creates that are no 503", sum(status != 503 for status, _ in creates)),
        seconds("slowest 503", max(took for _, took in creates), 2.0),
        none("reads that are no 200", sum(status != 200 for status, _ in reads)),
        none("running jobs without an end", sum(j["status"] not in ENDED for j in under.values())),
        none("workers ended", len(crew) - alive),
        none("keys evicted", stats["evicted_keys"]),
        none("prompts in logs", logs.count(SMALL)),
        seconds("recovery", recovered, 15.0),
    ]


async def unsafe(stand: Stand, scale: Scale) -> list[Measure]:
    """Start a service and a worker on a Redis that may evict records."""
    await stand.store.config_set("maxmemory-policy", "allkeys-lru")
    measures = []
    try:
        for module in ("service", "worker"):
            program = Program(
                f"unsafe-{module}",
                (*stand.here.service.command[:2], module),
                {**stand.here.environment, "DARKROOM_PORT": "0"},
                stand.here.folder / f"unsafe-{module}.log",
            )
            begun = time.monotonic()
            await program.start()
            assert program.process is not None
            code = await asyncio.wait_for(program.process.wait(), 30)
            took = time.monotonic() - begun
            said = program.log.read_text().strip().splitlines()
            measures += [
                Measure(what=f"{module}: exit code", value=code, least=78, most=78),
                seconds("after", took, 5.0),
                none("not said which", not (said and "allkeys-lru" in said[-1])),
            ]
    finally:
        await stand.store.config_set("maxmemory-policy", "noeviction")
    return measures


async def truncated(stand: Stand, scale: Scale) -> list[Measure]:
    """Cut the tail of what Redis wrote, as a power cut may: what is left must be whole."""
    chance = random.Random(7)
    lost = unended = dangling = halves = void = jobs = 0
    for number in range(scale.of(20, least=3)):
        ledger = Ledger(stand, f"F7-{number}")
        await stand.add_worker(**SOON, DARKROOM_WORKER__REAP_EVERY="1")
        for _ in range(20):
            await ledger.submit(f"[[slow:0.3]] {SMALL}", hook=False)
        await stand.here.redis.kill()
        log = max((stand.here.folder / "redis" / "appendonlydir").glob("*.incr.aof"))
        size = log.stat().st_size
        with log.open("r+b") as file:
            file.truncate(max(size - chance.randrange(1, 40_000), 0))
        await stand.here.redis.start()
        await eventually(lambda: _redis_is_back(stand), within=20)
        verdict = await ledger.judge(within=60, hooks=False)
        jobs += verdict.jobs
        lost += verdict.lost
        unended += verdict.unended
        dangling += verdict.dangling
        halves += await _halves(stand)
        void += await _void(stand)
        await stand.tidy()
    return [
        Measure(what="jobs", value=jobs),
        Measure(what="forgotten with the cut bytes", value=lost),
        none("survivors without an end", unended),
        none("survivors with dangling images", dangling),
        none("halves of jobs", halves),
        Measure(what="appointments without a job, kept and gone", value=void),
    ]


async def _redis_is_back(stand: Stand) -> bool:
    with contextlib.suppress(Exception):
        return bool(await stand.store.ping())
    return False


async def _halves(stand: Stand) -> int:
    """Count queue entries without a record, and records that nobody will look at again."""
    store = stand.store
    count = 0
    for job_id in await store.zrange(redis_keys.IMAGE_QUEUE, 0, -1):
        count += not await store.exists(redis_keys.job(job_id.decode()))
    for job_id in await store.zrange(redis_keys.jobs_of("acme"), 0, -1):
        if await store.exists(redis_keys.job(job_id.decode())):
            count += await store.zscore(redis_keys.APPOINTMENTS, job_id) is None
    return count


async def _void(stand: Stand) -> int:
    """Let the worker keep the appointments whose job is not there; return how many there were.

    The log may have been cut in the middle of taking a job in, which begins with its appointment.
    """
    ids = await stand.store.zrange(redis_keys.APPOINTMENTS, 0, -1)
    void = [i for i in ids if not await stand.store.exists(redis_keys.job(i.decode()))]
    if void:
        await stand.store.zadd(redis_keys.APPOINTMENTS, dict.fromkeys(void, 0.0), xx=True)

    async def gone() -> bool:
        left = await stand.store.zrange(redis_keys.APPOINTMENTS, 0, -1)
        return not set(left) & set(void)

    await eventually(gone, within=20)
    return len(void)


async def failed_over(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill Redis and go on with a replica that lags behind."""
    ledger = Ledger(stand, "F8")
    async with _replica(stand) as (line, port):
        await stand.add_worker(**SOON)
        early = [await ledger.submit(f"[[slow:4]] {SMALL}") for _ in range(6)]
        await stand.store.wait(1, 2000)
        await line.become(HOLE)
        await asyncio.sleep(1.5)  # what is claimed now, the replica does not know
        late = [await ledger.submit(SMALL) for _ in range(4)]
        await ledger.ended(late, within=20)
        before = len(stand.receiver.messages)
        await stand.here.redis.kill()
        promoted = Redis.from_url(
            stand.here.redis_url.replace(f":{stand.redis.target}/", f":{port}/")
        )
        await promoted.slaveof()
        stand.redis.target = stand.worker_redis.target = port
        await stand.redis.cut()
        await stand.worker_redis.cut()
        try:
            jobs = await ledger.ended(within=60)
            await asyncio.sleep(5)
        finally:
            await promoted.aclose()
    survivors = {job_id: job for job_id, job in jobs.items() if "status" in job}
    lost = len(jobs) - len(survivors)
    ids_told = Counter(
        body["data"]["id"]
        for _, body in {m: (m, b) for m, b in stand.receiver.messages[before:]}.values()
    )
    return [
        Measure(what="jobs", value=len(jobs)),
        Measure(what="lost with the lag, all from its window", value=lost, least=1, most=len(late)),
        none("lost from before", sum(job_id not in survivors for job_id in early)),
        none("without an end", sum(j["status"] not in ENDED for j in survivors.values())),
        none("ends told twice since", sum(count > 1 for count in ids_told.values())),
        none("calls on no record", await _unrecorded(stand, ledger, survivors)),
    ]


async def _unrecorded(stand: Stand, ledger: Ledger, jobs: dict[str, Any]) -> int:
    """Count published images whose attempt is not the one on record."""
    return sum(
        image["status"] == "succeeded" and not job["attempts"]
        for job in jobs.values()
        for image in job["images"]
    )


@asynccontextmanager
async def _replica(stand: Stand) -> AsyncIterator[tuple[Proxy, int]]:
    """Run a replica of the stand's Redis; return the line between them, and the replica's port.

    At the end the stand is put back onto its own Redis.
    """
    main, port = stand.redis.target, probe.free_port("127.0.0.1")
    folder = stand.here.folder / "replica"
    folder.mkdir(exist_ok=True)
    password = urlsplit(stand.here.redis_url).password
    replica = Program(
        "replica",
        (stand.here.redis.command[0], str(folder / "redis.conf")),
        stand.here.redis.environment,
        stand.here.folder / "replica.log",
    )
    async with proxying(main) as line:
        (folder / "redis.conf").write_text(
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\nmasterauth {password}\n"
            f'dir "{folder}"\nappendonly yes\nappendfsync always\nsave ""\n'
            f"replicaof 127.0.0.1 {line.port}\nloglevel warning\n"
        )
        await replica.start()
        try:
            await eventually(lambda: _follows(stand), within=20)
            yield line, port
        finally:
            await replica.end(signal.SIGKILL)
            stand.redis.target = stand.worker_redis.target = main
            await stand.redis.cut()
            await stand.worker_redis.cut()


async def _follows(stand: Stand) -> bool:
    info = await stand.store.info("replication")
    return bool(info["connected_slaves"] == 1 and info["slave0"]["state"] == "online")


ROWS = (
    Row(id="F6", fault="Redis killed under load", run=killed),
    Row(id="F7", fault="the tail of Redis's log cut off", run=truncated),
    Row(id="F8", fault="failover to a lagging replica", run=failed_over),
    Row(id="F9", fault="Redis frozen, then 200 ms away", run=frozen),
    Row(id="F10", fault="Redis out of memory", run=full),
    Row(id="F11", fault="Redis that may evict records", run=unsafe),
)
