"""What the records of jobs must show on every Redis; a subclass gives the fixture `commands`."""

import asyncio
from dataclasses import replace

import pytest

from storage import redis_keys
from storage.bill import day_of
from storage.errors import Conflict, Error, Invalid
from storage.failure import Failure, FailureCode
from storage.job import Job, JobId, JobStatus
from storage.jobs import CHECK_EVERY, Idempotency, Jobs, new_job_id
from storage.queue import DELIVER, RUN_JOB, Queue, depth
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.doubles import Clock
from tests.owed import owed
from tests.samples import NOW, a_job


DAY = 86_400.0
REFUSED = Failure(code=FailureCode.CONTENT_POLICY, message="No.")


def queue(commands: Commands, name: str = redis_keys.IMAGE_QUEUE) -> Queue:
    return Queue(commands, name, token="worker", lease=10)


def webhook_job(job_id: str = "job_1") -> Job:
    return a_job(job_id, webhook_url="https://example.com/hook")


def ended(job: Job) -> Job:
    return job.failed(REFUSED, NOW + 5)


class JobsSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings(days=7, idempotency_hours=24))

    # -- taking in ---------------------------------------------------------------------------------

    async def test_an_added_job_is_found_as_it_was(self, jobs: Jobs) -> None:
        job = a_job(n=3, webhook_url="https://example.com/", metadata={"order": "7"}, priority=1)
        added = await jobs.add(job)
        assert (added.id, added.existed) == (job.id, False)
        assert await jobs.find(job.id) == job

    async def test_a_job_that_was_never_added_is_not_found(self, jobs: Jobs) -> None:
        assert await jobs.find("job_0") is None

    async def test_only_its_own_tenant_gets_a_job(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        assert await jobs.get("acme", job.id) == job
        assert await jobs.get("globex", job.id) is None

    async def test_an_added_job_waits_to_be_run(self, jobs: Jobs, commands: Commands) -> None:
        await jobs.add(a_job())
        assert (await queue(commands).claim(10)).tasks == (("job_1", RUN_JOB),)

    async def test_only_the_id_of_a_job_rides_the_queue(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        payload = await commands.execute("GET", redis_keys.payload("job_1"))
        assert b"job_1" in payload
        assert b"lighthouse" not in payload

    async def test_adding_a_job_again_keeps_what_became_of_it(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        job = a_job()
        await jobs.add(job)
        over = ended(job)
        await jobs.swap(job, over)
        assert (await jobs.add(job)).existed is False
        found = await jobs.find(job.id)
        assert found is not None
        assert found.status is JobStatus.FAILED
        assert (await queue(commands).claim(10)).tasks == ()

    async def test_of_an_add_that_a_cut_log_left_half_nothing_is_shown_and_it_can_be_repeated(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        job = a_job()
        index = redis_keys.jobs_of(job.tenant)
        await commands.execute("ZADD", index, int(NOW * 1_000_000), job.id)
        assert (await jobs.listing.page("acme", limit=10)).jobs == ()
        assert await commands.execute("ZCARD", index) == 0
        await commands.execute("ZADD", index, int(NOW * 1_000_000), job.id)
        await jobs.add(job)
        assert await jobs.find(job.id) == job
        assert await jobs.is_queued(job)

    async def test_fifty_parallel_adds_with_one_key_make_one_job(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        same = Idempotency("key", "print")
        added = await asyncio.gather(
            *(jobs.add(a_job(f"job_{at}"), idempotency=same) for at in range(50))
        )
        assert len({one.id for one in added}) == 1
        assert sum(not one.existed for one in added) == 1
        assert (await depth(commands, redis_keys.IMAGE_QUEUE)).waiting == 1
        assert len((await jobs.listing.page("acme", limit=50)).jobs) == 1

    async def test_a_key_with_another_request_is_refused_and_leaves_nothing(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await jobs.add(a_job("job_1"), idempotency=Idempotency("key", "one"))
        with pytest.raises(Conflict) as refusal:
            await jobs.add(a_job("job_2"), idempotency=Idempotency("key", "two"))
        assert refusal.value.code == "idempotency_key_reused"
        assert await jobs.find("job_2") is None
        assert (await depth(commands, redis_keys.IMAGE_QUEUE)).waiting == 1

    async def test_a_key_belongs_to_its_tenant(self, jobs: Jobs) -> None:
        same = Idempotency("key", "print")
        await jobs.add(a_job("job_1"), idempotency=same)
        added = await jobs.add(a_job("job_2", tenant="globex"), idempotency=same)
        assert (added.id, added.existed) == ("job_2", False)

    async def test_a_key_still_names_its_job_when_the_job_has_ended(self, jobs: Jobs) -> None:
        same = Idempotency("key", "print")
        job = a_job()
        await jobs.add(job, idempotency=same)
        await jobs.swap(job, ended(job))
        again = await jobs.add(a_job("job_2"), idempotency=same)
        assert (again.id, again.existed) == (job.id, True)

    async def test_a_key_is_kept_for_its_time(self, jobs: Jobs, commands: Commands) -> None:
        await jobs.add(a_job(), idempotency=Idempotency("a key with any text\n", "print"))
        life = await commands.execute(
            "PTTL", redis_keys.idempotency("acme", "a key with any text\n")
        )
        assert 0.99 * DAY * 1000 < life <= DAY * 1000

    async def test_a_key_is_not_kept_for_longer_than_its_job(self, commands: Commands) -> None:
        jobs = Jobs(commands, RetentionSettings(days=0.5, idempotency_hours=24))
        await jobs.add(a_job(), idempotency=Idempotency("key", "print"))
        life = await commands.execute("PTTL", redis_keys.idempotency("acme", "key"))
        assert life <= DAY / 2 * 1000

    async def test_a_key_whose_job_was_deleted_is_free_again(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job, idempotency=Idempotency("key", "one"))
        over = await jobs.swap(job, ended(job))
        assert over is not None
        await jobs.remove(over)
        again = await jobs.add(a_job("job_2"), idempotency=Idempotency("key", "two"))
        assert (again.id, again.existed) == ("job_2", False)
        assert await jobs.find("job_2") is not None

    def test_ids_do_not_repeat(self) -> None:
        assert len({new_job_id() for _ in range(1000)}) == 1000

    # -- swapping ----------------------------------------------------------------------------------

    async def test_a_swap_is_read_back_with_the_next_version(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        written = await jobs.swap(job, job.claimed("f", NOW))
        assert written is not None
        assert (written.version, written.fence) == (1, "f")
        assert await jobs.find(job.id) == written

    async def test_of_many_swaps_of_one_version_one_wins(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        written = await asyncio.gather(
            *(jobs.swap(job, job.claimed(f"fence {at}", NOW)) for at in range(30))
        )
        winners = [one for one in written if one is not None]
        assert len(winners) == 1
        assert await jobs.find(job.id) == winners[0]

    async def test_a_swap_of_an_older_version_loses(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        first = await jobs.swap(job, job.claimed("one", NOW))
        assert first is not None
        await jobs.swap(first, first.claimed("two", NOW))
        assert await jobs.swap(job, ended(job)) is None
        assert await jobs.swap(first, ended(first)) is None

    async def test_saying_a_swap_twice_is_harmless(self, jobs: Jobs, commands: Commands) -> None:
        job = webhook_job()
        await jobs.add(job)
        first = await jobs.swap(job, ended(job))
        assert await jobs.swap(job, ended(job)) == first
        assert len(await owed(commands)) == 1
        assert (await jobs.find(job.id)) == first

    async def test_a_job_that_was_never_added_cannot_be_swapped(self, jobs: Jobs) -> None:
        job = a_job()
        assert await jobs.swap(job, job.claimed("f", NOW)) is None
        assert await jobs.find(job.id) is None

    async def test_an_ended_job_leaves_the_queue(self, jobs: Jobs, commands: Commands) -> None:
        job = a_job()
        await jobs.add(job)
        await queue(commands).claim(1)
        await jobs.swap(job, ended(job))
        assert not await jobs.is_queued(job)
        assert await commands.execute("EXISTS", redis_keys.payload(job.id)) == 0
        assert await commands.execute("EXISTS", redis_keys.in_progress(job.id)) == 0

    async def test_a_running_job_stays_in_the_queue(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        await jobs.swap(job, job.claimed("f", NOW))
        assert await jobs.is_queued(job)

    async def test_an_ended_job_owes_its_deliveries_in_the_same_step(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        job = webhook_job()
        await jobs.add(job)
        await jobs.swap(job, ended(job))
        (delivery,) = await owed(commands)
        assert (delivery.job_id, delivery.type) == (job.id, "job.failed")
        claim = await queue(commands, redis_keys.WEBHOOK_QUEUE).claim(10)
        assert claim.tasks == ((delivery.id, DELIVER),)

    async def test_a_swap_that_loses_owes_nothing(self, jobs: Jobs, commands: Commands) -> None:
        job = webhook_job()
        await jobs.add(job)
        await jobs.swap(job, job.claimed("f", NOW))
        assert await jobs.swap(job, ended(job)) is None
        assert await owed(commands) == []
        assert (await depth(commands, redis_keys.WEBHOOK_QUEUE)).held == 0

    async def test_the_list_of_deliveries_loses_those_whose_records_are_gone(
        self, commands: Commands
    ) -> None:
        clock = Clock(NOW)
        jobs = Jobs(commands, RetentionSettings(), clock=clock)
        for at in range(2):
            job = webhook_job(f"job_{at}")
            await jobs.add(job)
            await jobs.swap(job, ended(job))
            clock.advance(40 * DAY)
        log = redis_keys.deliveries_of("acme", "pending")
        assert await commands.execute("ZCARD", log) == 1

    # -- appointments ------------------------------------------------------------------------------

    async def test_an_open_job_is_looked_at_after_a_while(self, jobs: Jobs) -> None:
        await jobs.add(a_job())
        assert await jobs.due(NOW + CHECK_EVERY - 1, 10) == []
        assert await jobs.due(NOW + CHECK_EVERY, 10) == ["job_1"]

    async def test_a_job_is_looked_at_when_its_time_to_start_or_to_end_is_over(
        self, jobs: Jobs
    ) -> None:
        await jobs.add(a_job("job_1", start_by=NOW + 5))
        await jobs.add(a_job("job_2", deadline=NOW + 7))
        assert await jobs.due(NOW + 5, 10) == ["job_1"]
        assert await jobs.due(NOW + 7, 10) == ["job_1", "job_2"]

    async def test_the_next_look_can_be_moved_and_struck_off(self, jobs: Jobs) -> None:
        await jobs.add(a_job())
        await jobs.look_again(JobId("job_1"), NOW + 500)
        assert await jobs.due(NOW + 499, 10) == []
        await jobs.look_again(JobId("job_1"), None)
        assert await jobs.due(NOW + DAY, 10) == []

    async def test_a_look_is_not_planned_for_a_job_that_is_gone(self, jobs: Jobs) -> None:
        await jobs.look_again(JobId("job_0"), NOW)
        assert await jobs.due(NOW + DAY, 10) == []

    async def test_an_ended_job_is_looked_at_when_its_life_is_over(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        await jobs.swap(job, ended(job))
        assert await jobs.due(NOW + 5 + 7 * DAY - 1, 10) == []
        assert await jobs.due(NOW + 5 + 7 * DAY, 10) == ["job_1"]

    async def test_no_more_looks_are_due_at_once_than_asked(self, jobs: Jobs) -> None:
        for at in range(5):
            await jobs.add(a_job(f"job_{at}"))
        assert len(await jobs.due(NOW + DAY, 3)) == 3

    async def test_a_removed_job_leaves_nothing_but_its_bill(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        job = a_job()
        await jobs.add(job)
        over = await jobs.swap(job, ended(job))
        assert over is not None
        await jobs.remove(over)
        left = {key.decode() for key in await commands.execute("KEYS", "*")}
        assert left <= {
            redis_keys.flows(redis_keys.IMAGE_QUEUE),
            redis_keys.wake("arq:queue"),
            redis_keys.timely("arq:queue"),
            redis_keys.bill("acme", day_of(over.finished_at or 0.0), "painter"),
            redis_keys.bills_of("acme"),
        }

    async def test_a_lost_queue_entry_is_made_again(self, jobs: Jobs, commands: Commands) -> None:
        job = a_job()
        await jobs.add(job)
        await commands.execute("DEL", redis_keys.IMAGE_QUEUE, redis_keys.payload(job.id))
        assert not await jobs.is_queued(job)
        await jobs.requeue(job, NOW - 1e9)
        assert (await queue(commands).claim(1)).tasks == (("job_1", RUN_JOB),)

    # -- lists -------------------------------------------------------------------------------------

    async def test_jobs_are_listed_the_newest_first(self, jobs: Jobs) -> None:
        for at in (2, 0, 1):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at))
        page = await jobs.listing.page("acme", limit=10)
        assert [job.id for job in page.jobs] == ["job_2", "job_1", "job_0"]
        assert page.next is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    async def test_pages_show_every_job_once(self, jobs: Jobs, limit: int) -> None:
        for at in range(7):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at // 3))
        seen: list[str] = []
        cursor = None
        for _ in range(8):
            page = await jobs.listing.page("acme", limit=limit, after=cursor)
            seen += [job.id for job in page.jobs]
            if (cursor := page.next) is None:
                break
        assert seen == [f"job_{at}" for at in range(6, -1, -1)]

    async def test_a_page_that_holds_the_last_job_has_no_next(self, jobs: Jobs) -> None:
        for at in range(4):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at))
        first = await jobs.listing.page("acme", limit=2)
        assert first.next is not None
        assert (await jobs.listing.page("acme", limit=2, after=first.next)).next is None

    async def test_more_jobs_of_one_moment_than_are_read_at_once_are_all_listed(
        self, jobs: Jobs
    ) -> None:
        await asyncio.gather(*(jobs.add(a_job(f"job_{at:03}")) for at in range(230)))
        first = await jobs.listing.page("acme", limit=150)
        rest = await jobs.listing.page("acme", limit=150, after=first.next)
        listed = [job.id for job in (*first.jobs, *rest.jobs)]
        assert listed == [f"job_{at:03}" for at in range(229, -1, -1)]
        assert rest.next is None

    async def test_a_job_that_comes_while_pages_are_read_moves_nothing(self, jobs: Jobs) -> None:
        for at in range(4):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at))
        first = await jobs.listing.page("acme", limit=2)
        await jobs.add(a_job("job_9", created_at=NOW + 9))
        second = await jobs.listing.page("acme", limit=2, after=first.next)
        assert [job.id for job in second.jobs] == ["job_1", "job_0"]

    async def test_a_page_holds_only_what_matches(self, jobs: Jobs) -> None:
        for at in range(6):
            job = a_job(f"job_{at}", created_at=NOW + at, model="a" if at % 2 else "b")
            await jobs.add(job)
        page = await jobs.listing.page("acme", limit=2, matching=lambda job: job.model == "a")
        assert [job.id for job in page.jobs] == ["job_5", "job_3"]
        rest = await jobs.listing.page(
            "acme", limit=2, after=page.next, matching=lambda job: job.model == "a"
        )
        assert [job.id for job in rest.jobs] == ["job_1"]
        assert rest.next is None

    async def test_a_page_can_be_cut_at_both_ends(self, jobs: Jobs) -> None:
        for at in range(6):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at))
        page = await jobs.listing.page(
            "acme", limit=10, created_after=NOW + 1, created_before=NOW + 3
        )
        assert [job.id for job in page.jobs] == ["job_3", "job_2", "job_1"]

    async def test_nobody_sees_the_jobs_of_another_tenant(self, jobs: Jobs) -> None:
        await jobs.add(a_job("job_1", created_at=NOW))
        for at in range(3):
            await jobs.add(a_job(f"job_9{at}", tenant="globex", created_at=NOW + at))
        page = await jobs.listing.page("globex", limit=2)
        mine = await jobs.listing.page("acme", limit=10, after=page.next)
        assert [job.id for job in mine.jobs] == ["job_1"]

    @pytest.mark.parametrize(
        "cursor", ["", "x", "!!!!", "AAAA", "Og", "MTIz OmE", "é", "MTI6YQ==MTI6YQ", "_" * 5000]
    )
    async def test_a_cursor_that_no_list_gave_is_refused(self, jobs: Jobs, cursor: str) -> None:
        await jobs.add(a_job())
        with pytest.raises(Invalid) as refusal:
            await jobs.listing.page("acme", limit=1, after=cursor)
        assert refusal.value.code == "invalid_cursor"

    async def test_a_job_whose_record_is_gone_is_left_out(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        for at in range(3):
            await jobs.add(a_job(f"job_{at}", created_at=NOW + at))
        await commands.execute("DEL", redis_keys.job("job_1"))
        page = await jobs.listing.page("acme", limit=2)
        assert [job.id for job in page.jobs] == ["job_2", "job_0"]

    async def test_a_record_that_cannot_be_read_says_nothing_of_what_it_holds(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        await commands.execute("HSET", redis_keys.job("job_1"), "document", '{"prompt": "secret"}')
        with pytest.raises(Error) as refusal:
            await jobs.find("job_1")
        assert "secret" not in str(refusal.value)
        assert refusal.value.__cause__ is None

    # -- the place in the queue --------------------------------------------------------------------

    async def test_a_waiting_job_knows_how_many_stand_before_it(self, jobs: Jobs) -> None:
        waiting = [a_job(f"job_{at}") for at in range(3)]
        for job in waiting:
            await jobs.add(job)
        assert [await jobs.position(job) for job in waiting] == [0, 1, 2]

    async def test_a_job_that_a_worker_has_taken_has_no_place(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        first, second = a_job("job_1"), a_job("job_2")
        await jobs.add(first)
        await jobs.add(second)
        await queue(commands).claim(1)
        assert await jobs.position(first) is None
        assert await jobs.position(second) == 0

    async def test_only_a_queued_job_has_a_place(self, jobs: Jobs) -> None:
        job = a_job()
        await jobs.add(job)
        assert await jobs.position(replace(job, status=JobStatus.RUNNING)) is None
        assert await jobs.position(a_job("job_0")) is None

    # -- previews ----------------------------------------------------------------------------------

    async def test_a_preview_is_kept_for_a_minute(self, jobs: Jobs, commands: Commands) -> None:
        await jobs.tell_partial(a_job(), 0, 1, b"half a picture")
        key = redis_keys.partial("job_1", 0, 1)
        assert await jobs.partial(key) == b"half a picture"
        assert 0 < await commands.execute("PTTL", key) <= 60_000

    async def test_a_preview_of_more_than_two_mebibytes_is_not_passed_on(self, jobs: Jobs) -> None:
        await jobs.tell_partial(a_job(), 0, 1, bytes(2 * 1024 * 1024 + 1))
        assert await jobs.partial(redis_keys.partial("job_1", 0, 1)) is None
