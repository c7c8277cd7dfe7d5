"""The whole walk, through real processes: what a job costs and how long it waits."""

import asyncio
import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson
from PIL import Image

from deploy import probe
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.bench.load import Load, load, post
from tests.bench.table import Row, quantile
from tests.processes import Installation, Program, installed


SUBMITS = 3000
SYNC = 300


async def run() -> list[Row]:
    """Measure everything that needs a whole installation."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with installed(Path(folder), workers=1) as here:
            redis = Commands(connect(RedisSettings(url=here.redis_url), socket_timeout=10))
            rows += await idle(here, redis)
            rows += await pick_up(here)
            rows += await life(here, redis)
            rows += await synchronous(here)
            rows += await submits(here, redis)
            await redis.close()
        flight = Path(folder) / "flight"
        async with installed(flight, workers=1, DARKROOM_WORKER__SLOTS="600") as here:
            rows += await in_flight(here)
            rows += await upload(here)
    return rows


async def idle(here: Installation, redis: Commands) -> list[Row]:
    """Count what an idle installation asks of Redis each second, and what it weighs."""
    await asyncio.sleep(3)
    seconds = 20.0
    before = await _commands(redis)
    await asyncio.sleep(seconds)
    per_second = (await _commands(redis) - before - 1) / seconds
    weights = {program.name: program.usage()[1] / 2**20 for program in here.programs}
    total = sum(weights.values()) - weights["upstream"]
    parts = " ".join(f"{name} {mib:.0f}" for name, mib in weights.items() if name != "upstream")
    return [
        Row(
            what="idle: Redis commands/s, one service and one worker",
            ours=f"{per_second:.1f}",
            bar="<= 5",
            good=per_second <= 5,
        ),
        Row(
            what="idle: RSS of all processes, MiB",
            ours=f"{total:.0f} ({parts})",
            bar="<= 200",
            good=total <= 200,
        ),
    ]


async def pick_up(here: Installation) -> list[Row]:
    """Measure from the 202 to the call at the provider, one job at a time."""
    accepted = []
    async with here.client() as client:
        for number in range(200):
            body = {"model": "gpt-image-2", "prompt": f"pick {number} [[bytes:20000]]"}
            async with client.post("/v1/jobs", json=body) as answer:
                assert answer.status == 202, await answer.text()
            accepted.append(time.time())
            await asyncio.sleep(0.015)
        await asyncio.sleep(2)
        async with client.get(f"{here.upstream_url}/_calls?model=gpt-image-2") as answer:
            calls = await answer.json()
    called = {call["prompt"].split(" [[")[0]: call["started_at"] for call in calls}
    waits = [max(called[f"pick {n}"] - at, 0.0) * 1000 for n, at in enumerate(accepted)]
    p50, p95 = quantile(waits, 0.5), quantile(waits, 0.95)
    return [
        Row(
            what="pick-up, accepted to provider call, p50 / p95 ms",
            ours=f"{p50:.1f} / {p95:.1f}",
            bar="<= 5 / <= 20",
            good=p50 <= 5 and p95 <= 20,
        )
    ]


async def life(here: Installation, redis: Commands) -> list[Row]:
    """Count Redis commands and CPU of a job from submit to settled.

    What goes on beside the jobs is taken off: few and many are made in the same time.
    """
    rows = []
    for name, few, many, seconds in (
        ("one at a time", 50, 200, 20.0),
        ("in a burst", 50, 350, 8.0),
    ):
        gap = 0.5 * seconds / many if name == "one at a time" else 0.0
        before = await _spent_on(here, redis, few, gap, seconds)
        after = await _spent_on(here, redis, many, gap, seconds)
        per_job = (after[0] - before[0]) / (many - few)
        spent = {n: (v - before[1][n]) / (many - few) * 1e6 for n, v in after[1].items()}
        parts = " ".join(f"{n} {v:.0f}" for n, v in spent.items() if n != "upstream")
        rows += [
            Row(
                what=f"Redis commands per job, {name}",
                ours=f"{per_job:.1f}",
                bar="<= 30",
                good=per_job <= 30,
            ),
            Row(what=f"CPU µs per job, {name}", ours=parts),
        ]
    return rows


async def _spent_on(
    here: Installation, redis: Commands, count: int, gap: float, seconds: float
) -> tuple[float, Mapping[str, float]]:
    """Return the Redis commands and CPU seconds of so many seconds with so many jobs in them."""
    before, cpu, begun = await _commands(redis), _cpu(here), time.perf_counter()
    async with here.client() as client:
        for number in range(count):
            body = {"model": "gpt-image-2", "prompt": f"life {number} [[bytes:20000]]"}
            async with client.post("/v1/jobs", json=body) as answer:
                job_id = (await answer.json())["id"]
            await asyncio.sleep(gap)
        left = begun + seconds - time.perf_counter()
        assert left > 0, "this machine is too slow for so many jobs in that time"
        await asyncio.sleep(left)
        commands = await _commands(redis) - before - 1
        spent = {name: used - cpu[name] for name, used in _cpu(here).items()}
        async with client.get(f"/v1/jobs/{job_id}") as answer:
            assert (await answer.json())["status"] == "succeeded"
    return commands, spent


async def synchronous(here: Installation) -> list[Row]:
    """Measure a synchronous generation against calling the upstream itself."""
    rows = []
    for size in (190_000, 2_400_000):
        body = orjson.dumps(
            {"model": "gpt-image-2", "prompt": f"sync [[bytes:{size}]]", "size": "1024x1024"}
        )
        direct_url = f"{here.upstream_url}/openai/v1/images/generations"
        ours_url = f"{here.url}/v1/images/generations"
        direct = post(direct_url, body, {"Authorization": "Bearer sk-fake"})
        ours = post(ours_url, body, {"Authorization": f"Bearer {here.key}"})
        await load(ours_url, ours, connections=4, requests=20)
        for connections, count in ((1, SYNC // 3), (16, SYNC)):
            plain = await load(direct_url, direct, connections=connections, requests=count)
            whole = await load(ours_url, ours, connections=connections, requests=count)
            _all_good(whole, count)
            added = quantile(whole.latencies[200], 0.5) - quantile(plain.latencies[200], 0.5)
            rows.append(
                Row(
                    what=f"synchronous {size / 1e6:.2f} MB, {connections} at once: added p50 ms",
                    ours=f"{added * 1000:.1f}",
                    baseline=f"direct {quantile(plain.latencies[200], 0.5) * 1000:.1f}",
                )
            )
    return rows


async def submits(here: Installation, redis: Commands) -> list[Row]:
    """Measure submits per second against the bare handler; the worker rests meanwhile."""
    for worker in here.workers:
        await worker.end()
    port = probe.free_port("127.0.0.1")
    bare = Program(
        "bare",
        (sys.executable, "-m", "tests.bench.bare", str(port), here.redis_url),
        here.environment,
        here.folder / "bare.log",
    )
    await bare.start()
    bare_url = f"http://127.0.0.1:{port}"
    await probe.until(lambda: _answers(bare_url), within=10)
    body = orjson.dumps({"model": "sketch", "prompt": "a lighthouse at dusk", "size": "1024x1024"})
    targets = {
        "ours": (f"{here.url}/v1/jobs", {"Authorization": f"Bearer {here.key}"}),
        "bare": (f"{bare_url}/v1/jobs", {"Authorization": "Bearer nobody"}),
    }
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(3):
        for name, (url, headers) in targets.items():
            request = post(url, body, headers)
            seen = await load(url, request, connections=32, requests=SUBMITS)
            assert set(seen.latencies) == {202}, {k: len(v) for k, v in seen.latencies.items()}
            rates[name].append(seen.rate)
    await bare.kill()
    ours, base = sorted(rates["ours"])[1], sorted(rates["bare"])[1]
    return [
        Row(
            what="submits/s of POST /v1/jobs at 32 connections",
            ours=f"{ours:.0f} ({ours / base:.0%})",
            baseline=f"bare MULTI SET+ZADD {base:.0f}",
            bar=">= 50 %",
            good=ours >= 0.5 * base,
        )
    ]


async def in_flight(here: Installation) -> list[Row]:
    """Weigh the processes while 500 jobs are at the upstream."""
    before = {program.name: program.usage()[1] / 2**20 for program in here.programs}
    async with here.client() as client:
        for number in range(500):
            body = {"model": "gpt-image-2", "prompt": f"wait {number} [[slow:8]]"}
            async with client.post("/v1/jobs", json=body) as answer:
                assert answer.status == 202
        await asyncio.sleep(2)
        weights = {program.name: program.usage()[1] / 2**20 for program in here.programs}
        await asyncio.sleep(12)
    shown = ("service", "worker-0", "redis")
    return [
        Row(
            what="RSS MiB at 500 jobs in flight",
            ours=" ".join(f"{name} {weights[name]:.0f}" for name in shown),
            baseline="idle " + " ".join(f"{name} {before[name]:.0f}" for name in shown),
        )
    ]


async def upload(here: Installation) -> list[Row]:
    """Watch the service's memory while a 45 MB photograph comes in."""
    picture = await asyncio.to_thread(_noise, 3872)
    here_before = here.service.usage()[1]
    peak = here_before
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, here.service.usage()[1])
            await asyncio.sleep(0.005)

    watcher = asyncio.create_task(watch())
    form = aiohttp.FormData()
    form.add_field("model", "sketch")
    form.add_field("prompt", "make it blue")
    form.add_field("image", picture, filename="photograph.png", content_type="image/png")
    async with here.client() as client, client.post("/v1/jobs", data=form) as answer:
        status = answer.status
        text = await answer.text()
    done.set()
    await watcher
    assert status == 202, text
    growth = (peak - here_before) / 2**20
    return [
        Row(
            what=f"service RSS growth while {len(picture) / 1e6:.0f} MB are uploaded, MiB",
            ours=f"{growth:.1f}",
            bar="< 16",
            good=growth < 16,
        )
    ]


def _noise(side: int) -> bytes:
    """Return a PNG that nothing can make smaller: about three bytes for each pixel."""
    with io.BytesIO() as file:
        image = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))
        image.save(file, "PNG", compress_level=0)
        return file.getvalue()


def _all_good(seen: Load, count: int) -> None:
    assert len(seen.latencies.get(200, ())) == count, {
        status: len(values) for status, values in seen.latencies.items()
    }


def _cpu(here: Installation) -> Mapping[str, float]:
    return {program.name: program.usage()[0] for program in here.programs if program.is_alive}


async def _commands(redis: Commands) -> float:
    """Return how many commands Redis has carried out, those inside scripts too."""
    stats = await redis.execute("INFO", "commandstats")
    rows = stats.values() if isinstance(stats, dict) else ()
    return float(sum(row["calls"] for row in rows))


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 404
    except aiohttp.ClientError:
        return False
