"""arq's worker with leases, wake-ups and one-step claims, which survives the outages of Redis.

arq keeps a running task at the head of its queue for as long as it runs, so a few hundred slow
tasks hide everything behind them; it finds out that a worker died only when the longest task would
have timed out; it polls; and it ends when Redis does. For calls of minutes, hundreds at a time,
that will not do. Here a running task's score is the end of a lease that its worker renews, idle
workers sleep until they are woken, and an outage is sat out. The layout in Redis, the functions,
the context, the health key and the main loop remain arq's.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
import structlog
from arq.connections import ArqRedis
from arq.worker import Function, Worker, func
from redis.exceptions import RedisError

from storage.errors import Unavailable
from storage.gate import Gate, Waiting
from storage.queue import Claim, Queue
from storage.redis_client import stopped
from worker.outage import outlast
from worker.outcome import Again, Lost, Nothing, Outcome, Settled


Task = Callable[[Mapping[str, Any], str], Awaitable[Outcome]]

_RENEW_TOGETHER = 200  # more would hold Redis up for longer than a millisecond
_UNKNOWN_KIND_WAIT = 5.0
_FAULT_WAIT = 10.0
_LOST_GRACE = 1.0

log = structlog.get_logger("worker.lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a worker keeps time, in seconds, and how many tasks it claims in one step.

    `heartbeat` is how often leases are renewed. `idle_wait` bounds how late a wake-up that was lost
    is made up for. `grace` is how long nothing is claimed at the start and after an outage, so that
    owners can renew their leases first. `patience` is how long a task that is done waits to be
    recorded.
    """

    heartbeat: float = 3.0
    claim_batch: int = 32
    idle_wait: float = 3.0
    grace: float = 1.5
    patience: float = 600.0


class LeaseWorker(Worker):
    """One queue's worker inside this process; at most `slots` tasks run at once.

    Beyond them, up to `reserve` tasks run of those who do not crowd the queue: calls take minutes,
    and whoever fills all slots with them must not keep everybody else from starting.

    A task whose worker dies is taken over after at most the lease of the queue.
    """

    def __init__(
        self,
        functions: Mapping[str, Task],
        queue: Queue,
        redis: ArqRedis,
        *,
        slots: int,
        reserve: int = 0,
        name: str,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(
            [func(cast("Any", task), name=kind) for kind, task in functions.items()],
            queue_name=queue.name,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=slots,
            keep_result=0,
            poll_delay=0,
            health_check_interval=10,
            health_check_key=f"{queue.name}:health-check:{name}",
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            log_results=False,
        )
        self._queue = queue
        self._pace = pace or Pace()
        self._leases: set[str] = set()
        self._called: dict[str, str | None] = {}
        self._renewing = asyncio.Lock()
        self._renewer: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._reserve = reserve
        self._timely = False
        self._listener: asyncio.Task[None] | None = None
        self._outage = True  # a worker that starts cannot know: Redis may just be back

    # -- for the process that owns it --------------------------------------------------------------

    def cancel_task(self, task_id: str) -> None:
        """Stop a task that nobody wants any more, if it runs here."""
        if (task := self.job_tasks.get(task_id)) is not None:
            task.cancel()

    async def take_ahead(self, gate: Gate) -> str | None:
        """Begin the first of the jobs that wait before a gate, if a slot is free for it."""
        if self._outage or not self.allow_pick_jobs or self.job_counter >= self.max_jobs:
            return None
        self.job_counter += 1  # the slot is taken while Redis is asked
        try:
            claimed = await self._queue.claim_ahead(gate)
        finally:
            self.job_counter -= 1
            if self.job_counter == self.max_jobs - 1:
                self._stir()
        if claimed is None:
            return None
        task_id, kind = claimed
        if task_id in self.tasks:  # given back, and not quite at its end here
            await self._queue.put_back(task_id, _LOST_GRACE)
            return None
        self._start(task_id, kind)
        return task_id

    async def drain(self, seconds: float) -> None:
        """Claim no more, let what runs end within `seconds`, and give the rest back at once."""
        self.allow_pick_jobs = False
        self._stir()
        if self.tasks:
            log.info("draining", queue=self.queue_name, tasks=len(self.tasks), seconds=seconds)
            await asyncio.wait(tuple(self.tasks.values()), timeout=seconds)
        for task in tuple(self.job_tasks.values()):
            task.cancel()
        if self.tasks:
            await asyncio.wait(tuple(self.tasks.values()), timeout=10)
        loops = (self.main_task, self._renewer, self._listener)
        await stopped(*(loop for loop in loops if loop is not None))
        with contextlib.suppress(Unavailable):  # the wake-up this worker may have taken with it
            await self._queue.nudge()

    # -- the main loop: claim, then sleep until there is a reason to go on -------------------------

    async def main(self) -> None:
        """Run until cancelled. arq's own would end when Redis is away at the start."""
        while True:
            await self._poll_iteration()

    async def record_health(self) -> None:
        """Say that the worker lives, for arq's tools; no work waits until that can be written."""
        with contextlib.suppress(RedisError, OSError):
            await super().record_health()

    async def _poll_iteration(self) -> None:
        try:
            if self._outage:
                await self._return_from_outage()
            claim = await self._claim()
            await self.heart_beat()
            await self._idle(claim)
        except (Unavailable, RedisError, OSError) as error:
            self._outage = True
            log.warning("redis_away", tasks=len(self.tasks), reason=type(error).__name__)
            await asyncio.sleep(0.5)

    async def _return_from_outage(self) -> None:
        await self._renew_once()
        await asyncio.sleep(self._pace.grace)
        self._outage = False

    async def _claim(self) -> Claim | None:
        """Claim what fits; None when the batch was full and more may wait."""
        free = self.max_jobs - self.job_counter
        timely = free <= 0 and self._timely
        self._timely = False
        if timely:
            free += self._reserve
        if free <= 0 or not self.allow_pick_jobs:
            return Claim((), None)
        want = min(free, self._pace.claim_batch)
        claim = await self._queue.claim(want, timely=timely)
        for task_id, kind in claim.tasks:
            if task_id not in self.tasks:
                self._start(task_id, kind, claim.records.get(task_id))
            elif task_id not in self._leases:  # given back or lost, and not quite at its end here
                await self._queue.put_back(task_id, _LOST_GRACE)
            else:  # its lease had run out; or it has left the queue, been queued again and will end
                self._called[task_id] = kind
        return None if len(claim.tasks) == want else claim

    def _start(self, task_id: str, kind: str | None, record: bytes | None = None) -> None:
        self._leases.add(task_id)
        self.job_counter += 1
        task = self.tasks[task_id] = self.loop.create_task(self._run(task_id, kind, record))
        task.add_done_callback(lambda _: self._ended(task_id))
        if self._renewer is None or self._renewer.done():
            self._renewer = self.loop.create_task(self._renew())

    def _ended(self, task_id: str) -> None:
        del self.tasks[task_id]
        self._leases.discard(task_id)
        self.job_counter -= 1
        if task_id in self._called and self.allow_pick_jobs:
            self._start(task_id, self._called.pop(task_id))
        elif self.job_counter in {self.max_jobs - 1, self.max_jobs + self._reserve - 1}:
            self._stir()

    async def _idle(self, claim: Claim | None) -> None:
        if claim is None:
            return
        self._stirred.clear()
        if self.allow_pick_jobs and self.job_counter < self.max_jobs:
            longest = min(claim.next_due or self._pace.idle_wait, self._pace.idle_wait)
            await self._queue.wait(max(longest, 0.01))
        else:
            self._listen_for_timely()
            # Not wait_for: before 3.12 it forgets a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.idle_wait):
                    await self._stirred.wait()

    # -- the reserve: while all slots are taken, who does not crowd the queue is still heard -------

    def _listen_for_timely(self) -> None:
        full = self.max_jobs + self._reserve
        deaf = self._listener is None or self._listener.done()
        if deaf and self.allow_pick_jobs and self.job_counter < full:
            self._listener = self.loop.create_task(self._hear_timely())

    async def _hear_timely(self) -> None:
        with contextlib.suppress(Unavailable, RedisError, OSError):
            came = await self._queue.wait(self._pace.idle_wait, timely=True)
            if self.job_counter >= self.max_jobs:
                self._timely = True  # a wake-up may have been lost, so without one it looks, too
                self._stir()
            elif came:
                await self._queue.nudge()  # slots are free by now, and this was taken from them

    def _stir(self) -> None:
        self._stirred.set()

    # -- leases ------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        while self._leases:
            await asyncio.sleep(self._pace.heartbeat)
            with contextlib.suppress(Unavailable, RedisError, OSError):
                await self._renew_once()

    async def _renew_once(self) -> None:
        async with self._renewing:
            ids = tuple(self._leases)
            lost: set[str] = set()
            for start in range(0, len(ids), _RENEW_TOGETHER):
                lost |= await self._queue.renew(ids[start : start + _RENEW_TOGETHER])
        for task_id in lost & self._leases:
            self._leases.discard(task_id)
            # A task that has just settled has no entry any more and is about to end by itself.
            self.loop.call_later(_LOST_GRACE, self._cancel_lost, task_id, self.tasks.get(task_id))

    def _cancel_lost(self, task_id: str, running: "asyncio.Task[Any] | None") -> None:
        if running is not None and self.tasks.get(task_id) is running:
            log.warning("lease_lost", task=task_id)
            self.cancel_task(task_id)

    # -- one task ----------------------------------------------------------------------------------

    async def _run(self, task_id: str, kind: str | None, record: bytes | None) -> None:
        function = self.functions.get(kind or "")
        if function is None:  # a newer version's task: it is left for a newer worker
            log.warning("unknown_task", task=task_id, kind=kind)
            await self._put_back(task_id, _UNKNOWN_KIND_WAIT)
            return
        outcome = await self._outcome(cast("Function", function), task_id, record)
        match outcome:
            case Settled() | Lost():
                return
            case Nothing():
                if task_id not in self._called:
                    await self._quietly(lambda: self._queue.done(task_id))
            case Again(after=after, waiting=waiting):
                self._called.pop(task_id, None)
                await self._put_back(task_id, after, waiting)

    async def _outcome(self, function: Function, task_id: str, record: bytes | None) -> Outcome:
        running = self.loop.create_task(
            cast("Any", function.coroutine)({**self.ctx, "worker": self, "record": record}, task_id)
        )
        self.job_tasks[task_id] = running
        try:
            return cast("Outcome", await running)
        except asyncio.CancelledError:
            running.cancel()
            return Again(0.0) if task_id in self._leases else Lost()
        except Exception as error:  # whatever it is, the task must not be lost with it
            self.jobs_failed += 1
            log.exception(
                "task_fault", task=task_id, kind=function.name, fault=type(error).__name__
            )
            return Again(_FAULT_WAIT)
        finally:
            del self.job_tasks[task_id]

    async def _put_back(self, task_id: str, after: float, waiting: Waiting | None = None) -> None:
        self._leases.discard(task_id)
        await self._quietly(lambda: self._put_back_once(task_id, after, waiting))

    async def _put_back_once(self, task_id: str, after: float, waiting: Waiting | None) -> bool:
        async with self._renewing:  # a renewal under way must not lease again what is released here
            return await self._queue.put_back(task_id, after, waiting)

    async def _quietly(self, act: Callable[[], Awaitable[bool]]) -> None:
        """Tell Redis how a task went; if that fails, its lease runs out and tells enough."""
        with contextlib.suppress(Unavailable):
            await outlast(act, patience=self._pace.patience)
