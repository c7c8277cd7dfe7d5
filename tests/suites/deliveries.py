"""What the records of deliveries must show on every Redis; a subclass gives `commands`."""

import asyncio

import pytest

from storage import redis_keys
from storage.deliveries import Deliveries, new_delivery_id
from storage.delivery import Delivery, Try, owed
from storage.failure import Failure, FailureCode
from storage.jobs import Jobs
from storage.queue import DELIVER, Queue, holds
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.samples import NOW, a_job


HOOKS = redis_keys.WEBHOOK_QUEUE
FAILURE = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")
TAKEN = Try(at=1.0, latency=0.1, status=200)
NOT_TAKEN = Try(at=1.0, latency=0.1, status=500)


class DeliveriesSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    def deliveries(self, commands: Commands) -> Deliveries:
        return Deliveries(commands)

    @pytest.fixture
    def queue(self, commands: Commands) -> Queue:
        return Queue(commands, HOOKS, token="worker", lease=10)

    async def test_what_was_never_owed_is_not_found(self, deliveries: Deliveries) -> None:
        assert await deliveries.find("msg_0") is None

    async def test_a_delivery_is_due_at_once(self, jobs: Jobs, queue: Queue) -> None:
        delivery = await self.owe(jobs, now=1000.0)
        assert (await queue.claim(5)).tasks == ((delivery.id, DELIVER),)

    async def test_a_delivery_of_the_future_waits_for_its_time(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        await self.owe(jobs, now=9_999_999_999.0)
        assert (await queue.claim(5)).tasks == ()

    async def test_a_swap_is_read_back(self, jobs: Jobs, deliveries: Deliveries) -> None:
        delivery = await self.owe(jobs)
        written = await deliveries.swap(delivery, delivery.tried(NOT_TAKEN, jitter=0))
        assert written is not None
        assert written.version == 1
        assert await deliveries.find(delivery.id) == written

    async def test_of_many_swaps_one_wins(self, jobs: Jobs, deliveries: Deliveries) -> None:
        delivery = await self.owe(jobs)
        tried = [delivery.tried(NOT_TAKEN, jitter=at / 20) for at in range(20)]
        written = await asyncio.gather(*(deliveries.swap(delivery, one) for one in tried))
        assert sum(one is not None for one in written) == 1

    async def test_saying_a_swap_twice_is_harmless(
        self, jobs: Jobs, deliveries: Deliveries
    ) -> None:
        delivery = await self.owe(jobs)
        tried = delivery.tried(NOT_TAKEN, jitter=0)
        assert await deliveries.swap(delivery, tried) == await deliveries.swap(delivery, tried)
        assert (await deliveries.find(delivery.id)) is not None

    async def test_a_delivery_still_owed_stays_in_the_queue(
        self, jobs: Jobs, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await self.owe(jobs)
        await deliveries.swap(delivery, delivery.tried(NOT_TAKEN, jitter=0))
        assert await holds(commands, HOOKS, delivery.id)

    async def test_a_delivery_that_has_ended_leaves_the_queue(
        self, jobs: Jobs, deliveries: Deliveries, queue: Queue, commands: Commands
    ) -> None:
        delivery = await self.owe(jobs)
        await queue.claim(1)
        await deliveries.swap(delivery, delivery.tried(TAKEN, jitter=0))
        assert not await holds(commands, HOOKS, delivery.id)
        assert await commands.execute("EXISTS", redis_keys.payload(delivery.id)) == 0
        assert await queue.renew([delivery.id]) == {delivery.id}

    async def test_a_swap_that_loses_leaves_the_queue_alone(
        self, jobs: Jobs, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await self.owe(jobs)
        await deliveries.swap(delivery, delivery.tried(NOT_TAKEN, jitter=0))
        assert await deliveries.swap(delivery, delivery.tried(TAKEN, jitter=0)) is None
        assert await holds(commands, HOOKS, delivery.id)

    async def test_a_record_is_kept_for_a_month_and_no_longer(
        self, jobs: Jobs, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await self.owe(jobs)
        await deliveries.swap(delivery, delivery.tried(NOT_TAKEN, jitter=0))
        life = await commands.execute("PTTL", redis_keys.delivery(delivery.id))
        assert 30 * 86_400_000 < life <= 34 * 86_400_000

    async def test_deliveries_are_listed_the_newest_first_and_to_their_tenant_only(
        self, jobs: Jobs, deliveries: Deliveries
    ) -> None:
        owing = [await self.owe(jobs, f"job_{at}", now=NOW + at) for at in range(4)]
        await self.owe(jobs, "job_9", tenant="globex")
        listed = await deliveries.of_tenant("acme", limit=3)
        assert listed == owing[:0:-1]

    def test_ids_do_not_repeat_and_hold_no_dot(self) -> None:
        made = {new_delivery_id() for _ in range(1000)}
        assert len(made) == 1000
        assert not any("." in one for one in made)

    async def owe(
        self, jobs: Jobs, job_id: str = "job_1", *, tenant: str = "acme", now: float = NOW
    ) -> Delivery:
        job = a_job(job_id, tenant=tenant, webhook_url="https://example.com/hook")
        await jobs.add(job)
        over = job.failed(FAILURE, now)
        (delivery,) = owed(over, new_delivery_id, now)
        await jobs.swap(job, over, owing=[delivery])
        return delivery
