"""A Redis that is killed, frozen or full: bounded waits, nothing acknowledged is lost."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from storage import redis_keys
from storage.changes import Changes
from storage.errors import Unavailable
from storage.jobs import Jobs
from storage.queue import Queue
from storage.redis_client import Commands, connect
from storage.settings import RedisSettings, RetentionSettings
from tests.redisserver import RedisServer
from tests.samples import NOW, a_job, a_request


SOCKET_TIMEOUT = 0.5


@pytest.fixture
async def commands(own_redis: RedisServer) -> AsyncIterator[Commands]:
    settings = RedisSettings(url=own_redis.url, socket_timeout=SOCKET_TIMEOUT)
    commands = Commands(connect(settings))
    yield commands
    await commands.close()


@pytest.fixture
def jobs(commands: Commands) -> Jobs:
    return Jobs(commands, RetentionSettings())


async def test_every_acknowledged_job_survives_a_kill(own_redis: RedisServer, jobs: Jobs) -> None:
    acknowledged: list[str] = []

    async def submit(start: int) -> None:
        for at in range(start, 10_000, 8):
            try:
                acknowledged.append((await jobs.add(a_job(f"job_{at}"))).id)
            except Unavailable:
                return

    submitting = [asyncio.create_task(submit(start)) for start in range(8)]
    while len(acknowledged) < 200:
        await asyncio.sleep(0.005)
    own_redis.kill()
    await asyncio.gather(*submitting)
    own_redis.start()
    found = [await jobs.find(job_id) for job_id in acknowledged]
    assert len(acknowledged) >= 200
    assert all(job is not None for job in found)
    assert all([await jobs.is_queued(job) for job in found if job is not None])


async def test_a_redis_that_is_gone_is_told_at_once_and_found_again(
    own_redis: RedisServer, jobs: Jobs
) -> None:
    await jobs.add(a_job())
    own_redis.kill()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await jobs.find("job_1")
    assert time.monotonic() - began < 2
    own_redis.start()
    assert await jobs.find("job_1") is not None


async def test_a_frozen_redis_holds_nobody_up_for_long(own_redis: RedisServer, jobs: Jobs) -> None:
    await jobs.add(a_job())
    own_redis.freeze()
    began = time.monotonic()
    waiting = [jobs.find("job_1") for _ in range(40)]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert time.monotonic() - began < 6 * SOCKET_TIMEOUT
    own_redis.thaw()
    assert await jobs.find("job_1") is not None


async def test_a_full_redis_takes_nothing_in_and_still_ends_what_it_has(
    jobs: Jobs, commands: Commands
) -> None:
    job = a_job()
    await jobs.add(job)
    await commands.execute("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable) as refusal:
        await jobs.add(a_job("job_2", request=a_request(prompt="a secret prompt")))
    assert refusal.value.code == "store_full"
    assert "secret" not in str(refusal.value)
    assert await jobs.find("job_2") is None
    queue = Queue(commands, redis_keys.IMAGE_QUEUE, token="w", lease=10)
    assert [task for task, _ in (await queue.claim(5)).tasks] == [job.id]
    running = await jobs.swap(job, job.claimed("f", NOW))
    assert running is not None
    assert await queue.renew([job.id]) == frozenset()
    ended = await jobs.swap(running, running.cancelled(NOW))
    assert ended is not None
    assert await jobs.find(job.id) == ended
    assert not await jobs.is_queued(job)


async def test_who_listens_is_told_again_after_an_outage(
    own_redis: RedisServer, jobs: Jobs, commands: Commands
) -> None:
    job = a_job()
    await jobs.add(job)
    changes = Changes(commands.redis)
    async with changes.of(job.id) as feed:
        own_redis.kill()
        own_redis.start()
        told = None
        for at in range(60):  # until the line is up again, what is told is lost
            await asyncio.sleep(0.1)
            swapped = await jobs.swap(job, job.claimed(f"f{at}", NOW))
            assert swapped is not None
            job = swapped
            told = await feed.next(0.1)
            if told is not None:
                break
        assert told is not None
    await changes.close()


async def test_listening_to_a_redis_that_is_gone_is_refused(
    own_redis: RedisServer, commands: Commands
) -> None:
    own_redis.kill()
    changes = Changes(commands.redis)
    with pytest.raises(Unavailable):
        async with changes.of("job_1"):
            pytest.fail("nobody can listen")
    await changes.close()


async def test_a_frozen_redis_holds_up_nobody_who_wants_to_listen(
    own_redis: RedisServer, jobs: Jobs, commands: Commands
) -> None:
    changes = Changes(commands.redis)
    joined = redis_keys.changes("job_0")
    ids = [i for n in range(1, 14) if redis_keys.changes(i := f"job_{n}") != joined]
    async with changes.of("job_0"):
        own_redis.freeze()

    async def listen(job_id: str) -> None:
        async with changes.of(job_id):
            pytest.fail("nobody can listen")

    began = time.monotonic()
    answers = await asyncio.gather(*(listen(i) for i in ids), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert time.monotonic() - began < 2.8
    own_redis.thaw()
    for job_id in ids:  # nobody who gave up has left a channel that nobody joins any more
        job = a_job(job_id)
        await jobs.add(job)
        async with changes.of(job_id) as feed:
            assert await jobs.swap(job, job.claimed("f", NOW)) is not None
            assert await feed.next(5.0) is not None
    await changes.close()
