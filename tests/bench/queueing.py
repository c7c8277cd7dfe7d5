"""The queue alone: pick-up, throughput, starvation and idling, beside stock arq in the same run."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from arq.connections import ArqRedis

from deploy import embedded, probe
from deploy.supervisor import die_with_parent
from storage import queue, redis_keys
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.bench.table import Row, quantile


JOBS = 5000
PROBES = 200


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[str, Commands, int]]:
    """Run a Redis with everything on disk; yields its URL, a way to it, and its process id."""
    with tempfile.TemporaryDirectory() as folder:
        kept = embedded.embed(Path(folder), port=probe.free_port("127.0.0.1"))
        process = await asyncio.create_subprocess_exec(
            *kept.command, stdout=asyncio.subprocess.DEVNULL, preexec_fn=die_with_parent()
        )
        try:
            await kept.answers()
            commands = Commands(connect(RedisSettings(url=kept.url), socket_timeout=30))
            yield kept.url, commands, process.pid
            await commands.close()
        finally:
            process.kill()
            await process.wait()


async def start(kind: str, url: str, slots: int, seconds: float, file: Path) -> Process:
    """Start a worker that does nothing for `seconds` per task."""
    arguments = (kind, url, str(slots), str(seconds), str(file))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.noop_worker", *arguments),
        env=dict(os.environ),
        preexec_fn=die_with_parent(),
    )


async def end(process: Process, file: Path) -> tuple[dict[str, float], float]:
    """End a worker; return when each of its tasks started, and its CPU seconds."""
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), 60)
    seen = json.loads(await asyncio.to_thread(file.read_text))
    return seen["started"], seen["cpu"]


async def enqueue(kind: str, commands: Commands, redis: ArqRedis, task_id: str) -> float:
    """Queue one task the way of each and return when it was accepted."""
    if kind == "arq":
        await redis.enqueue_job(queue.RUN_JOB, task_id, _job_id=task_id)
    else:
        await queue.put(commands, redis_keys.IMAGE_QUEUE, queue.RUN_JOB, task_id, time.time())
    return time.time()


def _arq_client(commands: Commands) -> ArqRedis:
    redis = ArqRedis(
        commands.redis.connection_pool,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )
    assert isinstance(redis, ArqRedis)
    return redis


async def throughput(kind: str) -> tuple[float, float]:
    """Return no-op jobs per second of one worker with 100 slots, and its CPU µs per job."""
    async with redis_server() as (url, commands, _):
        redis = _arq_client(commands)
        for first in range(0, JOBS, 500):
            await asyncio.gather(
                *(enqueue(kind, commands, redis, f"j{first + i}") for i in range(500))
            )
        file = Path(tempfile.mktemp())  # noqa: S306 — a name only; the worker writes it
        worker = await start(kind, url, 100, 0, file)
        deadline = time.monotonic() + 60
        while await commands.execute("ZCARD", redis_keys.IMAGE_QUEUE):
            assert time.monotonic() < deadline, "the queue did not drain"
            await asyncio.sleep(0.05)
        started, cpu = await end(worker, file)
        spread = max(started.values()) - min(started.values())
        return len(started) / spread, cpu / len(started) * 1e6


async def pick_up(kind: str, *, held: int = 0, probes: int = PROBES) -> list[float]:
    """Return the seconds from accepted to started of each probe, inf for those never started.

    With `held`, other workers hold that many long tasks while the probes come in.
    """
    async with redis_server() as (url, commands, _):
        redis = _arq_client(commands)
        files = [Path(tempfile.mktemp()) for _ in range(3)]  # noqa: S306 — names only
        holders: list[Process] = []
        if held:
            slots = held // 2
            for first in range(0, held, 500):
                await asyncio.gather(
                    *(enqueue(kind, commands, redis, f"h{first + i}") for i in range(500))
                )
            holders = [await start(kind, url, slots, 60, file) for file in files[1:]]
            await _settled(commands, held)
        worker = await start(kind, url, 100, 0, files[0])
        await asyncio.sleep(2)
        accepted = {}
        for number in range(probes):
            task_id = f"p{number}"
            accepted[task_id] = await enqueue(kind, commands, redis, task_id)
            await asyncio.sleep(0.015)
        await asyncio.sleep(3)
        started, _ = await end(worker, files[0])
        for holder in holders:
            holder.kill()
            await holder.wait()
        return [
            max(started[task_id] - at, 0.0) if task_id in started else float("inf")
            for task_id, at in accepted.items()
        ]


async def _settled(commands: Commands, held: int) -> None:
    """Wait until the holders have taken what they will take."""
    running, before = -1, -2
    for _ in range(40):
        await asyncio.sleep(1)
        running = 0
        keys = await commands.execute("KEYS", f"{redis_keys.IN_PROGRESS_PREFIX}*")
        running = len(keys)
        if running in {held, before}:
            return
        before = running


async def run(*, quick: bool = False) -> list[Row]:
    """Measure everything about the queue."""
    rows = []
    ours, theirs = await throughput("lease"), await throughput("arq")
    rows.append(
        Row(
            what="no-op jobs/s of one worker (CPU µs per job)",
            ours=f"{ours[0]:.0f} ({ours[1]:.0f})",
            baseline=f"arq {theirs[0]:.0f} ({theirs[1]:.0f})",
        )
    )
    mine, arqs = await pick_up("lease"), await pick_up("arq")
    p50, p95 = quantile(mine, 0.5) * 1000, quantile(mine, 0.95) * 1000
    rows.append(
        Row(
            what="queue pick-up p50 / p95 ms, idle worker",
            ours=f"{p50:.1f} / {p95:.1f}",
            baseline=f"arq {quantile(arqs, 0.5) * 1000:.0f} / {quantile(arqs, 0.95) * 1000:.0f}",
            bar="<= 5 / <= 20",
            good=p50 <= 5 and p95 <= 20,
        )
    )
    held = 500 if quick else 2000
    mine, arqs = (
        await pick_up("lease", held=held, probes=60),
        await pick_up("arq", held=held, probes=60),
    )
    worst = max(mine) * 1000
    starved = sum(value == float("inf") for value in arqs)
    rows.append(
        Row(
            what=f"slowest start of 60 jobs while {held} run elsewhere, ms",
            ours=f"{worst:.1f}",
            baseline=f"arq: {starved} of 60 never started",
            bar="<= 50",
            good=worst <= 50,
        )
    )
    return rows
