"""Rows of the matrix: services that die, clients that repeat themselves or leave, and restarts."""

import asyncio
import contextlib
import itertools
import random
import time
from typing import Any

import aiohttp
import orjson
import psutil

from storage import queue, redis_keys
from tests.faults.crew import crewed
from tests.faults.ledger import Ledger, quantile
from tests.faults.row import Measure, Row, Scale, judged, none, seconds
from tests.faults.stand import SOON, Stand, eventually
from tests.faults.verdict import ENDED


SMALL = "[[bytes:4000]]"
_SPOOLED = 6 * 1024 * 1024


async def killed_while_adding(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill the service just before and just after a job is taken in; clients ask again."""
    ledger = Ledger(stand, "F4")
    service = stand.here.service
    await service.end()
    deaths = 0
    for point in ("add", "added"):
        async with crewed(stand.here.folder, "service") as crew:
            crew.add(
                "service",
                service.command,
                {**service.environment, "DARKROOM_CRASH_AT": f"{point}:6"},
            )
            for _ in range(scale.of(250, least=14)):
                await ledger.submit(SMALL)
            deaths += crew.deaths
    await stand.restart_service()
    await stand.add_worker(**SOON)
    verdict = await ledger.judge(within=60)
    listed = await _listed(stand, ledger.name)
    return [
        *judged(verdict),
        Measure(what="deaths", value=deaths, least=4),
        none("jobs beyond one for a key", len(listed) - len(ledger.ids)),
        seconds("start after the last submit", await _last_start(ledger), 20.0),
    ]


async def killed_in_an_upload(stand: Stand, scale: Scale) -> list[Measure]:
    """Kill a service in the middle of a body: nothing of it stays, and the other goes on."""
    program, url = await stand.add_service()
    before = len(await _listed(stand, ""))
    writer = await _half_an_upload(stand, url)
    spool = stand.here.folder / "data" / "spool"
    await eventually(lambda: _files(spool, least=1), within=10)
    await program.kill()
    begun = time.monotonic()
    async with stand.client.get("/v1/jobs") as answer:
        other = answer.status
    took = time.monotonic() - begun
    writer.close()
    await program.start()
    await stand.answers(url, "/readyz")
    left = sum(1 for file in spool.rglob("*") if file.is_file() and file.stat().st_size > 0)
    return [
        none("records", len(await _listed(stand, "")) - before),
        none("temporary files after the restart", left),
        none("other service harmed", other != 200),
        seconds("other service answers", took, 1.0),
    ]


async def _half_an_upload(stand: Stand, url: str) -> asyncio.StreamWriter:
    """Send the first half of a form with one large file, and keep the connection."""
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    writer.write(
        b"POST /v1/images/edits HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer " + stand.here.key.encode() + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=X\r\n"
        b"Content-Length: " + str(2 * _SPOOLED).encode() + b"\r\n\r\n" + head
    )
    writer.write(random.Random(1).randbytes(_SPOOLED))
    await writer.drain()
    return writer


async def _files(folder: Any, *, least: int) -> bool:
    return folder.is_dir() and sum(1 for f in folder.rglob("*") if f.is_file()) >= least


async def repeated(stand: Stand, scale: Scale) -> list[Measure]:
    """Send the same request fifty times at once, again and again, with one key each."""
    await stand.add_worker(**SOON)
    rounds = scale.of(100, least=5)
    more, bad, others = 0, 0, 0
    for number in range(rounds):
        body = {"model": "gpt-image-2", "prompt": f"F31 {number}. {SMALL}"}
        headers = {"Idempotency-Key": f"F31-{number}-{id(stand)}"}

        async def post(said: dict[str, Any], headers: dict[str, str] = headers) -> tuple[int, Any]:
            async with stand.client.post("/v1/jobs", json=said, headers=headers) as answer:
                return answer.status, orjson.loads(await answer.read()).get("id")

        found = await asyncio.gather(*(post(body) for _ in range(50)))
        more += len({job_id for _, job_id in found}) - 1
        bad += sum(status not in {200, 202} for status, _ in found)
        others += (await post({**body, "n": 2}))[0] != 422
    await asyncio.sleep(1)
    calls = await stand.calls(containing="F31")
    return [
        Measure(what="keys", value=rounds),
        none("jobs beyond one for a key", more),
        none("calls beyond one for a key", len(calls) - rounds),
        none("answers that are no 2xx", bad),
        none("other bodies not refused", others),
    ]


async def disconnected(stand: Stand, scale: Scale) -> list[Measure]:
    """Let clients hang up in the middle of a synchronous wait."""
    await stand.add_worker(**SOON)
    chance = random.Random(2)
    stand.here.service.log.write_text("")
    count = scale.of(200, least=30)
    left: list[float] = []

    async def leave(number: int) -> None:
        body = {"model": "gpt-image-2", "prompt": f"F32 {number}. [[slow:9]] {SMALL}"}
        patience = aiohttp.ClientTimeout(total=3.0 + chance.random())
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, headers=stand.client.headers) as own:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                url = f"{stand.here.url}/v1/images/generations"
                async with own.post(url, json=body, timeout=patience) as answer:
                    await answer.read()
        left.append(time.monotonic())

    async def handlers_gone() -> bool:
        said = stand.here.service.log.read_text()
        return said.count('"route":"/v1/images/generations"') >= count

    async def connections_gone() -> bool:
        return _inbound(stand) <= before + 1

    before = _inbound(stand)
    await asyncio.gather(*(leave(number) for number in range(count)))
    await eventually(connections_gone, within=30)
    connections = time.monotonic() - max(left)
    await eventually(handlers_gone, within=30)
    handlers = time.monotonic() - max(left)
    await eventually(lambda: _none_open(stand, "F32"), within=60)
    jobs = await _listed(stand, "F32")
    return [
        Measure(what="clients gone", value=count),
        none("jobs not taken in", count - len(jobs)),
        seconds("their connections gone", connections, 5.0),
        seconds("their handlers gone", handlers, 5.0),
        none("jobs not succeeded", sum(job["status"] != "succeeded" for job in jobs)),
    ]


def _inbound(stand: Stand) -> int:
    """Count who is connected to the service."""
    port = int(stand.here.environment["DARKROOM_PORT"])
    process = psutil.Process(stand.here.service.pid)
    every = process.net_connections(kind="tcp")
    return sum(c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in every)


async def _none_open(stand: Stand, name: str) -> bool:
    return all(job["status"] in ENDED for job in await _listed(stand, name))


async def restarted(stand: Stand, scale: Scale) -> list[Measure]:
    """Restart every process in turn under load, with a task and a record of a newer version."""
    ledger = Ledger(stand, "F33")
    second, url = await stand.add_service()
    urls = itertools.cycle(((stand.here.url, url), (url, stand.here.url)))
    crew = [await stand.add_worker(DARKROOM_WORKER__SLOTS="40", **SOON) for _ in range(2)]
    newer = await _newer_task(stand)
    stop = asyncio.Event()
    late: list[str] = []

    async def load() -> None:
        while not stop.is_set():
            try:
                await ledger.submit(f"[[slow:0.5]] {SMALL}", tries=2, urls=next(urls))
            except AssertionError as error:
                late.append(str(error))
            await asyncio.sleep(0.2)

    clients = [asyncio.create_task(load()) for _ in range(scale.of(10, least=4))]
    codes = []
    for program in (stand.here.service, second, *crew):
        await asyncio.sleep(scale.of(10, least=1))
        codes.append(await program.end(within=70))
        await program.start()
        if program not in crew:
            own = stand.here.url if program is stand.here.service else url
            await stand.answers(own, "/readyz")
    await asyncio.sleep(1)
    stop.set()
    await asyncio.gather(*clients)
    verdict = await ledger.judge(within=60)
    jobs = (await ledger.ended(within=5)).values()
    held = await stand.store.zscore(redis_keys.IMAGE_QUEUE, newer)
    await stand.store.zrem(redis_keys.IMAGE_QUEUE, newer)
    return [
        *judged(verdict),
        none("failed after one retry", len(late)),
        none("exit codes that are not 0", sum(code != 0 for code in codes)),
        none("attempts beyond one", sum(len(job["attempts"]) - 1 for job in jobs)),
        none("newer task not left alone", held is None),
    ]


async def _newer_task(stand: Stand) -> str:
    """Queue a task of a kind that no worker of this version knows."""
    task_id = "job_of_a_newer_version"
    await stand.store.set(
        redis_keys.payload(task_id), queue.payload("paint_in_layers", task_id, time.time())
    )
    await stand.store.zadd(redis_keys.IMAGE_QUEUE, {task_id: 0})
    return task_id


async def _listed(stand: Stand, containing: str) -> list[dict[str, Any]]:
    """Return the tenant's jobs whose prompt contains a text."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {"limit": "100"}
    while True:
        async with stand.client.get("/v1/jobs", params=query) as answer:
            page = await answer.json()
        found += [job for job in page["data"] if f"{containing} " in job["request"]["prompt"]]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


async def _last_start(ledger: Ledger) -> float:
    jobs = (await ledger.records()).values()
    last = max(job["created_at"] for job in jobs)
    return quantile([job["started_at"] - last for job in jobs], 1.0)


ROWS = (
    Row(id="F4", fault="service killed while it takes a job in", run=killed_while_adding),
    Row(id="F5", fault="service killed during an upload", run=killed_in_an_upload),
    Row(id="F31", fault="the same request fifty times at once", run=repeated),
    Row(id="F32", fault="clients that hang up while they wait", run=disconnected),
    Row(id="F33", fault="every process restarted under load", run=restarted),
)
