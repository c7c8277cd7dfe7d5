"""A receiver that is away for an hour of scaled time: what arrives, in which order, tried when.

Nothing listens while jobs of four events each are made throughout the hour. What the schedule says
is the baseline: the waits between tries, and how many tries each message needs until the receiver
is back. A wait has a jitter of a fifth, and the way through the queue on top, which nothing scales:
so it weighs more here than it does, and the shortest wait, of a tenth of a second, shows it best.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from deploy import probe
from storage.delivery import SCHEDULE
from tests.bench.table import Row, quantile
from tests.bench.traffic import submit
from tests.bench.webhook_client import register, whole_log
from tests.processes import installed
from tests.receiver import Receiver, receiving


SCALE = float(os.environ.get("DARKROOM_BENCH_SCALE", "0.02"))
JOBS = 100
HOUR = 3600.0
ORDER = ("job.queued", "job.started", "job.image_ready", "job.succeeded")
JITTER = 0.2
EARLY = 0.5  # seconds of the schedule that a try may be made before its time
LATE = 0.25  # seconds that the way through the queue may take on a busy machine


@dataclass(frozen=True, slots=True)
class Told:
    """What the log says of one message: what it tells, what became of it, and its tries."""

    type: str
    status: str
    tries: tuple[dict[str, Any], ...]

    @property
    def waits(self) -> list[tuple[int, float]]:
        """Return how long each try came after the end of the one before it, in schedule time."""
        pairs = zip(self.tries, self.tries[1:], strict=False)
        return [
            (number, (later["at"] - before["at"] - before["latency"]) / SCALE)
            for number, (before, later) in enumerate(pairs, 1)
        ]


async def run() -> list[Row]:
    """Make jobs for an hour without a receiver, then let there be one, and read the log."""
    port = probe.free_port("127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        async with (
            installed(Path(folder), DARKROOM_WORKER__WEBHOOK_SCALE=str(SCALE)) as here,
            here.client() as client,
        ):
            _, secret = await register(client, f"http://127.0.0.1:{port}/hook")
            back = time.time() + HOUR * SCALE
            await _jobs(client, back)
            async with receiving(secret, port=port) as receiver:
                back = time.time()
                await _all_taken(receiver, SCHEDULE[4] * (1 + JITTER) * SCALE + 60)
                log = [_told(one) for one in await whole_log(client)]
            return _rows(receiver, log, back)


def _told(document: dict[str, Any]) -> Told:
    return Told(document["type"], document["status"], tuple(document["tries"]))


async def _jobs(client: aiohttp.ClientSession, until: float) -> None:
    """Submit the jobs evenly until a moment, then wait for it."""
    gap = (until - time.time()) / JOBS
    for number in range(JOBS):
        await submit(client, "gpt-image-2", f"outage {number} [[bytes:3000]]")
        await asyncio.sleep(max(0.0, until - gap * (JOBS - number - 1) - time.time()))


async def _all_taken(receiver: Receiver, within: float) -> None:
    end = time.monotonic() + within
    while len(receiver.tries) < JOBS * len(ORDER) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # whatever would come twice


def _rows(receiver: Receiver, log: list[Told], back: float) -> list[Row]:
    total = JOBS * len(ORDER)
    delivered = sum(one.status == "delivered" for one in log)
    order: dict[str, list[str]] = {}
    for _, message in receiver.messages:
        order.setdefault(message["data"]["id"], []).append(message["type"])
    in_order = sum(tuple(types) == ORDER for types in order.values())
    firsts = [one for one in log if one.type == ORDER[0]]
    made = sum(len(one.tries) for one in log)
    planned = total - len(firsts) + sum(_planned(one, back) for one in firsts)
    rows = [
        Row(
            what=f"receiver away for an hour (x {SCALE:g}): delivered, each taken once",
            ours=f"{delivered} ({len(receiver.messages)} taken)",
            bar=f"= {total}",
            good=delivered == len(receiver.tries) == len(receiver.messages) == total,
        ),
        Row(
            what=f"jobs whose {len(ORDER)} messages came in order",
            ours=str(in_order),
            bar=f"= {JOBS}",
            good=in_order == JOBS,
        ),
        Row(
            what="tries of all messages",
            ours=f"{made} ({made / planned:.0%})",
            baseline=f"by the schedule {planned}",
            bar="+- 20 %",
            good=abs(made - planned) <= JITTER * planned,
        ),
    ]
    return rows + [_wait_row(number, firsts) for number in _numbers(firsts)]


def _planned(told: Told, back: float) -> int:
    """Return how many tries the schedule makes until the receiver is back, without jitter."""
    at = told.tries[0]["at"]
    for number, wait in enumerate(SCHEDULE, 1):
        at += wait * SCALE
        if at >= back:
            return number
    return len(SCHEDULE)


def _numbers(told: Iterable[Told]) -> list[int]:
    return sorted({number for one in told for number, _ in one.waits})


def _wait_row(number: int, told: Iterable[Told]) -> Row:
    """Compare the waits for the tries of one number with the schedule's."""
    planned = SCHEDULE[number]
    waits = [wait for one in told for at, wait in one.waits if at == number]
    late = (quantile(waits, 0.5) - planned) * SCALE
    least, most = min(waits) / planned, max(waits) / planned
    longest = 1 + JITTER + LATE / (planned * SCALE)
    return Row(
        what=f"waits before try {number + 1} ({len(waits)}) against the schedule's, least to most",
        ours=f"{least:.2f} to {most:.2f}",
        baseline=f"{planned * SCALE:g} s (p50 {late * 1e3:+.0f} ms)",
        bar=f"0.80 to {longest:.2f}",
        good=least >= 1 - JITTER - EARLY / planned and most <= longest,
    )
