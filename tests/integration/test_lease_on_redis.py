"""A worker with leases on a real Redis, which is also killed under it."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from storage import queue as queues
from storage.errors import Unavailable
from storage.jobs import Jobs
from storage.queue import Queue
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings, RetentionSettings
from tests.redisserver import RedisServer
from tests.samples import a_job
from tests.suites.lease import IMAGES, LeaseSuite, Log, until
from worker.lease import LeaseWorker, Pace
from worker.outcome import Nothing, Outcome


class TestLeaseOnRedis(LeaseSuite):
    """Everything of the suite."""


async def test_an_outage_longer_than_the_lease_loses_and_repeats_nothing(
    own_redis: RedisServer,
) -> None:
    began: list[str] = []
    ended: list[str] = []
    gate = asyncio.Event()

    async def task(ctx: Mapping[str, Any], task_id: str) -> Outcome:
        began.append(task_id)
        await gate.wait()
        ended.append(task_id)
        return Nothing()

    lines, workers, running = [], [], []
    for name in ("one", "two"):
        commands = Commands(connect(RedisSettings(url=own_redis.url, socket_timeout=1.0)))
        lines.append(commands)
        worker = LeaseWorker(
            {queues.RUN_JOB: task},
            Queue(commands, IMAGES, token=name, lease=1.0),
            cast("Any", commands.redis),
            slots=4,
            name=name,
            pace=Pace(heartbeat=0.2, idle_wait=0.3, grace=1.0, patience=30),
        )
        workers.append(worker)
        running.append(asyncio.create_task(worker.async_run()))
    jobs = Jobs(lines[0], RetentionSettings())
    for at in range(12):
        await jobs.add(a_job(f"job_{at:02}"))
    await until(lambda: len(began) == 8)
    own_redis.kill()
    await asyncio.sleep(1.5)
    own_redis.start()
    await asyncio.sleep(0.7)
    assert len(began) == 8  # the owners have their leases again, and nobody else claimed
    gate.set()
    await until(lambda: len(ended) == 12, within=20)
    assert sorted(began) == [f"job_{at:02}" for at in range(12)]
    assert not any(one.done() for one in running)
    for worker in workers:
        await worker.drain(1)
    await asyncio.gather(*running, return_exceptions=True)
    for commands in lines:
        await commands.close()


async def test_a_task_that_ends_during_an_outage_is_taken_off_the_queue_after_it(
    own_redis: RedisServer,
) -> None:
    commands = Commands(connect(RedisSettings(url=own_redis.url, socket_timeout=1.0)))
    task = Log()
    task.open.clear()
    worker = LeaseWorker(
        {queues.RUN_JOB: task.run},
        Queue(commands, IMAGES, token="one", lease=3.0),
        cast("Any", commands.redis),
        slots=4,
        name="one",
        pace=Pace(heartbeat=0.2, idle_wait=0.3, grace=0.5, patience=30),
    )
    running = asyncio.create_task(worker.async_run())
    jobs = Jobs(commands, RetentionSettings())
    job = a_job()
    await jobs.add(job)
    await until(lambda: task.began)
    own_redis.kill()
    task.open.set()
    await until(lambda: task.ended)
    own_redis.start()
    async with asyncio.timeout(20):
        while True:
            try:
                if not await jobs.is_queued(job):
                    break
            except Unavailable:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.05)
    assert task.began == ["job_1"]
    await worker.drain(1)
    await asyncio.gather(running, return_exceptions=True)
    await commands.close()
