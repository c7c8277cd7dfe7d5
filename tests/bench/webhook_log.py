"""The delivery log: what a page of 10,000 entries costs, beside the same page of a hundred."""

import secrets
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from storage.deliveries import Deliveries
from storage.delivery import Delivery, DeliveryId, DeliveryStatus, Try
from storage.endpoint import EndpointId
from storage.job import JobId
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.bench.table import Row, quantile
from tests.bench.webhook_client import page
from tests.processes import Installation, installed


MANY, FEW = 10_000, 100
READS = 100
SPREAD = 29 * 86_400.0
RARE = 1000  # one entry in as many is of the rare type
LIMIT_MS = 50.0


@dataclass(frozen=True, slots=True)
class Log:
    """A tenant with a log: its client, and what its entries are filtered by."""

    client: aiohttp.ClientSession
    endpoints: tuple[str, ...]
    job: str


Query = dict[str, str | int]


async def run() -> list[Row]:
    """Read pages of a long log and of a short one in turn."""
    with tempfile.TemporaryDirectory() as folder:
        async with installed(Path(folder), workers=0) as here:
            key = await here.command("-m", "service", "keys", "create", "--tenant", "globex")
            headers = {"Authorization": f"Bearer {key}"}
            async with (
                here.client() as client,
                aiohttp.ClientSession(here.url, headers=headers) as other,
            ):
                long = await _filled(here, client, "acme", MANY)
                short = await _filled(here, other, "globex", FEW)
                deep = await _deep_cursor(client)
                shapes: dict[str, tuple[Query, Query]] = {
                    "the first page of 20": ({}, {}),
                    "the first page of 100": ({"limit": 100}, {"limit": 100}),
                    "a page of 100 at entry 9,800": (
                        {"limit": 100, "cursor": deep},
                        {"limit": 100},
                    ),
                    "failed ones": ({"status": "failed"}, {"status": "failed"}),
                    "of one endpoint": (
                        {"endpoint": long.endpoints[1]},
                        {"endpoint": short.endpoints[1]},
                    ),
                    "of a type that one in 1,000 has": (
                        {"type": "job.expired"},
                        {"type": "job.expired"},
                    ),
                    "of a type that none has": (
                        {"type": "job.cancelled"},
                        {"type": "job.cancelled"},
                    ),
                    "of an endpoint without any": ({"endpoint": "we_0"}, {"endpoint": "we_0"}),
                    "of one job": ({"job": long.job}, {"job": short.job}),
                }
                return [
                    await _row(what, (long, asked[0]), (short, asked[1]))
                    for what, asked in shapes.items()
                ]


async def _row(what: str, ours: tuple[Log, Query], base: tuple[Log, Query]) -> Row:
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(READS):
        mine.append(await _timed(*ours))
        theirs.append(await _timed(*base))
    p50, p95 = quantile(mine, 0.5), quantile(mine, 0.95)
    return Row(
        what=f"log of {MANY}, {what}: p50 / p95 ms",
        ours=f"{p50:.1f} / {p95:.1f}",
        baseline=f"log of {FEW}: {quantile(theirs, 0.5):.1f} / {quantile(theirs, 0.95):.1f}",
        bar=f"< {LIMIT_MS:g}",
        good=p95 < LIMIT_MS,
    )


async def _timed(log: Log, query: Query) -> float:
    started = time.perf_counter()
    await page(log.client, **query)
    return (time.perf_counter() - started) * 1000


async def _deep_cursor(client: aiohttp.ClientSession) -> str:
    """Return where the last pages but one begin, having read all before them."""
    cursor: Query = {}
    for _ in range(MANY // 100 - 2):
        cursor = {"cursor": (await page(client, limit=100, **cursor))["next"]}
    return str(cursor["cursor"])


async def _filled(
    here: Installation, client: aiohttp.ClientSession, tenant: str, count: int
) -> Log:
    """Give a tenant a log of what was delivered over a month, one in ten of it failed."""
    endpoints = tuple(f"we_{secrets.token_hex(16)}" for _ in range(4))
    now = time.time()
    owed = [_entry(tenant, at, count, endpoints[at % 4], now) for at in range(count)]
    commands = Commands(connect(RedisSettings(url=here.redis_url)))
    deliveries = Deliveries(commands)
    try:
        for first in range(0, count, 100):
            await deliveries.owe(tenant, owed[first : first + 100])
        for at, one in enumerate(owed):
            await deliveries.swap(one, _ended(one, failed=at % 10 == 0), now)
    finally:
        await commands.close()
    return Log(client, endpoints, str(owed[count // 2].job_id))


def _entry(tenant: str, at: int, count: int, endpoint: str, now: float) -> Delivery:
    created = now - SPREAD * (count - at) / count
    return Delivery(
        id=DeliveryId(f"msg_{secrets.token_hex(16)}"),
        tenant=tenant,
        type="job.expired" if at % RARE == RARE // 2 else "job.succeeded",
        url="https://example.com/webhooks/darkroom",
        created_at=created,
        job_id=JobId(f"job_{secrets.token_hex(16)}"),
        endpoint_id=EndpointId(endpoint),
        next_at=created,
    )


def _ended(delivery: Delivery, *, failed: bool) -> Delivery:
    at = delivery.created_at
    if not failed:
        took = Try(at=at, latency=0.12, status=200, reply="ok")
        return replace(delivery, status=DeliveryStatus.DELIVERED, tries=(took,), round=1)
    tries = tuple(
        Try(at=at + n, latency=15.0, error="The receiver did not answer in time.")
        for n in range(10)
    )
    return replace(delivery, status=DeliveryStatus.FAILED, tries=tries, round=10, next_at=None)
