"""The reaper: looks after jobs that nothing else will bring forward.

Every open job has an appointment, and every ended one a last one; open batches have theirs, too. It
expires what waited too long to start, ends what is past its deadline, queues anew what lost its
queue entry, and forgets what is past its retention, objects first. Each step is safe to take from
any number of workers at once.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from storage.batch import PREFIX
from storage.batches import LOOK_EVERY, Batches
from storage.errors import Error, Unavailable
from storage.files import Files
from storage.job import Job, JobId, Newer
from storage.jobs import CHECK_EVERY, Jobs, next_check
from storage.objects import Objects
from worker.results import folder_of


_AT_ONCE = 100
_MOST_LOOKS = 50
_AFTER_A_FAULT = 60.0
_SWEPT_AT_ONCE = 200
_MOST_DOUBTED = 100_000
_MOST_KNOWN = 10_000

log = structlog.get_logger("worker.reaper")


class Reaper:
    """Keeps the appointments. `clock` gives Unix seconds; both lives are in seconds."""

    def __init__(
        self,
        jobs: Jobs,
        objects: Objects,
        *,
        clock: Callable[[], float],
        life: float,
        orphan_life: float,
        files: Files | None = None,
        batches: Batches | None = None,
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._batches = batches
        self._objects = objects
        self._clock = clock
        self._life = life
        self._orphan_life = orphan_life

    async def run(self, every: float, sweep_every: float) -> None:
        """Look again and again until cancelled; a fault ends one look, never the reaper."""
        await asyncio.gather(
            self._again_and_again(self._look_at_all, every),
            self._again_and_again(partial(self._sweep_in_turn, sweep_every), sweep_every),
        )

    async def look(self) -> int:
        """Keep the appointments that are due, at most a hundred, and return how many there were."""
        ids = await self._jobs.due(self._clock(), _AT_ONCE)
        await asyncio.gather(*(self._look_and_go_on(job_id) for job_id in ids))
        return len(ids)

    async def sweep(self) -> int:
        """Remove old objects of no job or file on record, and return how many there were.

        When none of the old objects has an owner, this is more likely a Redis that is empty, or
        another cell's, than a bucket full of orphans: then nothing is removed. All objects are
        looked at, however many; what is remembered of them on the way is bounded.
        """
        horizon = self._clock() - self._orphan_life
        orphans: list[str] = []
        known: OrderedDict[str, bool] = OrderedDict()
        is_ours, swept = False, 0
        async for key, modified in self._objects.keys("t/"):
            if modified >= horizon:
                continue
            if await self._has_owner(key, known):
                is_ours = True
            else:
                orphans.append(key)
            if is_ours and len(orphans) >= _SWEPT_AT_ONCE:
                swept += await self._removed(orphans)
            elif len(orphans) >= _MOST_DOUBTED:
                break
        if orphans and not is_ours:
            log.warning("sweep_refused", objects=len(orphans), reason="no object has an owner")
            return 0
        swept += await self._removed(orphans)
        if swept:
            log.info("orphans_swept", objects=swept)
        return swept

    async def _removed(self, orphans: list[str]) -> int:
        """Remove objects, take them off the list and return how many there were."""
        count = len(orphans)
        for start in range(0, count, _SWEPT_AT_ONCE):
            await self._objects.delete(orphans[start : start + _SWEPT_AT_ONCE])
        orphans.clear()
        return count

    async def _again_and_again(self, act: Callable[[], Awaitable[None]], every: float) -> None:
        """Act every so many seconds, the first time after a part of them."""
        await asyncio.sleep(every * random.random())  # noqa: S311 — jitter
        while True:
            try:
                await act()
            except Unavailable as error:
                log.warning("reaper_waits", reason=error.message)
            except Exception as fault:
                log.exception("reaper_fault", fault=type(fault).__name__)
            await asyncio.sleep(every * random.uniform(0.7, 1.3))  # noqa: S311 — jitter

    async def _look_at_all(self) -> None:
        for _ in range(_MOST_LOOKS):
            if await self.look() < _AT_ONCE:
                return

    async def _sweep_in_turn(self, every: float) -> None:
        """Sweep if no other worker has of late: to list a full bucket takes long."""
        if await self._jobs.may_sweep(every / 2):
            await self.sweep()

    async def _look_and_go_on(self, job_id: JobId) -> None:
        """Look at one job; a fault in it must not hide the jobs behind it."""
        try:
            await self._look_at(job_id)
        except Unavailable:
            raise
        except Newer:  # one of its own version looks after it
            await self._jobs.look_again(job_id, self._clock() + CHECK_EVERY)
        except Exception as fault:
            log.exception("look_fault", job=job_id, fault=type(fault).__name__)
            await self._jobs.look_again(job_id, self._clock() + _AFTER_A_FAULT)

    async def _look_at(self, job_id: JobId) -> None:
        if job_id.startswith(PREFIX):
            await self._look_at_batch(job_id)
            return
        job = await self._jobs.find(job_id)
        now = self._clock()
        if job is None:
            await self._jobs.look_again(job_id, None)
        elif job.is_ended:
            await self._retire(job, now)
        elif (ended := job.overdue(now)) is not None:
            written = await self._jobs.swap(job, ended)
            if written is not None:  # else its worker was faster, and goes on
                await self._jobs.tell_cancelled(written)
        else:
            if not await self._jobs.is_queued(job):
                await self._bring_back(job, now)
            await self._jobs.look_again(job_id, next_check(job, now))

    async def _look_at_batch(self, batch_id: str) -> None:
        batch = await self._batches.find(batch_id) if self._batches is not None else None
        if self._batches is None or batch is None or batch.is_ended:
            await self._jobs.look_again(JobId(batch_id), None)
            return
        now = self._clock()
        if not await self._batches.is_queued(batch):
            log.warning("batch_requeued", batch=batch.id, tenant=batch.tenant)
            await self._batches.stir(batch, now)
        await self._jobs.look_again(JobId(batch_id), now + LOOK_EVERY)

    async def _bring_back(self, job: Job, now: float) -> None:
        if await self._jobs.stands(job):
            await self._jobs.seat(job.tenant)  # a limit that was raised may have left seats free
            return
        log.warning("job_requeued", job=job.id, tenant=job.tenant)
        await self._jobs.requeue(job, now)

    async def _retire(self, job: Job, now: float) -> None:
        over = (job.finished_at or now) + self._life
        if now < over:
            await self._jobs.let_go(job)
            await self._jobs.look_again(job.id, over)
            return
        try:
            keys = [key async for key, _ in self._objects.keys(folder_of(job))]
            await self._objects.delete(keys)
        except Error as error:  # it is tried again; the record must not go before its objects
            log.warning("retire_failed", job=job.id, reason=error.message)
            await self._jobs.look_again(job.id, now + _AFTER_A_FAULT)
            return
        await self._jobs.remove(job)

    async def _has_owner(self, key: str, known: OrderedDict[str, bool]) -> bool:
        owner = key.split("/")[2] if key.count("/") >= 3 else ""
        if owner not in known:
            known[owner] = await self._is_on_record(owner)
            if len(known) > _MOST_KNOWN:
                known.popitem(last=False)
        return known[owner]

    async def _is_on_record(self, owner: str) -> bool:
        if self._files is not None and owner.startswith("file-"):
            return await self._files.find(owner) is not None
        if self._batches is not None and owner.startswith(PREFIX):
            return await self._batches.find(owner) is not None
        return await self._jobs.find(owner) is not None
