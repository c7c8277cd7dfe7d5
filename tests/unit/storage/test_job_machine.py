"""A job's life in any order of events: workers that die, lose their lease or come late.

The records, the queue and the reaper are the real ones on a Redis inside the process; only the
upstreams are left out. `DARKROOM_TEST_EXAMPLES=2000` tries that many lives.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage import redis_keys
from storage.attempt import UNKNOWN, Attempt, AttemptStatus, Cost, CostSource
from storage.delivery import Delivery
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job, JobStatus, Superseded
from storage.jobs import Jobs
from storage.queue import Queue
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.doubles import Clock, FailingObjects, fake_redis
from tests.owed import owed
from tests.samples import NOW, a_job, a_picture, a_refusal
from worker.reaper import Reaper
from worker.run import Run


pytestmark = pytest.mark.timeout(1800)

T = TypeVar("T")

BROKEN = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")
PAID = Cost(0.05, CostSource.REPORTED)
HOOK = "https://example.com/hook"
MOST_JOBS = 4
MOST_HANDS = 4
PLACES = st.integers(0, 11)  # which of those at hand


@dataclass(eq=False)
class Hand:
    """One worker's run of one job; `is_lost` once it has learned that the job is not its own."""

    run: Run
    queue: Queue
    is_lost: bool = False


class JobMachine(RuleBasedStateMachine):
    """Whatever happens, a job ends once, keeps what it made, and forgets no attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock(NOW)
        self.hands: list[Hand] = []
        self.seen: dict[str, Job] = {}
        self.astray: set[str] = set()
        self.free: set[str] = set()  # may be claimed, as far as is known
        self.losses = 0
        self.count = 0

        async def build() -> None:
            self.commands = Commands(fake_redis())
            self.jobs = Jobs(self.commands, RetentionSettings(days=3650))
            self.objects = FailingObjects(Path(self.folder.name))
            self.reaper = Reaper(
                self.jobs, self.objects, clock=self.clock, life=1e9, orphan_life=1e9
            )

        self.do(build())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # -- the service -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.seen) < MOST_JOBS)
    @rule(
        n=st.integers(1, 3),
        hook=st.booleans(),
        start_by=st.none() | st.floats(1, 100),
        deadline=st.none() | st.floats(1, 300),
    )
    def add(self, n: int, hook: bool, start_by: float | None, deadline: float | None) -> None:
        self.count += 1
        now = self.clock()
        job = a_job(
            f"job_{self.count}",
            n=n,
            created_at=now,
            webhook_url=HOOK if hook else None,
            start_by=None if start_by is None else now + start_by,
            deadline=None if deadline is None else now + deadline,
        )
        self.do(self.jobs.add(job))
        self.seen[job.id] = job
        self.free.add(job.id)

    def add_again(self, job: Job) -> None:
        self.do(self.jobs.add(replace(a_job(job.id), images=job.images)))

    def cancel(self, job: Job) -> None:
        ended = job.cancelled(self.clock())
        written = self.do(self.jobs.swap(job, ended))
        assert written is not None
        assert self.do(self.jobs.swap(job, ended)) == written

    # -- the workers -------------------------------------------------------------------------------

    @precondition(lambda self: self.free and len(self.hands) < MOST_HANDS)
    @rule(most=st.integers(1, 2))
    def claim(self, most: int) -> None:
        self.count += 1
        queue = Queue(self.commands, redis_keys.IMAGE_QUEUE, token=f"w{self.count}", lease=3600)
        tasks = self.do(queue.claim(most)).tasks
        self.free = self.free - {task_id for task_id, _ in tasks} if tasks else set()
        for task_id, _ in tasks:
            if (hand := self.begun(queue, task_id)) is not None:
                self.hands.append(hand)

    def begun(self, queue: Queue, task_id: str) -> Hand | None:
        job = self.found(task_id)
        assert not job.is_ended, "an ended job is in no queue"
        self.count += 1
        hand = Hand(Run(self.jobs, job, f"f{self.count}", patience=0.0), queue)
        now = self.clock()
        if (ended := job.overdue(now)) is not None:
            self.write(hand, lambda _: ended)
            return None
        hand.run.say(lambda job: job.claimed(hand.run.fence, now))
        return hand

    def write(self, hand: Hand, change: Callable[[Job], Job] | None = None) -> None:
        """Let a hand write; it must be refused when the record is not as it knows it."""
        before = self.found(hand.run.job.id)
        is_current = before == hand.run._stored
        try:
            self.do(hand.run.write(change))
        except Superseded:
            assert not is_current
            hand.is_lost = True
        else:
            # Two who had not begun may give a job back in the same words: nothing is written twice.
            is_said_before = before == hand.run._stored and before.fence is None
            assert is_current or is_said_before

    @precondition(lambda self: self.at_work(is_open=False))
    @rule(at=PLACES)
    def attempt(self, at: int) -> None:
        hand = self.one_of(self.at_work(is_open=False), at)
        fence, now = hand.run.fence, self.clock()
        self.write(hand, lambda job: job.attempting("first", "sketch", fence, now))

    @precondition(lambda self: self.at_work(is_open=True))
    @rule(at=PLACES, index=st.integers(0, 2))
    def submit(self, at: int, index: int) -> None:
        hand = self.one_of(self.at_work(is_open=True), at)
        self.write(hand, lambda job: job.submitted(index, f"task-{index}", hand.run.fence))

    @precondition(lambda self: self.at_work(is_open=True))
    @rule(
        at=PLACES,
        made=st.sets(st.integers(0, 2), min_size=1),
        refused=st.sets(st.integers(0, 2), max_size=1),
        writes=st.booleans(),
    )
    def answer(self, at: int, made: set[int], refused: set[int], writes: bool) -> None:
        hand = self.one_of(self.at_work(is_open=True), at)
        number, fence = len(hand.run.job.attempts), hand.run.fence
        images = [a_picture(index, attempt=number) for index in made - refused]
        images += [a_refusal(index, attempt=number) for index in refused]
        hand.run.say(lambda job: job.progressed(fence, images, PAID))
        if writes:
            self.write(hand)

    @precondition(lambda self: self.at_work(is_open=True))
    @rule(
        at=PLACES,
        status=st.sampled_from(
            [AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.OUTCOME_UNKNOWN]
        ),
    )
    def close(self, at: int, status: AttemptStatus) -> None:
        hand = self.one_of(self.at_work(is_open=True), at)
        fence, now = hand.run.fence, self.clock()
        hand.run.say(lambda job: job.progressed(fence, (), UNKNOWN))
        hand.run.say(lambda job: job.attempted(fence, now, status, error=BROKEN))

    @precondition(lambda self: self.at_work())
    @rule(at=PLACES, how=st.sampled_from(["settle", "hand over", "hand over for later", "crash"]))
    def leave(self, at: int, how: str) -> None:
        hand = self.one_of(self.at_work(), at)
        if how == "settle":
            self.settle(hand)
        elif how == "crash":  # its lease has yet to run out
            self.hands.remove(hand)
            self.losses += 1
        else:
            self.hand_over(hand, 0.0 if how == "hand over" else 3600.0)

    def settle(self, hand: Hand) -> None:
        fence, now = hand.run.fence, self.clock()
        self.write(hand, lambda job: job.settled(fence, now, BROKEN))

    def hand_over(self, hand: Hand, after: float) -> None:
        fence, now = hand.run.fence, self.clock()
        self.hands.remove(hand)
        self.write(hand, lambda job: job.handed_over(fence, now))
        self.do(hand.queue.put_back(hand.run.job.id, after))
        self.free.add(hand.run.job.id)

    @precondition(lambda self: any(hand.is_lost for hand in self.hands))
    @rule(at=PLACES)
    def account_late(self, at: int) -> None:
        """Put what a call cost on the bill of a job that ended without it."""
        hand = self.one_of([hand for hand in self.hands if hand.is_lost], at)
        self.hands.remove(hand)
        job, number = self.found(hand.run.job.id), len(hand.run.job.attempts)
        if not job.is_ended or not 0 < number <= len(job.attempts):
            return
        if job.attempts[number - 1].fence == hand.run.fence:
            assert self.do(self.jobs.swap(job, job.accounted(number, PAID, None))) is not None

    # -- what befalls them all ---------------------------------------------------------------------

    @precondition(lambda self: self.open_jobs())
    @rule(at=PLACES, what=st.sampled_from(["cancel", "add again", "lose lease", "lose entry"]))
    def befall(self, at: int, what: str) -> None:
        job = self.one_of(self.open_jobs(), at)
        if what == "cancel":
            self.cancel(job)
        elif what == "add again":
            self.add_again(job)
        elif what == "lose lease":  # whether its worker lives or not
            self.losses += 1
            self.do(self.run_out(job.id))
            self.free.add(job.id)
        else:
            self.losses += 1
            self.do(self.lose_entry(job.id))
            self.astray.add(job.id)

    @precondition(lambda self: self.seen)
    @rule(seconds=st.floats(0.1, 100), reaps=st.booleans())
    def time_passes(self, seconds: float, reaps: bool) -> None:
        self.clock.advance(seconds)
        if reaps:
            self.reap()

    def reap(self) -> None:
        due = set(self.do(self.jobs.due(self.clock(), 1000)))
        self.do(self.reaper.look())
        self.free |= self.astray & due
        self.astray -= due

    # -- what holds at every moment ----------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        if not self.seen:
            return
        jobs, queued, told = self.do(self.looked_at())
        for before, job in zip(self.seen.values(), jobs, strict=True):
            assert job is not None
            self.check_step(before, job)
            self.check_whole(job)
            self.check_around(job, is_queued=job.id.encode() in queued, told=told)
        self.seen = {job.id: job for job in jobs if job is not None}

    async def looked_at(self) -> tuple[list[Job | None], list[bytes], list[Delivery]]:
        """Read all that is checked at one time: most of what a life costs is these reads."""
        jobs = asyncio.gather(*(self.jobs.find(job_id) for job_id in self.seen))
        queued: list[bytes] = await self.commands.execute("ZRANGE", redis_keys.IMAGE_QUEUE, 0, -1)
        return await jobs, queued, await owed(self.commands)

    def check_step(self, before: Job, job: Job) -> None:
        assert job.version >= before.version
        if before.is_ended:
            assert replace(job, attempts=before.attempts, version=before.version) == before
        for old, new in zip(before.images, job.images, strict=True):
            assert old == new or old.status is ImageStatus.PENDING
        assert len(job.attempts) >= len(before.attempts)
        for one, other in zip(before.attempts, job.attempts, strict=False):
            self.check_attempt(one, other)
        assert job.crashes >= before.crashes

    def check_attempt(self, before: Attempt, now: Attempt) -> None:
        assert (now.number, now.started_at) == (before.number, before.started_at)
        assert before.upstream_ids.items() <= now.upstream_ids.items()
        if before.status is not AttemptStatus.RUNNING:
            assert (now.status, now.finished_at) == (before.status, before.finished_at)
        elif now.status is AttemptStatus.RUNNING:
            assert now.costs[: len(before.costs)] == before.costs

    def check_whole(self, job: Job) -> None:
        assert [attempt.number for attempt in job.attempts] == list(range(1, len(job.attempts) + 1))
        running = [one for one in job.attempts if one.status is AttemptStatus.RUNNING]
        assert len(running) <= (0 if job.is_ended else 1)
        assert job.crashes <= self.losses
        made = sum(image.status is ImageStatus.SUCCEEDED for image in job.images)
        if job.is_ended:
            assert not job.missing
            assert job.fence is None
            assert job.finished_at is not None
        if job.status is JobStatus.SUCCEEDED:
            assert made == len(job.images)
        if job.status in {JobStatus.FAILED, JobStatus.EXPIRED}:
            assert made == 0
        if job.status in {JobStatus.QUEUED, JobStatus.EXPIRED}:
            assert job.attempts == ()
        if not job.is_ended and job.fence is None:
            assert (job.status is JobStatus.QUEUED) == (job.started_at is None)
            assert (job.status is JobStatus.QUEUED) == (job.attempts == ())
        for image in job.images:
            self.check_image(image)

    def check_image(self, image: Image) -> None:
        assert (image.key is not None) == (image.status is ImageStatus.SUCCEEDED)
        assert (image.error is not None) == (image.status is ImageStatus.FAILED)

    def check_around(self, job: Job, *, is_queued: bool, told: list[Delivery]) -> None:
        if job.is_ended:
            assert not is_queued
        else:
            assert is_queued or job.id in self.astray
        mine = [one for one in told if one.job_id == job.id]
        assert len(mine) == (1 if job.is_ended and job.webhook_url else 0)
        assert all(one.type == f"job.{job.status}" for one in mine)

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.bring_everything_to_its_end()
        finally:
            self.do(self.objects.close())
            self.do(self.commands.close())
            self.loop.close()
            self.folder.cleanup()

    def bring_everything_to_its_end(self) -> None:
        """One worker that does not fail ends every job, whatever state the others left."""
        self.clock.advance(1000)
        self.reap()
        for job_id in self.seen:
            self.losses += 1
            self.do(self.run_out(job_id))
        queue = Queue(self.commands, redis_keys.IMAGE_QUEUE, token="last", lease=3600)
        for task_id, _ in self.do(queue.claim(1000)).tasks:
            hand = self.begun(queue, task_id)
            if hand is not None:
                self.settle(hand)
        assert all(self.found(job_id).is_ended for job_id in self.seen)
        self.nothing_is_lost()

    # -- inside ------------------------------------------------------------------------------------

    def found(self, job_id: str) -> Job:
        job = self.do(self.jobs.find(job_id))
        assert job is not None
        return job

    def open_jobs(self) -> list[Job]:
        """Return the jobs that have not ended, as they are on record."""
        return [job for job in self.seen.values() if not job.is_ended]

    def at_work(self, *, is_open: bool | None = None) -> list[Hand]:
        """Return the workers that believe to have a job, with an open attempt or without."""
        return [
            hand
            for hand in self.hands
            if not hand.is_lost
            and not hand.run.job.is_ended
            and is_open in {None, hand.run.job.open_attempt is not None}
        ]

    def one_of(self, things: list[T], at: int) -> T:
        return things[at % len(things)]

    async def lose_entry(self, job_id: str) -> None:
        await self.commands.execute("ZREM", redis_keys.IMAGE_QUEUE, job_id)
        await self.commands.execute(
            "DEL", redis_keys.payload(job_id), redis_keys.in_progress(job_id)
        )

    async def run_out(self, job_id: str) -> None:
        await self.commands.execute("DEL", redis_keys.in_progress(job_id))
        await self.commands.execute(
            "ZADD", redis_keys.IMAGE_QUEUE, "XX", redis_keys.FIRST_MOMENT, job_id
        )


JobMachine.TestCase.settings = settings(stateful_step_count=30)
TestJobMachine = JobMachine.TestCase
