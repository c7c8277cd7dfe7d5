"""What listening to a job must show on every Redis; a subclass gives the fixture `commands`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from storage import redis_keys
from storage.changes import Changes
from storage.job import Job
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.samples import NOW, a_job


SOON = 5.0  # seconds within which what was told must be heard
QUIET = 0.05


class ChangesSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    async def changes(self, commands: Commands) -> AsyncIterator[Changes]:
        changes = Changes(commands.redis)
        yield changes
        await changes.close()

    async def test_who_listens_hears_each_change(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        async with changes.of(job.id) as feed:
            running = await jobs.swap(job, job.claimed("f", NOW))
            assert running is not None
            await jobs.swap(running, running.cancelled(NOW))
            assert await feed.next(SOON) == {"status": "running", "version": 1}
            assert await feed.next(SOON) == {"status": "cancelled", "version": 2}

    async def test_who_listens_hears_of_previews(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        async with changes.of(job.id) as feed:
            await jobs.tell_partial(job, 0, 2, b"blurred")
            told = await feed.next(SOON)
            assert told is not None
            assert await jobs.partial(told["partial"]["key"]) == b"blurred"

    async def test_nothing_is_heard_of_other_jobs(self, jobs: Jobs, changes: Changes) -> None:
        mine, other = await self.added(jobs, "job_1"), await self.added(jobs, "job_2")
        async with changes.of(mine.id) as feed:
            await jobs.swap(other, other.cancelled(NOW))
            assert await feed.next(QUIET) is None

    async def test_who_gives_up_before_it_listens_leaves_the_channel_to_others(
        self, jobs: Jobs, changes: Changes
    ) -> None:
        job = await self.added(jobs)

        async def listen() -> None:
            async with changes.of(job.id):
                pass

        first = asyncio.create_task(listen())
        await asyncio.sleep(0)  # it has begun to ask
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with changes.of(job.id) as feed:
            await jobs.swap(job, job.claimed("f", NOW))
            assert await feed.next(SOON) is not None

    async def test_a_change_that_was_refused_is_not_told(
        self, jobs: Jobs, changes: Changes
    ) -> None:
        job = await self.added(jobs)
        await jobs.swap(job, job.claimed("f", NOW))
        async with changes.of(job.id) as feed:
            assert await jobs.swap(job, job.cancelled(NOW)) is None
            assert await feed.next(QUIET) is None

    async def test_all_who_listen_hear(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        async with changes.of(job.id) as first, changes.of(job.id) as second:
            await jobs.swap(job, job.cancelled(NOW))
            assert await first.next(SOON) == await second.next(SOON) is not None

    async def test_one_who_leaves_does_not_silence_the_others(
        self, jobs: Jobs, changes: Changes
    ) -> None:
        job = await self.added(jobs)
        async with changes.of(job.id) as stays:
            async with changes.of(job.id):
                pass
            await jobs.swap(job, job.cancelled(NOW))
            assert await stays.next(SOON) is not None

    async def test_who_comes_back_hears_again(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        for at in range(5):
            async with changes.of(job.id) as feed:
                swapped = await jobs.swap(job, job.claimed(f"f{at}", NOW))
                assert swapped is not None
                job = swapped
                assert await feed.next(SOON) == {"status": "running", "version": at + 1}

    async def test_many_listen_to_many_jobs(self, jobs: Jobs, changes: Changes) -> None:
        async def hear(job: Job) -> object:
            async with changes.of(job.id) as feed:
                await jobs.swap(job, job.cancelled(NOW))
                return await feed.next(SOON)

        mine = [await self.added(jobs, f"job_{at}") for at in range(20)]
        told = await asyncio.gather(*(hear(job) for job in mine))
        assert told == [{"status": "cancelled", "version": 1}] * 20

    async def test_who_does_not_read_loses_the_oldest(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        async with changes.of(job.id) as feed, changes.of(job.id) as watch:
            for at in range(100):
                await jobs.tell_partial(job, 0, at, b"")
                assert await watch.next(SOON) is not None
            first = await feed.next(SOON)
            assert first is not None
            assert first["partial"]["sequence"] == 36

    async def test_nothing_is_kept_of_those_who_left(self, jobs: Jobs, changes: Changes) -> None:
        job = await self.added(jobs)
        for _ in range(3):
            async with changes.of(job.id):
                pass
        assert not changes._listeners
        assert len(changes._confirmed) == 1, "a channel is stayed on for the next job"

    async def test_jobs_that_share_a_channel_are_told_apart(
        self, jobs: Jobs, changes: Changes
    ) -> None:
        mine = await self.added(jobs, "job_0")
        channel = redis_keys.changes(mine.id)
        shared = next(
            f"job_{at}" for at in range(1, 10_000) if redis_keys.changes(f"job_{at}") == channel
        )
        other = await self.added(jobs, shared)
        async with changes.of(mine.id) as feed:
            await jobs.swap(other, other.cancelled(NOW))
            await jobs.swap(mine, mine.claimed("f", NOW))
            assert await feed.next(SOON) == {"status": "running", "version": 1}

    async def added(self, jobs: Jobs, job_id: str = "job_1") -> Job:
        job = a_job(job_id)
        await jobs.add(job)
        return job
