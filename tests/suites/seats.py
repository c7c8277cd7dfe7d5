"""What the seats of a limited tenant must show on every Redis; a subclass gives `commands`."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from storage import redis_keys
from storage.errors import TooMany
from storage.failure import Failure, FailureCode
from storage.job import Job
from storage.jobs import Idempotency, Jobs, Seating
from storage.queue import Queue
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Tenant
from storage.tenants import Tenants
from tests.samples import NOW, a_job


REFUSED = Failure(code=FailureCode.CONTENT_POLICY, message="No.")


class SeatsSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    def queue(self, commands: Commands) -> Queue:
        return Queue(commands, redis_keys.IMAGE_QUEUE, token="one", lease=10)

    @pytest.fixture
    def tenants(self, commands: Commands) -> Tenants:
        return Tenants(commands)

    async def limit(self, tenants: Tenants, **limits: Any) -> None:
        await tenants.add(Tenant(id="acme", created_at=NOW))
        await tenants.change("acme", lambda tenant: replace(tenant, **limits))

    async def fill(self, jobs: Jobs, count: int, **fields: Any) -> list[Job]:
        """Add jobs of acme, each a millisecond after the one before."""
        added = []
        for at in range(count):
            name = f"{fields.get('priority', 0)}_{at}"
            job = a_job(name, created_at=NOW + at / 1000, **fields)
            await jobs.add(job, seating=Seating())
            added.append(job)
        return added

    async def claimed(self, queue: Queue, most: int = 100) -> list[str]:
        return [task_id for task_id, _ in (await queue.claim(most)).tasks]

    async def end(self, jobs: Jobs, job_id: str) -> None:
        job = await jobs.find(job_id)
        assert job is not None
        assert await jobs.swap(job, job.failed(REFUSED, NOW + 5)) is not None

    async def rest(self, commands: Commands) -> list[bytes]:
        """Return the keys of seats and standing that are left."""
        names = await commands.execute("KEYS", "*seats:*")
        standing = await commands.execute("GET", redis_keys.STANDING)
        assert standing in {None, b"0"}
        return list(names)

    # -- how many may be at work -------------------------------------------------------------------

    async def test_no_more_jobs_can_be_claimed_than_there_are_seats(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=3)
        await self.fill(jobs, 10)
        assert await self.claimed(queue) == ["0_0", "0_1", "0_2"]
        assert await self.claimed(queue) == []

    async def test_each_job_that_ends_lets_the_next_one_in(
        self, jobs: Jobs, queue: Queue, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=2)
        await self.fill(jobs, 6)
        working, most = await self.claimed(queue), 0
        for _ in range(6):
            most = max(most, len(working))
            await self.end(jobs, working.pop())
            working += await self.claimed(queue)
        assert most == 2
        assert working == []
        assert await self.rest(commands) == []

    async def test_those_that_stand_come_in_the_order_of_their_submission(
        self, jobs: Jobs, queue: Queue, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 5)
        seen = []
        for _ in range(5):
            (job_id,) = await self.claimed(queue)
            seen.append(job_id)
            await self.end(jobs, job_id)
        assert seen == ["0_0", "0_1", "0_2", "0_3", "0_4"]
        assert await self.rest(commands) == []

    async def test_the_urgent_stand_before_the_others(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=1)
        for priority in (0, -1, 1):
            await self.fill(jobs, 2, priority=priority)
        seen = []
        for _ in range(6):
            (job_id,) = await self.claimed(queue)
            seen.append(job_id)
            await self.end(jobs, job_id)
        assert seen == ["0_0", "1_0", "1_1", "0_1", "-1_0", "-1_1"]

    async def test_a_worker_is_woken_for_a_job_that_gets_a_seat(
        self, jobs: Jobs, queue: Queue, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 2)
        (first,) = await self.claimed(queue)
        await commands.execute("DEL", redis_keys.wake(redis_keys.IMAGE_QUEUE))
        await self.end(jobs, first)
        assert await queue.wait(1)

    async def test_a_job_that_is_put_back_keeps_its_seat(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 2)
        (first,) = await self.claimed(queue)
        await queue.put_back(first, 0)
        assert await self.claimed(queue) == [first]

    async def test_a_job_that_ends_while_it_stands_leaves_nothing(
        self, jobs: Jobs, queue: Queue, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 3)
        assert await jobs.open_of_all() == 3
        await self.end(jobs, "0_1")
        assert await jobs.open_of_all() == 2
        (first,) = await self.claimed(queue)
        await self.end(jobs, first)
        assert await self.claimed(queue) == ["0_2"]
        await self.end(jobs, "0_2")
        assert await self.rest(commands) == []

    async def test_saying_an_end_twice_frees_one_seat(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 3)
        (first,) = await self.claimed(queue)
        job = await jobs.find(first)
        assert job is not None
        over = job.failed(REFUSED, NOW + 5)
        for _ in range(3):
            await jobs.swap(job, over)
        assert await self.claimed(queue) == ["0_1"]

    async def test_another_tenants_jobs_do_not_stand(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 3)
        for at in range(3):
            await jobs.add(a_job(f"other_{at}", tenant="globex"))
        assert sorted(await self.claimed(queue)) == ["0_0", "other_0", "other_1", "other_2"]

    async def test_a_limit_that_is_raised_seats_those_that_stand(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 5)
        await self.limit(tenants, max_running=3)
        assert await jobs.seat("acme") == 2
        assert len(await self.claimed(queue)) == 3

    async def test_a_limit_that_is_lifted_seats_all(
        self, jobs: Jobs, queue: Queue, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=1)
        await self.fill(jobs, 5)
        await self.limit(tenants, max_running=None)
        assert await jobs.seat("acme") == 4
        seen = await self.claimed(queue)
        assert seen == ["0_0", "0_1", "0_2", "0_3", "0_4"]
        for job_id in seen:
            await self.end(jobs, job_id)
        assert await self.rest(commands) == []

    async def test_a_limit_that_is_lowered_holds_once_enough_have_ended(
        self, jobs: Jobs, queue: Queue, tenants: Tenants
    ) -> None:
        await self.limit(tenants, max_running=3)
        await self.fill(jobs, 6)
        seen = await self.claimed(queue)
        await self.limit(tenants, max_running=1)
        for job_id in seen[:2]:
            await self.end(jobs, job_id)
            assert await self.claimed(queue) == []
        await self.end(jobs, seen[2])
        assert await self.claimed(queue) == ["0_3"]

    async def test_a_job_that_stands_is_told_from_one_that_was_lost(
        self, jobs: Jobs, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_running=1)
        seated, standing = await self.fill(jobs, 2)
        assert (await jobs.is_queued(seated), await jobs.stands(seated)) == (True, False)
        assert (await jobs.is_queued(standing), await jobs.stands(standing)) == (False, True)

    # -- how many may be open ----------------------------------------------------------------------

    async def test_no_more_jobs_are_taken_in_than_may_be_open(
        self, jobs: Jobs, tenants: Tenants, commands: Commands
    ) -> None:
        await self.limit(tenants, max_queued=3, max_running=1)
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"), seating=Seating(3))
        with pytest.raises(TooMany) as refused:
            await jobs.add(a_job("job_3"), seating=Seating(3))
        assert refused.value.code == "queue_full"
        assert await jobs.find("job_3") is None
        assert await commands.execute("ZSCORE", redis_keys.jobs_of("acme"), "job_3") is None
        await self.end(jobs, "job_0")
        await jobs.add(a_job("job_3"), seating=Seating(3))

    async def test_many_at_once_do_not_go_beyond_it(self, jobs: Jobs, commands: Commands) -> None:
        results = await asyncio.gather(
            *(jobs.add(a_job(f"job_{at}"), seating=Seating(5)) for at in range(20)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, TooMany) for result in results) == 15
        assert await jobs.open_of("acme") == 5

    async def test_adding_the_same_job_twice_counts_once(self, jobs: Jobs) -> None:
        job = a_job()
        for _ in range(3):
            await jobs.add(job, seating=Seating(1))
        assert await jobs.open_of("acme") == 1

    async def test_a_job_that_was_made_before_is_found_at_the_bound(self, jobs: Jobs) -> None:
        same = Idempotency("key", "print")
        first = await jobs.add(a_job("job_1"), idempotency=same, seating=Seating(1))
        again = await jobs.add(a_job("job_2"), idempotency=same, seating=Seating(1))
        assert (again.id, again.existed) == (first.id, True)

    async def test_a_refused_job_leaves_its_idempotency_key_free(self, jobs: Jobs) -> None:
        same = Idempotency("key", "print")
        await jobs.add(a_job("job_1"), seating=Seating(1))
        with pytest.raises(TooMany):
            await jobs.add(a_job("job_2"), idempotency=same, seating=Seating(1))
        await self.end(jobs, "job_1")
        assert not (await jobs.add(a_job("job_3"), idempotency=same, seating=Seating(1))).existed
