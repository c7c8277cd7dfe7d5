"""A replay of a thousand deliveries that failed, beside bare posts of as many messages."""

import asyncio
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import aiohttp

from storage.deliveries import Deliveries
from storage.delivery import SCHEDULE, Delivery, DeliveryStatus, Try
from storage.delivery_log import Wanted
from tests.bench.table import Row
from tests.bench.traffic import commands_of, drained, submit
from tests.bench.webhook_client import register, tell
from tests.processes import Installation, installed
from tests.receiver import Receiver, receiving


COUNT = int(os.environ.get("DARKROOM_BENCH_REPLAY", "1000"))
AT_ONCE = 4  # to one receiver, as Darkroom does
LONGEST = 120.0


async def run() -> list[Row]:
    """Let a thousand jobs end while their receiver is away for good, then send all again."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            installed(Path(folder), workers=1) as here,
            here.client() as client,
            receiving() as receiver,
        ):
            endpoint, receiver.secret = await register(client, receiver.url, ("job.succeeded",))
            await tell(client, f"/v1/webhook-endpoints/{endpoint}/disable")
            for number in range(COUNT):
                await submit(client, "gpt-image-2", f"replay {number} [[bytes:3000]]")
            await drained(here, within=LONGEST)
            await _fail_all(here)
            await tell(client, f"/v1/webhook-endpoints/{endpoint}/enable")
            started = time.monotonic()
            replay = await tell(client, "/v1/deliveries/replay", only="failed")
            seconds = await _all_taken(receiver, started)
            async with client.get(f"/v1/deliveries/replays/{replay['id']}") as answer:
                replayed = (await answer.json())["replayed"]
            forged = receiver.forged
            bare = await _bare(receiver)
    once = set(receiver.tries.values()) == {1}
    return [
        Row(
            what=f"replay of {COUNT} failed ones: taken, each once, and verified",
            ours=f"{len(receiver.tries)} (replayed {replayed})",
            bar=f"= {COUNT}",
            good=len(receiver.tries) == replayed == COUNT and once and not forged,
        ),
        Row(
            what=f"replay of {COUNT} failed ones: seconds to the last one taken (messages/s)",
            ours=f"{seconds:.1f} ({COUNT / seconds:.0f})",
            baseline=f"bare posts {bare:.1f} ({COUNT / bare:.0f})",
            bar="< 30",
            good=seconds < 30,
        ),
    ]


async def _all_taken(receiver: Receiver, started: float) -> float:
    while len(receiver.tries) < COUNT and time.monotonic() < started + LONGEST:
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def _fail_all(here: Installation) -> None:
    """Write down that every try at what was owed has failed, as days of an outage would."""
    async with commands_of(here) as commands:
        deliveries = Deliveries(commands)
        missed = Wanted(statuses=(DeliveryStatus.SKIPPED,))
        page = await deliveries.page("acme", missed, limit=COUNT)
        assert len(page.deliveries) == COUNT
        for one in page.deliveries:
            assert await deliveries.swap(one, _failed(one), one.created_at) is not None


def _failed(delivery: Delivery) -> Delivery:
    at = delivery.created_at
    tries = tuple(Try(at=at, latency=15.0, error="No answer came in time.") for _ in SCHEDULE)
    return replace(delivery, status=DeliveryStatus.FAILED, tries=tries, round=len(tries), note=None)


async def _bare(receiver: Receiver) -> float:
    """Post as many bodies of the same size, unsigned, and return how many seconds that took."""
    body = b" " * 1500
    left = iter(range(COUNT))

    async def some(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(receiver.url, data=body) as answer:
                await answer.read()

    started = time.monotonic()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(some(session) for _ in range(AT_ONCE)))
    return time.monotonic() - started
