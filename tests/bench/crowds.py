"""What crowds cost: connections that drip, are idle or wait, and one that asks very often."""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp

from tests.bench.scales import calls, calm_p99, weighed
from tests.bench.table import Row
from tests.processes import Installation


MB: Final = 2**20
SLOW: Final = 1000
IDLE: Final = 5000
WAITING: Final = 1000
PIPELINED: Final = 10_000
_CALLS: Final = 1000


async def run(here: Installation, client: aiohttp.ClientSession) -> list[Row]:
    """Measure each crowd against the same installation at rest."""
    return [
        *await slow(here, client),
        await idle(here, client),
        await waiting(here, client),
        await pipelined(here),
    ]


async def slow(here: Installation, client: aiohttp.ClientSession) -> list[Row]:
    """Hold many connections that drip heads or bodies, and call as usual."""
    path = "/v1/jobs?limit=1"
    before = await calls(client, _CALLS, path)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {here.key}\r\n"
    body = head + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    async with weighed(here) as weight:
        writers = []
        for number in range(SLOW):
            _, writer = await asyncio.open_connection(*_place(here))
            writer.write((body if number % 2 else head + "X: ").encode())
            writers.append(writer)
        dripping = asyncio.create_task(_drip(writers))
        await asyncio.sleep(1)
        busy = await calls(client, _CALLS, path)
        dripping.cancel()
        with suppress(asyncio.CancelledError):
            await dripping
    for writer in writers:
        writer.close()
    await asyncio.sleep(1)
    after = await calls(client, _CALLS, path)
    p99 = calm_p99(busy)
    usual = calm_p99(before + after)
    return [
        Row(
            what=f"a call beside {SLOW} slow connections: p99, ms",
            ours=f"{p99 * 1000:.1f} ({weight.growth / MB:.0f} MB more)",
            baseline=f"without {usual * 1000:.1f}",
            bar="<= 2 x",
            good=p99 <= 2 * usual,
        )
    ]


async def _drip(writers: list[asyncio.StreamWriter]) -> None:
    """Send a byte on each connection every two seconds."""
    while True:
        for writer in writers:
            writer.write(b"x")
            await asyncio.sleep(2 / len(writers))


async def idle(here: Installation, client: aiohttp.ClientSession) -> Row:
    """Hold many connections that say nothing at all."""
    before = await calls(client, _CALLS)
    async with weighed(here) as weight:
        opened = [await asyncio.open_connection(*_place(here)) for _ in range(IDLE)]
        await asyncio.sleep(1)
        busy = await calls(client, _CALLS)
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(1)
    after = await calls(client, _CALLS)
    p99 = calm_p99(busy)
    usual = calm_p99(before + after)
    return Row(
        what=f"a call beside {IDLE} idle connections: p99, ms",
        ours=f"{p99 * 1000:.1f} ({weight.growth / MB:.0f} MB more)",
        baseline=f"without {usual * 1000:.1f}",
        bar="<= 2 x",
        good=p99 <= 2 * usual,
    )


async def waiting(here: Installation, client: aiohttp.ClientSession) -> Row:
    """Have many wait for one job, and see that others are served and all hear of its end."""
    usual = calm_p99(await calls(client, _CALLS // 5))
    ask = {"prompt": "[[slow:6]]", "model": "gpt-image-2"}
    async with client.post("/v1/jobs", json=ask) as answer:
        job_id = (await answer.json())["id"]

    async def wait(session: aiohttp.ClientSession) -> str:
        async with session.get(f"/v1/jobs/{job_id}?wait=30") as answer:
            return str((await answer.json())["status"])

    crowd = aiohttp.ClientSession(
        here.url, headers=client.headers, connector=aiohttp.TCPConnector(limit=0)
    )
    async with crowd, weighed(here) as weight:
        all_ = [asyncio.create_task(wait(crowd)) for _ in range(WAITING)]
        await asyncio.sleep(2)
        busy = await calls(client, _CALLS // 5)
        ends = [await one for one in all_]
    told, p99 = ends.count("succeeded"), calm_p99(busy)
    return Row(
        what=f"{WAITING} who wait for one job: told of its end, a call meanwhile p99 ms",
        ours=f"{told}, {p99 * 1000:.0f} ({weight.growth / MB:.0f} MB more)",
        baseline=f"without {usual * 1000:.0f}",
        bar="all, <= 100, 2 x",
        good=told == WAITING and p99 <= max(0.1, 2 * usual),
    )


async def pipelined(here: Installation) -> Row:
    """Ask many times on one connection without listening in between."""
    async with weighed(here) as weight:
        reader, writer = await asyncio.open_connection(*_place(here))
        asking = asyncio.create_task(_ask(writer))
        heard = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while heard < PIPELINED and (line := await reader.readline()):
                    heard += b"HTTP/1.1 200 " in line  # behind the body of the last
        asking.cancel()
        writer.close()
    return Row(
        what=f"{PIPELINED} requests on one connection: answered, growth in MB",
        ours=f"{heard}, {weight.growth / MB:.1f}",
        bar="all, <= 16",
        good=heard == PIPELINED and weight.growth <= 16 * MB,
    )


async def _ask(writer: asyncio.StreamWriter) -> None:
    for _ in range(PIPELINED // 100):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        await writer.drain()


def _place(here: Installation) -> tuple[str, int]:
    host, port = here.url.removeprefix("http://").split(":")
    return host, int(port)
