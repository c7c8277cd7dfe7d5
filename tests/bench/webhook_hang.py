"""One endpoint that hangs: what others' deliveries and all image jobs feel of it.

Two installations stand side by side. In one of them a tenant's endpoint takes connections and never
answers, and a thousand messages are owed to it. Both are given the same load in turn, a short
stretch at a time, and the median of the stretches counts: what else the machine does in one of them
is nobody's fault.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp

from storage import redis_keys
from storage.deliveries import Deliveries
from storage.delivery import message_to
from storage.endpoints import Endpoints
from storage.event import TEST
from storage.outbox import new_delivery_id
from tests.bench.table import Row, quantile
from tests.bench.traffic import commands_of, drained, submit
from tests.bench.webhook_client import register
from tests.processes import Installation, installed
from tests.receiver import Receiver, receiving


OWED = int(os.environ.get("DARKROOM_BENCH_HANGING", "1000"))
STRETCHES = int(os.environ.get("DARKROOM_BENCH_STRETCHES", "10"))
TENANTS = 5
PACED, RATE = 150, 40.0
BURST = 200


@dataclass(kw_only=True)
class Side:
    """One of the two installations, and all that was measured on it."""

    here: Installation
    clients: list[aiohttp.ClientSession] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)
    delivered: list[list[float]] = field(default_factory=list)
    picked_up: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    missing: int = 0


async def run() -> list[Row]:
    """Load both sides in turn."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            plain, burdened = [
                await stack.enter_async_context(_side(Path(folder) / name))
                for name in ("plain", "burdened")
            ]
            for side in (plain, burdened):
                await _paced(side, "first")
                await _burst(side, "second")
                side.delivered, side.picked_up, side.rates = [], [], []
            connections = await stack.enter_async_context(_hanging(burdened))
            for number in range(STRETCHES):
                pair = (plain, burdened) if number % 2 else (burdened, plain)
                for side in pair:
                    await _paced(side, f"paced {number}")
                for side in pair:
                    await _burst(side, f"burst {number}")
            waiting, most = await _left(burdened), max(connections)
    return _rows(plain, burdened, waiting, most)


def _rows(plain: Side, burdened: Side, waiting: int, most: int) -> list[Row]:
    ours, base = _usual(burdened.delivered, 0.99), _usual(plain.delivered, 0.99)
    mine, theirs = _usual(burdened.picked_up, 0.99), _usual(plain.picked_up, 0.99)
    rate, bare = quantile(burdened.rates, 0.5), quantile(plain.rates, 0.5)
    count = sum(len(stretch) for stretch in burdened.delivered)
    return [
        Row(
            what=f"{OWED} owed to one that hangs: still owed at the end, most tries at once",
            ours=f"{waiting}, {most}",
            bar="<= 4 at once",
            good=most <= 4,
        ),
        Row(
            what=f"others' deliveries ({count}) p50 / p99 ms from event to taken",
            ours=f"{_ms(burdened.delivered)} ({ours / base:.2f}x)",
            baseline=f"without it {_ms(plain.delivered)}",
            bar="p99 <= 2x",
            good=ours <= 2 * base and burdened.missing == 0,
        ),
        Row(
            what="image jobs meanwhile: pick-up p50 / p99 ms",
            ours=f"{_ms(burdened.picked_up)} ({mine / theirs:.2f}x)",
            baseline=f"without it {_ms(plain.picked_up)}",
            bar="p99 <= 2x",
            good=mine <= 2 * theirs,
        ),
        Row(
            what=f"image jobs meanwhile: jobs/s of bursts of {BURST}",
            ours=f"{rate:.0f} ({rate / bare:.0%})",
            baseline=f"without it {bare:.0f}",
            bar=">= 80 %",
            good=rate >= 0.8 * bare,
        ),
    ]


def _usual(stretches: list[list[float]], share: float) -> float:
    """Return a quantile as it is in the median of the stretches."""
    return quantile([quantile(stretch, share) for stretch in stretches], 0.5)


def _ms(stretches: list[list[float]]) -> str:
    return f"{_usual(stretches, 0.5) * 1e3:.1f} / {_usual(stretches, 0.99) * 1e3:.1f}"


@asynccontextmanager
async def _side(folder: Path) -> AsyncIterator[Side]:
    """Run an installation with a few tenants, each with a healthy receiver."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(installed(folder, workers=1))
        side = Side(here=here)
        for number in range(TENANTS):
            receiver = await stack.enter_async_context(receiving())
            client = await stack.enter_async_context(await _client(here, f"tenant-{number}"))
            _, receiver.secret = await register(client, receiver.url, ("job.succeeded",))
            side.clients.append(client)
            side.receivers.append(receiver)
        yield side


async def _client(here: Installation, tenant: str) -> aiohttp.ClientSession:
    key = await here.command("-m", "service", "keys", "create", "--tenant", tenant)
    return aiohttp.ClientSession(here.url, headers={"Authorization": f"Bearer {key}"})


@asynccontextmanager
async def _hanging(side: Side) -> AsyncIterator[list[int]]:
    """Owe a tenant's messages to a receiver that never answers; yields how many it held at once."""
    held = [0]

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(held[-1] + 1)
        try:
            while await reader.read(65536):
                pass
        except OSError:  # a sender that has given up
            pass
        finally:
            held.append(held[-1] - 1)
            writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        async with side.here.client() as client:
            endpoint, _ = await register(client, url, ("job.succeeded",))
        await _owe(side, endpoint)
        yield held
    finally:
        server.close()


async def _owe(side: Side, endpoint_id: str) -> None:
    """Owe the messages at once, as a thousand jobs that end together would."""
    async with commands_of(side.here) as commands:
        endpoint = await Endpoints(commands).get("acme", endpoint_id)
        assert endpoint is not None
        now = time.time()
        for first in range(0, OWED, 100):
            owing = [
                message_to(endpoint, TEST, new_delivery_id(), now, data="{}")
                for _ in range(first, min(first + 100, OWED))
            ]
            await Deliveries(commands).owe("acme", owing)


async def _left(side: Side) -> int:
    """Return how many messages are still owed to the receiver that hangs."""
    async with commands_of(side.here) as commands:
        pending = redis_keys.deliveries_of("acme", "pending")
        return int(await commands.execute("ZCARD", pending))


# -- the load --------------------------------------------------------------------------------------


async def _paced(side: Side, name: str) -> None:
    """Submit jobs of all tenants one by one, and time their pick-up and their messages."""
    before = [len(receiver.messages) for receiver in side.receivers]
    accepted: dict[str, float] = {}
    begun = time.monotonic()
    for number in range(PACED):
        prompt = f"{name} {number}"
        await _submit(side, number, prompt)
        accepted[prompt] = time.time()
        await asyncio.sleep(max(0.0, begun + (number + 1) / RATE - time.monotonic()))
    await _told(side, sum(before) + PACED)
    side.delivered.append(
        [
            latency
            for receiver, first in zip(side.receivers, before, strict=True)
            for latency in _latencies(receiver)[first:]
        ]
    )
    async with (
        aiohttp.ClientSession(side.here.upstream_url) as session,
        session.get("/_calls?model=gpt-image-2") as answer,
    ):
        calls = await answer.json()
        await session.delete("/_calls")
    started = {call["prompt"].split(" [[")[0]: call["started_at"] for call in calls}
    side.picked_up.append([max(started[prompt] - at, 0.0) for prompt, at in accepted.items()])


async def _burst(side: Side, name: str) -> None:
    """Submit many jobs at once and note how many ended in a second."""
    told = sum(len(receiver.messages) for receiver in side.receivers)
    begun = time.monotonic()
    await asyncio.gather(*(_submit(side, n, f"{name} {n}") for n in range(BURST)))
    end = await drained(side.here, within=60)
    side.rates.append(BURST / (end - time.time() + time.monotonic() - begun))
    await _told(side, told + BURST)


def _latencies(receiver: Receiver) -> list[float]:
    """Return how long after its event each message was taken."""
    return [
        at - datetime.fromisoformat(message["timestamp"]).timestamp()
        for at, (_, message) in zip(receiver.taken_at, receiver.messages, strict=True)
    ]


async def _submit(side: Side, number: int, prompt: str) -> None:
    await submit(side.clients[number % TENANTS], "gpt-image-2", f"{prompt} [[bytes:3000]]")


async def _told(side: Side, count: int, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while (left := count - sum(len(r.messages) for r in side.receivers)) > 0:
        if time.monotonic() > end:
            side.missing += left
            return
        await asyncio.sleep(0.02)
