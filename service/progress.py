"""How a job goes on, for those who wait for it: its end, or every step on the way.

Whoever waits listens first and reads the record second, so that nothing is missed in between; and
looks again now and then, in case a change was told while the line to Redis was down. A job is
safe while nobody can read it, so an outage of Redis only makes a wait longer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from storage.changes import Changes, Feed
from storage.errors import Missing, Unavailable
from storage.job import Job, JobId, JobStatus
from storage.jobs import Jobs


LOOK_AGAIN: Final = 4.0  # seconds; a handler whose client has left learns of it by then
_PAUSE: Final = 0.25

IsGone = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Preview:
    """What image `index` looks like so far; `sequence` counts its previews from 0."""

    index: int
    sequence: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing has happened for a while."""


Step: TypeAlias = Job | Preview | Quiet


class Progress:
    """Watches jobs. Every method may raise `storage.errors.Unavailable`.

    `keep_alive` is how many seconds of silence a stream may have.
    """

    def __init__(self, jobs: Jobs, changes: Changes, *, keep_alive: float = 15.0) -> None:
        self._jobs = jobs
        self._changes = changes
        self.keep_alive = keep_alive

    def feed(self, job_id: JobId) -> AbstractAsyncContextManager[Feed]:
        """Listen to a job that may not be there yet."""
        return self._changes.of(job_id)

    def watched(self, job: Job, feed: Feed) -> "Watched":
        """Return a job that was read after its feed was opened."""
        return Watched(self, job, feed)

    @asynccontextmanager
    async def of(self, job: Job) -> AsyncIterator["Watched"]:
        """Watch a job from now on; it is read again."""
        async with self.feed(job.id) as feed:
            yield Watched(self, await self.read(job.tenant, job.id), feed)

    async def ended(self, job: Job, wait: float, is_gone: IsGone) -> Job:
        """Return a job as it stands when it has ended, `wait` is over or the client is gone."""
        if job.is_ended or wait <= 0:
            return job
        async with self.of(job) as watched:
            return await watched.ended(wait, is_gone)

    async def read(self, tenant: str, job_id: JobId) -> Job:
        """Return a job that was there before; raises `Missing` when it was deleted."""
        job = await self._jobs.get(tenant, job_id)
        if job is None:
            raise Missing("The job was deleted.", code="job_not_found")
        return job

    async def preview(self, told: Mapping[str, Any]) -> Preview | None:
        """Return the preview that was told of, if it is still there."""
        try:
            data = await self._jobs.partial(told["key"])
        except Unavailable:
            return None
        return None if data is None else Preview(told["index"], told["sequence"], data)


class Watched:
    """A job and the feed of its changes; `job` is what was read last."""

    def __init__(self, progress: Progress, job: Job, feed: Feed) -> None:
        self._progress = progress
        self._feed = feed
        self.job = job

    async def ended(self, wait: float, is_gone: IsGone) -> Job:
        """Return the job when it has ended, `wait` seconds are over or the client is gone."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while not self.job.is_ended and (left := end - loop.time()) > 0 and not is_gone():
            told = await self._feed.next(min(left, LOOK_AGAIN))
            if told is None or JobStatus(told["status"]).is_ended:
                await self._look()
        return self.job

    async def steps(self, longest: float, is_gone: IsGone) -> AsyncGenerator[Step, None]:
        """Yield the job as it is, then each step up to its end, and `Quiet` where there is none.

        Ends early after `longest` seconds, or when the client is gone.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        said, silence = loop.time(), self._progress.keep_alive
        yield self.job
        while not self.job.is_ended and (now := loop.time()) < end and not is_gone():
            told = await self._feed.next(min(LOOK_AGAIN, max(said + silence - now, 0.0)))
            step = await self._step(told)
            if step is None and loop.time() < said + silence:
                continue
            said = loop.time()
            yield step or Quiet()

    async def _step(self, told: Mapping[str, Any] | None) -> Step | None:
        if told is not None and "partial" in told:
            return await self._progress.preview(told["partial"])
        known = self.job.version
        await self._look()
        return self.job if self.job.version != known else None

    async def _look(self) -> None:
        try:
            self.job = await self._progress.read(self.job.tenant, self.job.id)
        except Unavailable:
            await asyncio.sleep(_PAUSE)
