"""The jobs that nothing else would bring forward, and the objects that nobody names."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from storage import queue, redis_keys
from storage.batch import Batch
from storage.batches import Batches, new_batch_id
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.file import File, Purpose
from storage.files import Files, new_file_id
from storage.job import SCHEMA, Job, JobId, JobStatus
from storage.jobs import CHECK_EVERY, Jobs, Seating
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.doubles import PNG, Clock, FailingObjects
from tests.owed import owed
from tests.samples import NOW, a_job
from worker.reaper import Reaper


DAY = 86_400.0
HOOK = "https://example.com/hook"
BROKEN = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")


class FullObjects(FailingObjects):
    """A folder from which nothing can be removed for a while."""

    async def delete(self, keys: object) -> None:
        self._fail()
        await super().delete(keys)  # type: ignore[arg-type]  # passed on as it came


@pytest.fixture
def jobs(commands: Commands) -> Jobs:
    return Jobs(commands, RetentionSettings(days=7))


@pytest.fixture
def objects(tmp_path: Path) -> FullObjects:
    return FullObjects(tmp_path)


@pytest.fixture
def reaper(jobs: Jobs, objects: FullObjects, clock: Clock) -> Reaper:
    return Reaper(jobs, objects, clock=clock, life=7 * DAY, orphan_life=DAY)


async def found(jobs: Jobs, job_id: str = "job_1") -> Job | None:
    return await jobs.find(job_id)


async def put(objects: FullObjects, key: str, *, age: float = 0.0) -> str:
    """Keep an object that was last touched so many seconds ago."""
    await objects.put(key, PNG, content_type="image/png")
    os.utime(objects.file(key), (NOW - age, NOW - age))
    return key


async def kept(objects: FullObjects) -> set[str]:
    return {key async for key, _ in objects.keys("")}


def a_batch() -> Batch:
    return Batch(
        id=new_batch_id("acme"),
        tenant="acme",
        endpoint="/v1/jobs",
        created_at=NOW,
        window=3600.0,
        plan="p",
    )


async def end(jobs: Jobs, job: Job) -> None:
    assert await jobs.swap(job, job.failed(BROKEN, NOW)) is not None


# -- open jobs -------------------------------------------------------------------------------------


async def test_nothing_is_looked_at_before_its_time(jobs: Jobs, reaper: Reaper) -> None:
    await jobs.add(a_job())
    assert await reaper.look() == 0


async def test_a_job_that_is_well_is_left_alone_and_looked_at_again_later(
    jobs: Jobs, reaper: Reaper, clock: Clock
) -> None:
    job = a_job()
    await jobs.add(job)
    clock.advance(CHECK_EVERY)
    assert await reaper.look() == 1
    assert await found(jobs) == job
    assert await jobs.due(clock() + CHECK_EVERY - 1, 10) == []
    assert await jobs.due(clock() + CHECK_EVERY, 10) == ["job_1"]


async def test_a_job_that_lost_its_queue_entry_is_queued_again(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    job = a_job()
    await jobs.add(job)
    await commands.execute("DEL", redis_keys.IMAGE_QUEUE, redis_keys.payload(job.id))
    clock.advance(CHECK_EVERY)
    await reaper.look()
    assert await jobs.is_queued(job)
    assert await commands.execute("EXISTS", redis_keys.payload(job.id)) == 1


async def test_a_job_that_waited_too_long_expires_and_tells_its_owner(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    job = a_job(start_by=NOW + 10, webhook_url=HOOK)
    await jobs.add(job)
    clock.advance(10.5)
    assert await reaper.look() == 1
    ended = await found(jobs)
    assert ended is not None
    assert (ended.status, ended.attempts) == (JobStatus.EXPIRED, ())
    assert not await jobs.is_queued(job)
    (delivery,) = await owed(commands)
    assert delivery.type == "job.expired"


async def test_a_job_past_its_deadline_is_ended_and_its_worker_told(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    job = a_job(deadline=NOW + 10)
    await jobs.add(job)
    run = job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)
    await jobs.swap(job, run)
    heard = commands.redis.pubsub()
    await heard.subscribe(redis_keys.CANCELS)
    clock.advance(10)
    await reaper.look()
    ended = await found(jobs)
    assert ended is not None
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "deadline")
    assert await told(heard) == b"job_1"
    await heard.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare


async def test_a_worker_that_wrote_first_is_not_told_to_stop(
    jobs: Jobs, objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    class Overtaken(Jobs):
        async def find(self, job_id: str) -> Job | None:
            job = await super().find(job_id)
            assert job is not None
            await self.swap(job, job.claimed("faster", NOW))
            return job

    job = a_job(deadline=NOW + 10)
    await jobs.add(job)
    heard = commands.redis.pubsub()
    await heard.subscribe(redis_keys.CANCELS)
    clock.advance(10)
    overtaken = Overtaken(commands, RetentionSettings())
    await Reaper(overtaken, objects, clock=clock, life=DAY, orphan_life=DAY).look()
    now = await found(jobs)
    assert now is not None
    assert (now.status, now.fence) == (JobStatus.RUNNING, "faster")
    assert await told(heard) is None
    await heard.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare


async def told(heard: object) -> bytes | None:
    for _ in range(3):
        message = await heard.get_message(timeout=0.05)  # type: ignore[attr-defined]  # a PubSub
        if message is not None and message["type"] == "message":
            return bytes(message["data"])
    return None


async def test_an_open_batch_that_lost_its_queue_entry_is_queued_again(
    jobs: Jobs, objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    batches = Batches(commands, RetentionSettings(), clock=clock)
    reaper = Reaper(jobs, objects, clock=clock, life=DAY, orphan_life=DAY, batches=batches)
    batch = a_batch()
    await batches.add(batch)
    await commands.execute("DEL", redis_keys.IMAGE_QUEUE, redis_keys.payload(batch.id))
    assert await reaper.look() == 0
    clock.advance(CHECK_EVERY)
    assert await reaper.look() == 1
    assert await batches.is_queued(batch)
    payload = await commands.execute("GET", redis_keys.payload(batch.id))
    assert queue.task_of(payload) == queue.FEED
    assert await reaper.look() == 0
    clock.advance(CHECK_EVERY)
    assert await reaper.look() == 1


async def test_a_batch_that_has_ended_is_not_looked_at_again(
    jobs: Jobs, objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    batches = Batches(commands, RetentionSettings(), clock=clock)
    batch = a_batch()
    await batches.add(batch)
    assert await jobs.due(NOW + CHECK_EVERY, 10) == [JobId(batch.id)]
    await batches.swap(batch, batch.finalizing(NOW).ended(None, None, NOW))
    assert await jobs.due(NOW + DAY, 10) == []


# -- ended jobs ------------------------------------------------------------------------------------


async def test_an_ended_job_is_kept_for_its_life(
    jobs: Jobs, reaper: Reaper, clock: Clock, objects: FullObjects
) -> None:
    await jobs.add(a_job())
    await end(jobs, a_job())
    key = await put(objects, "t/acme/job_1/1/0.png")
    clock.advance(7 * DAY - 1)
    assert await reaper.look() == 0
    assert await kept(objects) == {key}


async def test_a_job_whose_life_is_over_goes_with_all_its_objects(
    jobs: Jobs, reaper: Reaper, clock: Clock, objects: FullObjects, commands: Commands
) -> None:
    for job_id in ("job_1", "job_2"):
        await jobs.add(a_job(job_id))
    await end(jobs, a_job())
    for key in ("t/acme/job_1/1/0.png", "t/acme/job_1/in/0.png", "t/acme/job_2/1/0.png"):
        await put(objects, key)
    clock.advance(7 * DAY)
    await reaper.look()
    assert await found(jobs) is None
    assert await kept(objects) == {"t/acme/job_2/1/0.png"}
    assert [job.id for job in (await jobs.listing.page("acme", limit=10)).jobs] == ["job_2"]
    assert await commands.execute("ZSCORE", redis_keys.APPOINTMENTS, "job_1") is None


async def test_a_record_does_not_go_before_its_objects(
    jobs: Jobs, reaper: Reaper, clock: Clock, objects: FullObjects
) -> None:
    await jobs.add(a_job())
    await end(jobs, a_job())
    await put(objects, "t/acme/job_1/1/0.png")
    objects.away = 1
    clock.advance(7 * DAY)
    await reaper.look()
    assert await found(jobs) is not None
    assert await reaper.look() == 0
    clock.advance(61)
    assert await reaper.look() == 1
    assert (await found(jobs), await kept(objects)) == (None, set())


async def test_a_shorter_life_than_planned_is_only_kept_at_the_planned_moment(
    jobs: Jobs, objects: FullObjects, clock: Clock
) -> None:
    longer = Reaper(jobs, objects, clock=clock, life=30 * DAY, orphan_life=DAY)
    await jobs.add(a_job())
    await end(jobs, a_job())
    clock.advance(7 * DAY)
    await longer.look()
    assert await found(jobs) is not None
    assert await jobs.due(NOW + 30 * DAY - 1, 10) == []
    assert await jobs.due(NOW + 30 * DAY, 10) == ["job_1"]


async def test_an_end_that_a_cut_log_left_half_holds_no_seat(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    seats, taken, _ = redis_keys.seats("acme")
    await commands.execute("SET", seats, 1)
    ended, waiting = a_job("job_1"), a_job("job_2")
    for job in (ended, waiting):
        await jobs.add(job, seating=Seating())
    await commands.execute("SET", seats, 0)  # nobody is seated when it ends
    await end(jobs, ended)
    await commands.execute("SET", seats, 1)
    await commands.execute("SADD", taken, ended.id)
    await commands.execute("ZADD", redis_keys.IMAGE_QUEUE, 0, ended.id)
    await commands.execute("ZADD", redis_keys.APPOINTMENTS, NOW + CHECK_EVERY, ended.id)
    clock.advance(CHECK_EVERY)
    await reaper.look()
    assert await commands.execute("SMEMBERS", taken) == {b"job_2"}
    assert (await jobs.is_queued(ended), await jobs.is_queued(waiting)) == (False, True)
    assert await jobs.open_of("acme") == 1


async def test_an_appointment_with_a_job_that_is_gone_is_struck_off(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    await commands.execute("ZADD", redis_keys.APPOINTMENTS, NOW, "job_0")
    assert await reaper.look() == 1
    assert await reaper.look() == 0


# -- faults ----------------------------------------------------------------------------------------


async def test_one_bad_record_does_not_hide_the_others(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    await jobs.add(a_job("job_1"))
    await jobs.add(a_job("job_2", start_by=NOW + 50))
    await commands.execute("HSET", redis_keys.job("job_1"), "document", "{}")
    clock.advance(CHECK_EVERY)
    assert await reaper.look() == 2
    second = await found(jobs, "job_2")
    assert second is not None
    assert second.status is JobStatus.EXPIRED
    assert await jobs.due(clock() + 59, 10) == []


async def test_more_jobs_than_one_look_takes_are_looked_at_in_one_go(
    jobs: Jobs, reaper: Reaper, clock: Clock
) -> None:
    await asyncio.gather(*(jobs.add(a_job(f"job_{at}", start_by=NOW + 1)) for at in range(230)))
    clock.advance(2)
    running = asyncio.create_task(reaper.run(0.001, DAY))
    for _ in range(400):
        if not await jobs.due(clock(), 1):
            break
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await jobs.due(clock(), 1) == []


async def test_the_reaper_goes_on_after_an_outage_and_after_a_fault(
    objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    class Troubled(Jobs):
        looks = 0
        done = asyncio.Event()

        async def due(self, now: float, most: int) -> list[JobId]:
            self.looks += 1
            if self.looks == 1:
                raise Unavailable("The job store does not answer.")
            if self.looks == 2:
                raise ValueError("a fault of ours")
            self.done.set()
            return []

    troubled = Troubled(commands, RetentionSettings())
    reaper = Reaper(troubled, objects, clock=clock, life=DAY, orphan_life=DAY)
    running = asyncio.create_task(reaper.run(0.001, DAY))
    async with asyncio.timeout(5):
        await troubled.done.wait()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# -- objects that nobody names ---------------------------------------------------------------------


async def test_old_objects_without_a_job_are_swept(
    jobs: Jobs, reaper: Reaper, objects: FullObjects
) -> None:
    await jobs.add(a_job("job_1"))
    named = await put(objects, "t/acme/job_1/1/0.png", age=2 * DAY)
    young = await put(objects, "t/acme/job_8/in/0.png", age=DAY - 60)
    for key in ("t/acme/job_9/1/0.png", "t/acme/job_9/in/0.png", "t/globex/job_7/1/0.png"):
        await put(objects, key, age=2 * DAY)
    assert await reaper.sweep() == 3
    assert await kept(objects) == {named, young}


async def test_a_sweep_looks_at_nothing_but_the_objects_of_jobs(
    reaper: Reaper, objects: FullObjects
) -> None:
    other = await put(objects, "_check/probe.png", age=2 * DAY)
    assert await reaper.sweep() == 0
    assert await kept(objects) == {other}


async def test_a_sweep_leaves_a_batch_what_is_its(
    jobs: Jobs, objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    batches = Batches(commands, RetentionSettings())
    batch = a_batch()
    await batches.add(batch)
    known = await put(objects, f"{batch.folder}job_1/in/0.png", age=2 * DAY)
    await put(objects, "t/acme/batch_none/plan-p.jsonl", age=2 * DAY)
    sweeper = Reaper(jobs, objects, clock=clock, life=DAY, orphan_life=DAY, batches=batches)
    assert await sweeper.sweep() == 1
    assert await kept(objects) == {known}


async def test_a_sweep_asks_for_each_job_once(
    objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    class Counting(Jobs):
        asked = 0

        async def find(self, job_id: str) -> Job | None:
            self.asked += 1
            return await super().find(job_id)

    counting = Counting(commands, RetentionSettings())
    await counting.add(a_job("job_1"))
    await put(objects, "t/acme/job_1/1/0.png", age=2 * DAY)
    for at in range(10):
        await put(objects, f"t/acme/job_9/1/{at}.png", age=2 * DAY)
    reaper = Reaper(counting, objects, clock=clock, life=DAY, orphan_life=DAY)
    assert await reaper.sweep() == 10
    assert counting.asked == 2


async def test_however_many_orphans_there_are_all_are_swept(
    jobs: Jobs, reaper: Reaper, objects: FullObjects
) -> None:
    await jobs.add(a_job("job_1"))
    named = await put(objects, "t/acme/job_1/1/0.png", age=2 * DAY)
    for at in range(450):
        await put(objects, f"t/acme/job_9/1/{at}.png", age=2 * DAY)
    assert await reaper.sweep() == 450
    assert await kept(objects) == {named}


async def test_of_many_workers_one_sweeps(jobs: Jobs) -> None:
    assert [await jobs.may_sweep(100) for _ in range(3)] == [True, False, False]


async def test_a_redis_that_knows_none_of_the_objects_lets_none_be_swept(
    reaper: Reaper, objects: FullObjects
) -> None:
    all_of_them = {await put(objects, f"t/acme/job_{at}/1/0.png", age=2 * DAY) for at in range(3)}
    assert await reaper.sweep() == 0
    assert await kept(objects) == all_of_them


async def test_a_sweep_leaves_files_that_are_on_record(
    jobs: Jobs, objects: FullObjects, clock: Clock, commands: Commands
) -> None:
    files = Files(commands)
    kept = File(
        id=new_file_id(),
        tenant="t1",
        filename="a.png",
        purpose=Purpose.VISION,
        content_type="image/png",
        bytes=len(PNG),
        created_at=NOW,
        expires_at=time.time() + DAY,
    )
    await files.put(kept)
    await put(objects, kept.key, age=2 * DAY)
    await put(objects, "t/t1/file-gone/0.png", age=2 * DAY)
    reaper = Reaper(jobs, objects, clock=clock, life=DAY, orphan_life=DAY, files=files)
    assert await reaper.sweep() == 1
    assert [key async for key, _ in objects.keys("t/")] == [kept.key]


async def test_a_job_of_a_newer_version_is_left_to_its_own_reaper(
    jobs: Jobs, reaper: Reaper, clock: Clock, commands: Commands
) -> None:
    newer = a_job("job_1", schema=SCHEMA + 1, deadline=NOW + 10)
    ours = a_job("job_2", deadline=NOW + 10)
    for job in (newer, ours):
        await jobs.add(job)
    clock.advance(100)
    await reaper.look()
    assert await jobs.find(newer.id) == newer
    ended = await found(jobs, ours.id)
    assert ended is not None
    assert ended.status is JobStatus.FAILED
    assert newer.id not in await jobs.due(clock(), 10)
