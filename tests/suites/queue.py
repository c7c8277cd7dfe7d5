"""What a queue must show on every Redis; a subclass gives the fixture `commands`.

Leases are kept by Redis's own clock, so these tests wait for it where a lease must run out.
"""

import asyncio
import time

import pytest

from storage import redis_keys
from storage.jobs import Jobs
from storage.queue import DELIVER, RUN_JOB, Depth, Queue, depth, holds, put
from storage.record import read
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.samples import NOW, a_job


IMAGES = redis_keys.IMAGE_QUEUE
WAKE = redis_keys.wake(IMAGES)
SHORT = 0.05  # seconds of a lease that is meant to run out


def ids(tasks: tuple[tuple[str, str | None], ...]) -> list[str]:
    return [task_id for task_id, _ in tasks]


class QueueSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    def queue(self, commands: Commands) -> Queue:
        return Queue(commands, IMAGES, token="one", lease=10)

    @pytest.fixture
    def other(self, commands: Commands) -> Queue:
        return Queue(commands, IMAGES, token="other", lease=10)

    @pytest.fixture
    def short(self, commands: Commands) -> Queue:
        return Queue(commands, IMAGES, token="short", lease=SHORT)

    # -- claiming ----------------------------------------------------------------------------------

    async def test_tasks_of_one_tenant_come_in_the_order_of_their_submission(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for name in ("d", "a", "c", "b"):
            await jobs.add(a_job(name))
        assert ids((await queue.claim(10)).tasks) == ["d", "a", "c", "b"]

    async def test_no_more_is_claimed_than_asked(self, jobs: Jobs, queue: Queue) -> None:
        for at in range(5):
            await jobs.add(a_job(f"job_{at}"))
        assert ids((await queue.claim(2)).tasks) == ["job_0", "job_1"]
        assert ids((await queue.claim(9)).tasks) == ["job_2", "job_3", "job_4"]

    async def test_a_leased_task_is_nobody_elses(
        self, jobs: Jobs, queue: Queue, other: Queue
    ) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        assert (await other.claim(10)).tasks == ()

    async def test_of_many_claims_at_once_each_task_goes_to_one(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await asyncio.gather(*(jobs.add(a_job(f"job_{at}")) for at in range(40)))
        workers = [Queue(commands, IMAGES, token=f"w{at}", lease=10) for at in range(8)]
        claims = await asyncio.gather(*(worker.claim(7) for worker in workers))
        claimed = [task_id for claim in claims for task_id in ids(claim.tasks)]
        assert sorted(claimed) == sorted(f"job_{at}" for at in range(40))

    async def test_an_empty_queue_gives_nothing_and_plans_nothing(self, queue: Queue) -> None:
        claim = await queue.claim(5)
        assert (claim.tasks, claim.next_due) == ((), None)

    async def test_a_claim_says_when_the_next_task_is_due(self, jobs: Jobs, queue: Queue) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        await queue.put_back("job_1", 5)
        due = (await queue.claim(1)).next_due
        assert due is not None
        assert 4 < due <= 5

    async def test_a_claim_that_left_something_says_that_it_is_due_now(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"))
        assert (await queue.claim(2)).next_due == 0

    async def test_a_payload_that_cannot_be_read_is_a_task_of_no_kind(
        self, queue: Queue, commands: Commands
    ) -> None:
        for name in ("task_1", "task_2"):
            await put(commands, IMAGES, DELIVER, name, time.time())
        await commands.execute("SET", redis_keys.payload("task_1"), b"\x80\x05not json")
        await commands.execute("DEL", redis_keys.payload("task_2"))
        assert (await queue.claim(5)).tasks == (("task_1", None), ("task_2", None))

    async def test_a_job_is_claimed_with_its_record_whatever_became_of_its_payload(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        job = a_job("job_1")
        await jobs.add(job)
        await commands.execute("DEL", redis_keys.payload("job_1"))
        await put(commands, IMAGES, DELIVER, "task_1", time.time())
        claim = await queue.claim(5)
        assert dict(claim.tasks) == {"job_1": RUN_JOB, "task_1": DELIVER}
        assert claim.records.keys() == {"job_1"}
        assert read(claim.records["job_1"]) == job

    async def test_the_queue_of_webhooks_does_not_look_for_jobs(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await jobs.add(a_job("job_1"))
        await put(commands, redis_keys.WEBHOOK_QUEUE, DELIVER, "job_1", time.time())
        webhooks = Queue(commands, redis_keys.WEBHOOK_QUEUE, token="one", lease=10)
        claim = await webhooks.claim(5)
        assert (claim.tasks, claim.records) == ((("job_1", DELIVER),), {})

    # -- leases ------------------------------------------------------------------------------------

    async def test_a_lease_that_ran_out_is_claimed_again(
        self, jobs: Jobs, short: Queue, other: Queue
    ) -> None:
        await jobs.add(a_job())
        await short.claim(1)
        await asyncio.sleep(2 * SHORT)
        assert (await other.claim(1)).tasks == (("job_1", RUN_JOB),)

    async def test_a_renewed_lease_goes_on(self, jobs: Jobs, short: Queue, other: Queue) -> None:
        await jobs.add(a_job())
        await short.claim(1)
        for _ in range(4):
            await asyncio.sleep(SHORT / 2)
            assert await short.renew(["job_1"]) == frozenset()
        assert (await other.claim(1)).tasks == ()

    async def test_a_lease_that_ran_out_unnoticed_can_be_taken_up_by_its_owner(
        self, jobs: Jobs, short: Queue, other: Queue
    ) -> None:
        await jobs.add(a_job())
        await short.claim(1)
        await asyncio.sleep(2 * SHORT)
        assert await short.renew(["job_1"]) == frozenset()
        assert (await other.claim(1)).tasks == ()

    async def test_who_renews_learns_what_is_lost(
        self, jobs: Jobs, short: Queue, other: Queue
    ) -> None:
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"))
        await short.claim(2)
        await asyncio.sleep(2 * SHORT)
        await other.claim(1)
        assert await short.renew(["job_0", "job_1", "job_9"]) == {"job_0", "job_9"}

    async def test_a_lost_task_cannot_be_given_back_or_finished(
        self, jobs: Jobs, short: Queue, other: Queue, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        await short.claim(1)
        await asyncio.sleep(2 * SHORT)
        await other.claim(1)
        assert await short.put_back("job_1", 0) is False
        assert await short.done("job_1") is False
        assert await other.renew(["job_1"]) == frozenset()
        assert await holds(commands, IMAGES, "job_1")

    async def test_a_finished_task_is_gone(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        assert await queue.done("job_1") is True
        assert not await holds(commands, IMAGES, "job_1")
        assert await commands.execute("EXISTS", redis_keys.payload("job_1")) == 0
        assert await queue.renew(["job_1"]) == {"job_1"}

    # -- giving back -------------------------------------------------------------------------------

    async def test_a_task_given_back_comes_again_after_its_delay_and_not_before(
        self, jobs: Jobs, queue: Queue, other: Queue
    ) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        assert await queue.put_back("job_1", 0.2) is True
        assert (await other.claim(1)).tasks == ()
        await asyncio.sleep(0.22)
        assert (await other.claim(1)).tasks == (("job_1", RUN_JOB),)

    @pytest.mark.parametrize("delay", [0.0, -5.0])
    async def test_a_task_given_back_without_delay_comes_at_once(
        self, jobs: Jobs, queue: Queue, other: Queue, delay: float
    ) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        await queue.put_back("job_1", delay)
        assert ids((await other.claim(1)).tasks) == ["job_1"]

    async def test_what_was_given_back_comes_before_what_waits(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for at in range(4):
            await jobs.add(a_job(f"job_{at}"))
        await queue.claim(1)
        await queue.put_back("job_0", 0)
        assert ids((await queue.claim(2)).tasks) == ["job_0", "job_1"]

    async def test_a_task_whose_job_ended_meanwhile_is_not_queued_again(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        job = a_job()
        await jobs.add(job)
        await queue.claim(1)
        await jobs.swap(job, job.cancelled(NOW))
        assert await queue.put_back("job_1", 0) is False
        assert not await holds(commands, IMAGES, "job_1")

    # -- waking ------------------------------------------------------------------------------------

    async def test_a_new_job_wakes_who_waits(self, jobs: Jobs, queue: Queue) -> None:
        began = time.monotonic()
        waiting = asyncio.create_task(queue.wait(5))
        await jobs.add(a_job())
        assert await waiting is True
        assert time.monotonic() - began < 2

    async def test_a_wait_ends_without_a_word(self, queue: Queue) -> None:
        assert await queue.wait(0.05) is False

    async def test_a_nudge_wakes_one(self, queue: Queue) -> None:
        await queue.nudge()
        assert await queue.wait(5) is True

    async def test_a_task_given_back_wakes_who_waits(self, jobs: Jobs, queue: Queue) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        await queue.put_back("job_1", 30)
        assert await queue.wait(5) is True

    async def test_wake_ups_do_not_pile_up(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        for at in range(20):
            await jobs.add(a_job(f"job_{at}"))
        await queue.claim(32)
        assert await commands.execute("LLEN", WAKE) == 0
        for at in range(20):
            await queue.put_back(f"job_{at}", 60)
        await queue.claim(32)
        assert await commands.execute("LLEN", WAKE) == 0

    async def test_wake_ups_stay_while_something_waits(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        for at in range(5):
            await jobs.add(a_job(f"job_{at}"))
        await queue.claim(3)
        assert await commands.execute("LLEN", WAKE) > 0

    async def test_who_does_not_crowd_the_queue_is_heard_apart(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for at in range(3):
            await jobs.add(a_job(f"a_{at}", tenant="acme"))
        await queue.claim(2)
        while await queue.wait(0.05, timely=True):
            pass
        await jobs.add(a_job("a_3", tenant="acme"))
        assert await queue.wait(0.05, timely=True) is False
        await jobs.add(a_job("b_0", tenant="globex"))
        assert await queue.wait(5, timely=True) is True
        assert ids((await queue.claim(9, timely=True)).tasks) == ["b_0"]
        assert ids((await queue.claim(9, timely=True)).tasks) == []
        assert ids((await queue.claim(9)).tasks) == ["a_2", "a_3"]

    async def test_a_newcomer_wakes_who_waits_for_anything(self, jobs: Jobs, queue: Queue) -> None:
        await jobs.add(a_job())
        assert await queue.wait(5) is True

    # -- the fair order ----------------------------------------------------------------------------

    async def test_a_newcomer_is_served_next_however_much_another_has_queued(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for start in range(0, 1000, 100):  # a fake Redis is slow to read a thousand at once
            await asyncio.gather(*(jobs.add(a_job(f"a_{start + at:04}")) for at in range(100)))
        for _ in range(3):
            await queue.claim(32)
        await jobs.add(a_job("newcomer", tenant="globex"))
        assert "newcomer" in ids((await queue.claim(2)).tasks)

    async def test_two_tenants_take_turns(self, jobs: Jobs, queue: Queue) -> None:
        await asyncio.gather(*(jobs.add(a_job(f"a_{at}")) for at in range(50)))
        for at in range(10):
            await jobs.add(a_job(f"b_{at}", tenant="globex"))
        served = [task for _ in range(20) for task in ids((await queue.claim(1)).tasks)]
        assert sum(task.startswith("b_") for task in served) == 10

    async def test_a_tenant_who_waited_idle_saved_nothing_up(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        await jobs.add(a_job("b_0", tenant="globex"))
        await asyncio.gather(*(jobs.add(a_job(f"a_{at:02}")) for at in range(60)))
        await queue.claim(32)
        for at in range(1, 21):
            await jobs.add(a_job(f"b_{at}", tenant="globex"))
        served = [task for _ in range(20) for task in ids((await queue.claim(1)).tasks)]
        assert 9 <= sum(task.startswith("b_") for task in served) <= 11

    async def test_shares_follow_weights(self, jobs: Jobs, queue: Queue) -> None:
        for at in range(60):
            await jobs.add(a_job(f"a_{at}"), weight=3)
            await jobs.add(a_job(f"b_{at}", tenant="globex"), weight=1)
        served = [task for _ in range(40) for task in ids((await queue.claim(1)).tasks)]
        assert 29 <= sum(task.startswith("a_") for task in served) <= 31

    async def test_a_job_weighs_as_much_as_its_images(self, jobs: Jobs, queue: Queue) -> None:
        for at in range(10):
            await jobs.add(a_job(f"a_{at}", n=10))
        for at in range(40):
            await jobs.add(a_job(f"b_{at:02}", tenant="globex"))
        served = [task for _ in range(22) for task in ids((await queue.claim(1)).tasks)]
        assert 2 <= sum(task.startswith("a_") for task in served) <= 3

    async def test_an_urgent_job_passes_the_tenants_own_queue(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for at in range(50):
            await jobs.add(a_job(f"a_{at}"))
        await queue.claim(5)
        await jobs.add(a_job("urgent", priority=1))
        assert "urgent" in ids((await queue.claim(2)).tasks)

    async def test_a_job_that_can_wait_stands_behind_the_tenants_own_queue(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        for at in range(5):
            await jobs.add(a_job(f"urgent_{at}", priority=1))
            await jobs.add(a_job(f"plain_{at}"))
        await jobs.add(a_job("later", priority=-1))
        assert ids((await queue.claim(11)).tasks)[-1] == "later"

    async def test_jobs_that_can_wait_let_a_plain_one_pass(self, jobs: Jobs, queue: Queue) -> None:
        for at in range(20):
            await jobs.add(a_job(f"later_{at}", priority=-1))
        await queue.claim(5)
        await jobs.add(a_job("plain"))
        assert "plain" in ids((await queue.claim(2)).tasks)

    async def test_urgent_jobs_do_not_enlarge_a_tenants_share(
        self, jobs: Jobs, queue: Queue
    ) -> None:
        await asyncio.gather(*(jobs.add(a_job(f"a_{at}", priority=1)) for at in range(60)))
        for at in range(10):
            await jobs.add(a_job(f"b_{at}", tenant="globex"))
        served = [task for _ in range(22) for task in ids((await queue.claim(1)).tasks)]
        assert sum(task.startswith("b_") for task in served) == 10

    async def test_a_dead_workers_task_does_not_wait_behind_a_long_queue(
        self, jobs: Jobs, short: Queue, other: Queue
    ) -> None:
        await jobs.add(a_job("left"))
        await short.claim(1)
        for at in range(20):
            await jobs.add(a_job(f"job_{at:02}"))
        await asyncio.sleep(2 * SHORT)
        assert ids((await other.claim(3)).tasks) == ["left", "job_00", "job_01"]

    # -- figures and repairs -----------------------------------------------------------------------

    async def test_the_depth_tells_what_waits_from_what_is_held(
        self, jobs: Jobs, queue: Queue, commands: Commands
    ) -> None:
        for at in range(5):
            await jobs.add(a_job(f"job_{at}"))
        await queue.claim(2)
        await queue.put_back("job_0", 60)
        assert await depth(commands, IMAGES) == Depth(waiting=3, held=2)

    async def test_queueing_what_is_queued_moves_nothing(
        self, jobs: Jobs, queue: Queue, other: Queue, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        await queue.claim(1)
        await put(commands, IMAGES, RUN_JOB, "job_1", NOW)
        assert (await other.claim(1)).tasks == ()

    async def test_queues_do_not_mix(self, commands: Commands, queue: Queue) -> None:
        await put(commands, redis_keys.WEBHOOK_QUEUE, DELIVER, "msg_1", 0.0)
        assert (await queue.claim(5)).tasks == ()
