"""A run: one worker's hold on one job, and its only way to write the record.

What becomes of the job is first said in memory, by the job's own rules, and written with the next
thing that must be on record. Several calls of one attempt share a run, so writes take turns.
"""

import asyncio
import contextlib
from collections.abc import Callable

from storage.errors import Unavailable
from storage.job import Job, Superseded
from storage.jobs import Jobs
from worker.outage import outlast
from worker.provider import Partial


class Run:
    """The job as it should be by now, under the fence of this run."""

    def __init__(self, jobs: Jobs, read: Job, fence: str, *, patience: float) -> None:
        self.job = read
        self.fence = fence
        self._jobs = jobs
        self._stored = read
        self._unanswered: Job | None = None
        self._patience = patience
        self._writing = asyncio.Lock()

    @property
    def is_on_record(self) -> bool:
        """Say whether the record names somebody as the job's owner, this run or a dead one."""
        return self._stored.fence is not None

    def say(self, change: Callable[[Job], Job]) -> Job:
        """Change the job in memory; the next write takes it along."""
        self.job = change(self.job)
        return self.job

    async def write(self, change: Callable[[Job], Job] | None = None) -> Job:
        """Write the job, after one more change; raises `Superseded` when it is no longer ours.

        What the job's receivers are told of it is owed in the same step. An outage is outlasted.
        """
        async with self._writing:
            await self._repeat()
            return await self._swap(self.say(change) if change is not None else self.job)

    async def finish(self) -> None:
        """Bring a write that was broken off to its end; do nothing when there is none."""
        async with self._writing:
            await self._repeat()

    async def _repeat(self) -> None:
        # Whoever was cancelled while writing cannot know whether the job was written; saying the
        # same swap again tells.
        if self._unanswered is not None:
            await self._swap(self._unanswered)

    async def _swap(self, job: Job) -> Job:
        self._unanswered = job
        written = await outlast(lambda: self._jobs.swap(self._stored, job), patience=self._patience)
        if written is None:
            raise Superseded("The job was changed by somebody else.", code="job_taken")
        self._stored, self._unanswered = written, None
        return written

    async def preview(self, partial: Partial, first_index: int) -> None:
        """Tell those who stream the job of a preview, unless Redis is away or full just now."""
        with contextlib.suppress(Unavailable):
            await self._jobs.tell_partial(
                self.job, first_index + partial.index, partial.sequence, partial.data
            )
