"""A worker that does nothing, as fast as it can: stock arq's or ours, for the same tasks.

`python -m tests.bench.noop_worker KIND URL SLOTS SECONDS FILE` serves `arq:queue` until SIGTERM and
then writes, as JSON, when each task started (Unix seconds) and the CPU seconds of the process.
"""

import asyncio
import contextlib
import json
import logging
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop
from arq.worker import Worker, func

from storage import redis_keys
from storage.queue import RUN_JOB, Queue
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from worker.lease import LeaseWorker, Pace
from worker.outcome import Nothing, Outcome


async def serve(kind: str, url: str, slots: int, seconds: float, file: Path) -> None:
    """Serve the queue until SIGTERM, then write what was seen."""
    started: dict[str, float] = {}

    async def task(ctx: Any, task_id: str) -> Outcome:
        started[task_id] = time.time()
        if seconds:
            await asyncio.sleep(seconds)
        return Nothing()

    redis = connect(RedisSettings(url=url, max_connections=64), socket_timeout=30)
    worker: Worker
    if kind == "arq":
        worker = Worker(
            [func(task, name=RUN_JOB, timeout=600)],
            redis_pool=redis,
            handle_signals=False,
            max_jobs=slots,
            keep_result=0,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
        )
    else:
        queue = Queue(Commands(redis), redis_keys.IMAGE_QUEUE, token=str(time.time_ns()), lease=12)
        pace = Pace(grace=0)
        worker = LeaseWorker({RUN_JOB: task}, queue, redis, slots=slots, name="b", pace=pace)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(worker.async_run())
    await asyncio.wait({running, asyncio.create_task(stop.wait())}, return_when="FIRST_COMPLETED")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seen = {"started": started, "cpu": usage.ru_utime + usage.ru_stime}
    await asyncio.to_thread(file.write_text, json.dumps(seen))


def main() -> None:
    """Read the command line and serve."""
    logging.disable(logging.CRITICAL)
    kind, url, slots, seconds, file = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(kind, url, int(slots), float(seconds), Path(file)))


if __name__ == "__main__":
    main()
