"""The reaper: looks after jobs that nothing else will bring forward.

Every open job has an appointment, and every ended one a last one. It expires what waited too long
to start, ends what is past its deadline, queues anew what lost its queue entry, and forgets what is
past its retention, objects first. Each step is safe to take from any number of workers at once.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from storage.batch import PREFIX
from storage.batches import Batches
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
_MOST_SWEPT = 100_000

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
        sweep_at = self._clock() + sweep_every * random.random()  # noqa: S311 — jitter
        while True:
            await asyncio.sleep(every * random.uniform(0.7, 1.3))  # noqa: S311 — jitter
            try:
                for _ in range(_MOST_LOOKS):
                    if await self.look() < _AT_ONCE:
                        break
                if self._clock() >= sweep_at:
                    sweep_at = self._clock() + sweep_every
                    await self.sweep()
            except Unavailable as error:
                log.warning("reaper_waits", reason=error.message)
            except Exception as fault:
                log.exception("reaper_fault", fault=type(fault).__name__)

    async def look(self) -> int:
        """Keep the appointments that are due, at most a hundred, and return how many there were."""
        ids = await self._jobs.due(self._clock(), _AT_ONCE)
        await asyncio.gather(*(self._look_and_go_on(job_id) for job_id in ids))
        return len(ids)

    async def sweep(self) -> int:
        """Remove old objects of no job or file on record, and return how many there were.

        When none of the old objects has an owner, this is more likely a Redis that is empty, or
        another cell's, than a bucket full of orphans: then nothing is removed.
        """
        horizon = self._clock() - self._orphan_life
        orphans: list[str] = []
        known: dict[str, bool] = {}
        seen = 0
        async for key, modified in self._objects.keys("t/"):
            seen += 1
            if seen > _MOST_SWEPT:
                break
            if modified < horizon and not await self._has_owner(key, known):
                orphans.append(key)
        if orphans and not any(known.values()):
            log.warning("sweep_refused", objects=len(orphans), reason="no object has an owner")
            return 0
        for start in range(0, len(orphans), _SWEPT_AT_ONCE):
            await self._objects.delete(orphans[start : start + _SWEPT_AT_ONCE])
        if orphans:
            log.info("orphans_swept", objects=len(orphans))
        return len(orphans)

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

    async def _bring_back(self, job: Job, now: float) -> None:
        if await self._jobs.stands(job):
            await self._jobs.seat(job.tenant)  # a limit that was raised may have left seats free
            return
        log.warning("job_requeued", job=job.id, tenant=job.tenant)
        await self._jobs.requeue(job, now)

    async def _retire(self, job: Job, now: float) -> None:
        over = (job.finished_at or now) + self._life
        if now < over:
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

    async def _has_owner(self, key: str, known: dict[str, bool]) -> bool:
        owner = key.split("/")[2] if key.count("/") >= 3 else ""
        if owner not in known:
            known[owner] = await self._is_on_record(owner)
        return known[owner]

    async def _is_on_record(self, owner: str) -> bool:
        if self._files is not None and owner.startswith("file-"):
            return await self._files.find(owner) is not None
        if self._batches is not None and owner.startswith(PREFIX):
            return await self._batches.find(owner) is not None
        return await self._jobs.find(owner) is not None
