"""What a worker with leases must show on every Redis; a subclass gives the fixture `commands`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from storage import queue as queues
from storage import redis_keys
from storage.errors import Unavailable
from storage.gate import Gate, Waiting
from storage.jobs import Jobs, flows_of
from storage.queue import RUN_JOB, Queue, holds, put
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.traffic import Traffic, Wish
from tests.samples import NOW, a_job
from worker.lease import LeaseWorker, Pace, Task
from worker.outcome import Again, Lost, Nothing, Outcome, Settled


IMAGES = redis_keys.IMAGE_QUEUE
LEASE = 0.4
PACE = Pace(heartbeat=0.1, claim_batch=8, idle_wait=0.2, grace=0.0, patience=5.0)
SOON = 5.0

Opened = Callable[..., Awaitable[LeaseWorker]]


class Log:
    """A task that notes who began and who ended, and waits where it is told to."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.stopped: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()
        self.outcomes: list[Outcome] = []
        self._outcome = outcome or Nothing()

    async def run(self, ctx: Mapping[str, Any], task_id: str) -> Outcome:
        self.began.append(task_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.stopped.append(task_id)
            raise
        finally:
            self.at_once -= 1
        self.ended.append(task_id)
        return self.outcomes.pop(0) if self.outcomes else self._outcome


async def until(true: Callable[[], object], within: float = SOON) -> None:
    """Return when it is true; fails after `within` seconds."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


class LeaseSuite:
    @pytest.fixture
    def jobs(self, commands: Commands) -> Jobs:
        return Jobs(commands, RetentionSettings())

    @pytest.fixture
    async def open_worker(self, commands: Commands) -> AsyncIterator[Opened]:
        """Start a worker of the image queue that runs jobs by the task that is given."""
        async with AsyncExitStack() as stack:

            async def opened(
                task: Log | Task,
                *,
                name: str = "one",
                slots: int = 10,
                reserve: int = 0,
                pace: Pace = PACE,
                lease: float = LEASE,
            ) -> LeaseWorker:
                run = task.run if isinstance(task, Log) else task
                options: dict[str, Any] = {
                    "name": name,
                    "lease": lease,
                    "slots": slots,
                    "reserve": reserve,
                    "pace": pace,
                }
                context = self.working(commands, run, **options)
                return await stack.enter_async_context(context)

            yield opened

    @asynccontextmanager
    async def working(
        self, commands: Commands, task: Task, *, name: str, lease: float, **options: Any
    ) -> AsyncIterator[LeaseWorker]:
        queue = Queue(commands, IMAGES, token=name, lease=lease)
        worker = LeaseWorker(
            {queues.RUN_JOB: task},
            queue,
            cast("Any", commands.redis),
            name=name,
            **options,
        )
        running = asyncio.create_task(worker.async_run())
        try:
            yield worker
        finally:
            await worker.drain(0)
            await asyncio.gather(running, return_exceptions=True)

    # -- running -----------------------------------------------------------------------------------

    async def test_the_first_of_a_line_before_a_gate_is_run_here(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        log, gate = Log(), Gate("one", 1)
        assert await Traffic(commands, lease=10).ask([Wish(gate)], "first", "run") is not None
        other = Queue(commands, IMAGES, token="other", lease=10)
        for name in ("b", "c"):
            await jobs.add(a_job(name))
        for task_id, _ in (await other.claim(10)).tasks:
            assert await other.put_back(task_id, 60, Waiting((gate,), flows_of(a_job(task_id))))
        worker = await open_worker(log)
        await until(lambda: worker.main_task is not None)
        await asyncio.sleep(0.05)
        assert await worker.take_ahead(gate) == "b"
        assert await worker.take_ahead(gate) is None, "the line is short by now"
        await until(lambda: log.ended == ["b"])

    async def test_a_job_is_run_and_leaves_the_queue(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        task = Log()
        await open_worker(task)
        job = a_job()
        await jobs.add(job)
        await until(lambda: task.ended)
        while await jobs.is_queued(job):
            await asyncio.sleep(0.005)
        assert task.began == ["job_1"]
        assert await commands.execute("EXISTS", redis_keys.in_progress("job_1")) == 0

    async def test_an_idle_worker_picks_a_job_up_at_once(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        await open_worker(task, pace=Pace(heartbeat=1, idle_wait=10, grace=0))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await jobs.add(a_job())
        await until(lambda: task.began)
        assert time.monotonic() - began < 2

    async def test_what_was_queued_before_the_worker_came_is_run(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        for at in range(20):
            await jobs.add(a_job(f"job_{at:02}"))
        task = Log()
        await open_worker(task)
        await until(lambda: len(task.ended) == 20)
        assert sorted(task.ended) == [f"job_{at:02}" for at in range(20)]

    async def test_no_more_run_at_once_than_there_are_slots(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.open.clear()
        for at in range(9):
            await jobs.add(a_job(f"job_{at}"))
        await open_worker(task, slots=3)
        await until(lambda: task.at_once == 3)
        await asyncio.sleep(0.05)
        assert len(task.began) == 3
        task.open.set()
        await until(lambda: len(task.ended) == 9)
        assert task.most_at_once == 3

    async def test_two_workers_share_and_none_runs_twice(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        await open_worker(task, name="one", slots=2)
        await open_worker(task, name="two", slots=2)
        for at in range(30):
            await jobs.add(a_job(f"job_{at:02}"))
        await until(lambda: len(task.ended) == 30)
        assert sorted(task.began) == [f"job_{at:02}" for at in range(30)]

    async def test_a_long_task_keeps_its_lease(self, jobs: Jobs, open_worker: Opened) -> None:
        task, other = Log(), Log()
        task.open.clear()
        await jobs.add(a_job())
        await open_worker(task, name="one")
        await until(lambda: task.began)
        await open_worker(other, name="two")
        await asyncio.sleep(2.5 * LEASE)
        assert (other.began, task.stopped) == ([], [])
        task.open.set()
        await until(lambda: task.ended)

    # -- how a task can end ------------------------------------------------------------------------

    async def test_a_task_that_wants_to_go_on_later_does(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.outcomes = [Again(0.15)]
        await jobs.add(a_job())
        began = time.monotonic()
        await open_worker(task)
        await until(lambda: len(task.ended) == 2)
        assert time.monotonic() - began >= 0.15

    async def test_a_task_that_wants_to_go_on_at_once_does(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.outcomes = [Again(0.0), Again(0.0), Again(0.0)]
        await jobs.add(a_job())
        await open_worker(task)
        await until(lambda: len(task.ended) == 4)

    @pytest.mark.parametrize(
        "outcome", [Settled(), Nothing(), Lost()], ids=["settled", "nothing", "lost"]
    )
    async def test_a_task_that_is_queued_again_just_before_it_ends_here_is_run_again(
        self, jobs: Jobs, commands: Commands, open_worker: Opened, outcome: Outcome
    ) -> None:
        began: list[str] = []

        async def left_and_called(ctx: Mapping[str, Any], task_id: str) -> Outcome:
            began.append(task_id)
            if len(began) > 1:
                return Nothing()
            await commands.execute("ZREM", IMAGES, task_id)
            await commands.execute("DEL", redis_keys.in_progress(task_id))
            await commands.execute("ZADD", IMAGES, 1, task_id)
            await commands.execute("LPUSH", redis_keys.wake(IMAGES), 1)
            async with asyncio.timeout(SOON):
                while not await commands.execute("EXISTS", redis_keys.in_progress(task_id)):
                    await asyncio.sleep(0.005)
            return outcome

        await open_worker(left_and_called, lease=60.0)
        await jobs.add(a_job("job_1"))
        await until(lambda: len(began) == 2)
        async with asyncio.timeout(SOON):
            while await holds(commands, IMAGES, "job_1"):
                await asyncio.sleep(0.005)

    @pytest.mark.parametrize("outcome", [Settled(), Lost()], ids=["settled", "lost"])
    async def test_the_queue_entry_of_a_task_that_is_not_ours_any_more_is_not_touched(
        self, jobs: Jobs, open_worker: Opened, commands: Commands, outcome: Outcome
    ) -> None:
        task = Log(outcome)
        await jobs.add(a_job())
        worker = await open_worker(task)
        await until(lambda: task.ended and not worker.tasks)
        assert await holds(commands, IMAGES, "job_1")

    async def test_a_fault_costs_neither_the_worker_nor_the_task(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        async def faulty(ctx: Mapping[str, Any], task_id: str) -> Outcome:
            if task_id == "job_1":
                raise ZeroDivisionError
            return await well.run(ctx, task_id)

        well = Log()
        await jobs.add(a_job("job_1"))
        worker = await open_worker(faulty)
        await jobs.add(a_job("job_2"))
        await until(lambda: well.ended == ["job_2"] and not worker.tasks)
        claim = await Queue(commands, IMAGES, token="other", lease=1).claim(5)
        assert claim.tasks == ()
        assert claim.next_due is not None
        assert 5 < claim.next_due <= 10

    async def test_a_task_of_an_unknown_kind_is_left_for_others(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        await queues.put(commands, IMAGES, "paint_in_oil", "task_1", 0.0)
        task = Log()
        worker = await open_worker(task)
        await jobs.add(a_job())
        await until(lambda: task.ended == ["job_1"] and not worker.tasks)
        claim = await Queue(commands, IMAGES, token="other", lease=1).claim(5)
        assert claim.tasks == ()
        assert claim.next_due is not None
        assert 2 < claim.next_due <= 5

    async def test_a_payload_that_cannot_be_read_costs_the_worker_nothing(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        await put(commands, IMAGES, RUN_JOB, "task_1", time.time())
        await commands.execute("SET", redis_keys.payload("task_1"), b"\x80\x05.")
        task = Log()
        await open_worker(task)
        await jobs.add(a_job("job_2"))
        await until(lambda: task.ended == ["job_2"])
        assert await holds(commands, IMAGES, "task_1")

    # -- being stopped -----------------------------------------------------------------------------

    async def test_a_task_that_nobody_wants_is_stopped(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.open.clear()
        job = a_job()
        await jobs.add(job)
        worker = await open_worker(task)
        await until(lambda: task.began)
        await jobs.swap(job, job.cancelled(NOW))
        worker.cancel_task("job_1")
        await until(lambda: task.stopped and not worker.tasks)
        assert not await jobs.is_queued(job)

    async def test_stopping_a_task_that_does_not_run_here_does_nothing(
        self, open_worker: Opened
    ) -> None:
        worker = await open_worker(Log())
        worker.cancel_task("job_1")
        assert worker.tasks == {}

    async def test_a_lost_lease_stops_the_task(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        task = Log()
        task.open.clear()
        await jobs.add(a_job())
        worker = await open_worker(task)
        await until(lambda: task.began)
        seconds, _ = await commands.execute("TIME")
        await commands.execute("SET", redis_keys.in_progress("job_1"), "somebody else")
        await commands.execute("ZADD", IMAGES, (seconds + 60) * 1000, "job_1")
        await until(lambda: task.stopped and not worker.tasks)
        owner = await commands.execute("GET", redis_keys.in_progress("job_1"))
        assert owner == b"somebody else"

    async def test_a_drain_lets_what_runs_end(self, jobs: Jobs, open_worker: Opened) -> None:
        task = Log()
        task.open.clear()
        await jobs.add(a_job())
        worker = await open_worker(task)
        await until(lambda: task.began)
        draining = asyncio.create_task(worker.drain(SOON))
        await asyncio.sleep(0.05)
        await jobs.add(a_job("job_2"))
        await asyncio.sleep(0.05)
        task.open.set()
        await draining
        assert (task.ended, task.stopped, task.began) == (["job_1"], [], ["job_1"])

    async def test_a_drain_gives_back_at_once_what_does_not_end_in_time(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task, other = Log(), Log()
        task.open.clear()
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"))
        worker = await open_worker(task, name="one")
        await until(lambda: len(task.began) == 3)
        await open_worker(other, name="two", pace=Pace(heartbeat=1, idle_wait=10, grace=0))
        began = time.monotonic()
        await worker.drain(0.05)
        assert sorted(task.stopped) == ["job_0", "job_1", "job_2"]
        await until(lambda: len(other.ended) == 3)
        assert time.monotonic() - began < 3

    # -- trouble -----------------------------------------------------------------------------------

    async def test_the_tasks_of_a_dead_worker_are_taken_over(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        await jobs.add(a_job())
        await Queue(commands, IMAGES, token="dead", lease=LEASE).claim(1)
        task = Log()
        await open_worker(task)
        await asyncio.sleep(LEASE / 4)
        assert task.began == []
        await until(lambda: task.ended == ["job_1"])

    async def test_an_outage_is_sat_out(self, jobs: Jobs, commands: Commands) -> None:
        class Away(Queue):
            away = False

            async def claim(self, most: int, *, timely: bool = False) -> queues.Claim:
                if self.away:
                    raise Unavailable("The job store does not answer.")
                return await super().claim(most, timely=timely)

        task = Log()
        queue = Away(commands, IMAGES, token="one", lease=LEASE)
        worker = LeaseWorker(
            {queues.RUN_JOB: task.run},
            queue,
            cast("Any", commands.redis),
            slots=2,
            name="one",
            pace=PACE,
        )
        queue.away = True
        running = asyncio.create_task(worker.async_run())
        await jobs.add(a_job())
        await asyncio.sleep(0.1)
        assert task.began == []
        assert not running.done()
        queue.away = False
        await until(lambda: task.ended)
        await worker.drain(0)
        await asyncio.gather(running, return_exceptions=True)

    async def test_nothing_is_claimed_in_the_grace_after_a_start(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        await jobs.add(a_job())
        task = Log()
        began = time.monotonic()
        await open_worker(task, pace=Pace(heartbeat=1, idle_wait=0.2, grace=0.3))
        await until(lambda: task.began)
        assert time.monotonic() - began >= 0.3

    async def test_a_worker_says_that_it_is_well(
        self, open_worker: Opened, commands: Commands
    ) -> None:
        await open_worker(Log(), name="one")
        key = f"{IMAGES}:health-check:one"
        while not await commands.execute("EXISTS", key):
            await asyncio.sleep(0.01)
        assert 0 < await commands.execute("PTTL", key) <= 11_000

    # -- the reserve -------------------------------------------------------------------------------

    async def test_a_newcomer_starts_though_another_has_taken_all_slots(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.open.clear()
        pace = Pace(heartbeat=0.1, idle_wait=30, grace=0)
        await open_worker(task, slots=3, reserve=2, pace=pace)
        for at in range(10):
            await jobs.add(a_job(f"a_{at}", tenant="acme"))
        await until(lambda: len(task.began) >= 3)
        await asyncio.sleep(0.1)
        assert len(task.began) == 3
        began = time.monotonic()
        await jobs.add(a_job("b_0", tenant="globex"))
        await until(lambda: "b_0" in task.began)
        assert time.monotonic() - began < 2
        assert task.most_at_once == 4
        task.open.set()

    async def test_the_reserve_is_not_for_who_crowds_the_queue(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.open.clear()
        await open_worker(task, slots=2, reserve=5)
        for at in range(10):
            await jobs.add(a_job(f"a_{at}", tenant="acme"))
        for at in range(5):
            await jobs.add(a_job(f"b_{at}", tenant="globex"))
        await until(lambda: "b_0" in task.began)
        await asyncio.sleep(0.6)  # several looks without a wake-up
        assert sorted(task.began) == ["a_0", "a_1", "b_0"]
        task.open.set()
        await until(lambda: len(task.ended) == 15)

    async def test_no_more_than_the_reserve_runs_beyond_the_slots(
        self, jobs: Jobs, open_worker: Opened
    ) -> None:
        task = Log()
        task.open.clear()
        await open_worker(task, slots=2, reserve=3)
        for at in range(10):
            await jobs.add(a_job(f"a_{at}", tenant="acme"))
        await until(lambda: len(task.began) == 2)
        for at in range(8):
            await jobs.add(a_job(f"t_{at}", tenant=f"t{at}"))
        await until(lambda: len(task.began) == 5)
        await asyncio.sleep(0.6)
        assert len(task.began) == 5
        task.open.set()
        await until(lambda: len(task.ended) == 18)
        assert task.most_at_once == 5

    async def test_a_newcomers_lost_wake_up_is_made_up_for(
        self, jobs: Jobs, open_worker: Opened, commands: Commands
    ) -> None:
        task = Log()
        task.open.clear()
        await open_worker(task, slots=1, reserve=1)
        for at in range(3):
            await jobs.add(a_job(f"a_{at}", tenant="acme"))
        await until(lambda: len(task.began) == 1)
        await jobs.add(a_job("b_0", tenant="globex"))
        await commands.execute("DEL", redis_keys.timely(IMAGES))
        await until(lambda: "b_0" in task.began)
        task.open.set()
