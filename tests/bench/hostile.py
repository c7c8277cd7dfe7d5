"""What hostile clients cost: bombs, compressed bodies and connections that never end.

The service and the worker are real processes. Time is compared with that of calls when nothing else
goes on, memory with what the service held before.
"""

import asyncio
import base64
import gzip
import tempfile
import time
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from storage.facts import Limits
from tests import images
from tests.bench import crowds
from tests.bench.scales import calls, timed, weighed
from tests.bench.table import Row, quantile
from tests.processes import Installation, installed
from worker.imaging import Imaging


MB: Final = 2**20
_ROUNDS: Final = 10
_CALLS: Final = 1000


async def run() -> list[Row]:
    """Measure all of it, each against the same installation at rest."""
    with tempfile.TemporaryDirectory() as folder:
        async with installed(Path(folder), workers=1) as here, here.client() as client:
            await calls(client, 200)  # warm
            pids = [program.pid for program in here.programs]
            rows = await bombs(here, client)
            rows += await compressed(here, client)
            rows += await inspected(client)
            rows += await crowds.run(here, client)
            rows.append(await still_there(here, client, pids))
    return rows + await lag_of_worker()


# -- pictures --------------------------------------------------------------------------------------


async def bombs(here: Installation, client: aiohttp.ClientSession) -> list[Row]:
    """Hand in every bomb as base64 and as a file, one after another and all at once."""
    samples = [*images.bombs().values(), *images.crowds().values()]
    plain = [await timed(partial(refused, client, b"no image")) for _ in range(50)]
    seconds: list[float] = []
    async with weighed(here) as weight:
        for _ in range(_ROUNDS):
            for data in samples:
                seconds.append(await timed(partial(refused, client, data)))
                seconds.append(await timed(partial(refused_file, client, data)))
        for _ in range(_ROUNDS):
            await asyncio.gather(*(refused(client, data) for data in samples))
    return [
        Row(
            what=f"{len(samples)} bombs at two doors: the slowest refusal, ms",
            ours=f"{max(seconds) * 1000:.0f} (p50 {quantile(seconds, 0.5) * 1000:.1f})",
            baseline=f"no image: p50 {quantile(plain, 0.5) * 1000:.1f}",
            bar="<= 200",
            good=max(seconds) <= 0.2,
        ),
        Row(
            what="the service grows by, MB",
            ours=f"{weight.growth / MB:.1f}",
            baseline=f"holds {weight.before / MB:.0f}",
            bar="<= 64",
            good=weight.growth <= 64 * MB,
        ),
    ]


async def inspected(client: aiohttp.ClientSession) -> list[Row]:
    """Have the largest pictures that are taken measured while others ask for little."""
    resting = await calls(client, _CALLS)
    large = images.large_png(4900)
    form = [large, images.large_jpeg(4900), images.heavy_png((1500, 1500))]
    stop = asyncio.Event()

    async def hand_in(data: bytes) -> None:
        while not stop.is_set():
            body = aiohttp.FormData({"prompt": "x", "model": "gpt-image-2"})
            body.add_field("image", data, filename="a", content_type="image/png")
            async with client.post("/v1/jobs", data=body) as answer:
                await answer.read()

    handing = [asyncio.create_task(hand_in(data)) for data in form]
    await asyncio.sleep(1)
    busy = await calls(client, _CALLS)
    stop.set()
    await asyncio.gather(*handing)
    p99 = quantile(busy, 0.99)
    return [
        Row(
            what="/livez while pictures of 24 Mpx are handed in: p99, ms",
            ours=f"{p99 * 1000:.0f}",
            baseline=f"at rest {quantile(resting, 0.99) * 1000:.0f}",
            bar="<= 100",
            good=p99 <= 0.1,
        )
    ]


async def lag_of_worker() -> list[Row]:
    """Have pixels worked on as a worker does, and see how late its event loop turns."""
    resting = await lags(asyncio.sleep(2))
    imaging = Imaging(children=None, limits=Limits(pixels=25_000_000, side=8192, bytes=20 * MB))
    large = [images.large_png(4900), images.large_jpeg(4900)]
    try:
        await imaging.decode_check(large[1])  # starts a child

        async def work() -> None:
            for _ in range(4):
                await asyncio.gather(*(imaging.decode_check(data) for data in large))

        busy = await lags(work())
    finally:
        await imaging.close()
    p99 = quantile(busy, 0.99)
    return [
        Row(
            what="a worker's loop while it works on 24 Mpx: lag p99, ms",
            ours=f"{p99 * 1000:.0f}",
            baseline=f"at rest {quantile(resting, 0.99) * 1000:.0f}",
            bar="<= 100",
            good=p99 <= 0.1,
        )
    ]


async def lags(work: Awaitable[object]) -> list[float]:
    """Return by how much each of many short sleeps was too long while something was done."""
    doing = asyncio.ensure_future(work)
    late: list[float] = []
    while not doing.done():
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        late.append(max(0.0, time.perf_counter() - due))
    await doing
    return late


# -- bodies and connections ------------------------------------------------------------------------


async def compressed(here: Installation, client: aiohttp.ClientSession) -> list[Row]:
    """Send eight bodies at once that would be 200 MB each."""
    bomb = gzip.compress(bytes(200_000_000))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    async def send(said: dict[str, str], status: int) -> None:
        async with client.post("/v1/jobs", data=bomb, headers=said) as answer:
            assert answer.status == status, await answer.text()

    async with weighed(here) as plain:
        json = {"Content-Type": "application/json"}
        await asyncio.gather(*(send(json, 400) for _ in range(8)))
    async with weighed(here) as weight:
        for _ in range(3):
            await asyncio.gather(*(send(headers, 415) for _ in range(8)))
    return [
        Row(
            what=f"eight gzip bodies of {len(bomb) // 1000} kB at once: growth, MB",
            ours=f"{weight.growth / MB:.1f}",
            baseline=f"not compressed {plain.growth / MB:.1f}",
            bar="<= 16",
            good=weight.growth <= 16 * MB,
        )
    ]


async def still_there(here: Installation, client: aiohttp.ClientSession, pids: list[int]) -> Row:
    """See whether the same processes make a picture after all that."""
    async with client.post(
        "/v1/jobs", json={"prompt": "a lighthouse"}, headers={"Prefer": "wait=20"}
    ) as answer:
        made = answer.status == 200 and (await answer.json())["status"] == "succeeded"
    same = [program.pid for program in here.programs if program.is_alive] == pids
    return Row(
        what="afterwards: the same processes, and the next job",
        ours=f"{'same' if same else 'others'}, {'made' if made else 'not made'}",
        bar="same, made",
        good=same and made,
    )


# -- what is handed in ----------------------------------------------------------------------------


async def refused(client: aiohttp.ClientSession, data: bytes) -> None:
    """Hand a picture in as base64."""
    ask = {"prompt": "x", "images": [base64.b64encode(data).decode()]}
    async with client.post("/v1/jobs", json=ask) as answer:
        assert answer.status in {400, 413}, await answer.text()


async def refused_file(client: aiohttp.ClientSession, data: bytes) -> None:
    """Hand a picture in as a file of a form."""
    form = aiohttp.FormData({"prompt": "x"})
    form.add_field("image", data, filename="a.png", content_type="image/png")
    async with client.post("/v1/jobs", data=form) as answer:
        assert answer.status in {400, 413}, await answer.text()
