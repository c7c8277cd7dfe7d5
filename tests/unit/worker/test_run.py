"""A run's hold on its job: what it writes, and what it may not."""

import asyncio
from collections.abc import Callable

import pytest

from storage.attempt import Cost
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.job import Job, JobStatus, Superseded
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.owed import owed
from tests.samples import NOW, a_job, a_picture
from worker.provider import Partial
from worker.run import Run


BROKEN = Failure(code=FailureCode.UPSTREAM_ERROR, message="Broken.")


class StubbornJobs(Jobs):
    """Records whose next swap does what it is told to do, before or after it writes."""

    def __init__(self, commands: Commands) -> None:
        super().__init__(commands, RetentionSettings())
        self.before: list[Callable[[], object]] = []
        self.after: list[Callable[[], object]] = []
        self.swaps = 0

    async def swap(self, old: Job, new: Job) -> Job | None:
        self.swaps += 1
        if self.before:
            self.before.pop()()
        written = await super().swap(old, new)
        if self.after:
            self.after.pop()()
        return written


def away() -> None:
    raise Unavailable("The job store does not answer.")


def stop() -> None:
    raise asyncio.CancelledError


@pytest.fixture
def jobs(commands: Commands) -> StubbornJobs:
    return StubbornJobs(commands)


@pytest.fixture
async def run(jobs: StubbornJobs) -> Run:
    job = a_job(n=2, webhook_url="https://example.com/")
    await jobs.add(job)
    return Run(jobs, job, "f", patience=5.0)


async def record(run: Run, jobs: Jobs) -> Job:
    found = await jobs.find(run.job.id)
    assert found is not None
    return found


async def test_what_is_said_is_written_with_the_next_write(run: Run, jobs: StubbornJobs) -> None:
    run.say(lambda job: job.claimed("f", NOW))
    assert (await record(run, jobs)).status is JobStatus.QUEUED
    await run.write(lambda job: job.attempting("first", "sketch", "f", NOW))
    found = await record(run, jobs)
    assert (found.status, len(found.attempts), found.version) == (JobStatus.RUNNING, 1, 1)


async def test_writes_of_several_calls_take_turns(run: Run, jobs: StubbornJobs) -> None:
    run.say(lambda job: job.claimed("f", NOW).attempting("first", "sketch", "f", NOW))
    await asyncio.gather(
        run.write(lambda job: job.progressed("f", [a_picture(0)], Cost())),
        run.write(lambda job: job.progressed("f", [a_picture(1)], Cost())),
        run.write(lambda job: job.submitted(0, "task", "f")),
    )
    found = await record(run, jobs)
    assert (found.missing, found.version) == ((), 3)
    assert found.attempts[0].upstream_id == "task"


async def test_a_job_that_somebody_else_wrote_is_no_longer_ours(
    run: Run, jobs: StubbornJobs
) -> None:
    theirs = await record(run, jobs)
    written = await jobs.swap(theirs, theirs.cancelled(NOW))
    with pytest.raises(Superseded):
        await run.write(lambda job: job.claimed("f", NOW))
    assert await record(run, jobs) == written


async def test_an_ended_job_is_written_with_what_it_owes(run: Run, commands: Commands) -> None:
    run.say(lambda job: job.claimed("f", NOW))
    await run.write(lambda job: job.failed(BROKEN, NOW))
    assert len(await owed(commands)) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_outage_is_outlasted_and_nothing_is_owed_twice(
    run: Run, jobs: StubbornJobs, commands: Commands, moment: str
) -> None:
    getattr(jobs, moment).extend([away, away])
    run.say(lambda job: job.claimed("f", NOW))
    await run.write(lambda job: job.failed(BROKEN, NOW))
    assert jobs.swaps == 3
    assert ((await record(run, jobs)).version, len(await owed(commands))) == (1, 1)


async def test_an_outage_that_lasts_too_long_is_told(jobs: StubbornJobs) -> None:
    await jobs.add(a_job())
    run = Run(jobs, a_job(), "f", patience=0.0)
    jobs.before.append(away)
    with pytest.raises(Unavailable):
        await run.write(lambda job: job.claimed("f", NOW))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_after_a_write_that_was_broken_off_the_next_one_still_goes_through(
    run: Run, jobs: StubbornJobs, moment: str
) -> None:
    getattr(jobs, moment).append(stop)
    with pytest.raises(asyncio.CancelledError):
        await run.write(lambda job: job.claimed("f", NOW))
    written = await run.write(lambda job: job.handed_over("f", NOW))
    assert written.fence is None
    assert await record(run, jobs) == written


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_end_that_was_broken_off_is_brought_to_its_end_once(
    run: Run, jobs: StubbornJobs, commands: Commands, moment: str
) -> None:
    run.say(lambda job: job.claimed("f", NOW))
    getattr(jobs, moment).append(stop)
    with pytest.raises(asyncio.CancelledError):
        await run.write(lambda job: job.failed(BROKEN, NOW))
    await run.finish()
    await run.finish()
    assert (await record(run, jobs)).status is JobStatus.FAILED
    assert ((await record(run, jobs)).version, len(await owed(commands))) == (1, 1)


async def test_a_broken_write_does_not_hide_that_the_job_was_taken(
    run: Run, jobs: StubbornJobs
) -> None:
    jobs.before.append(stop)
    with pytest.raises(asyncio.CancelledError):
        await run.write(lambda job: job.claimed("f", NOW))
    theirs = await record(run, jobs)
    await jobs.swap(theirs, theirs.claimed("other", NOW))
    with pytest.raises(Superseded):
        await run.finish()


async def test_nothing_is_written_when_nothing_was_broken_off(run: Run, jobs: StubbornJobs) -> None:
    await run.finish()
    assert jobs.swaps == 0


async def test_a_preview_is_told_by_the_index_of_its_image(run: Run, jobs: StubbornJobs) -> None:
    await run.preview(Partial(index=1, sequence=2, data=b"blurred"), 4)
    assert await jobs.partial("darkroom:partial:job_1:5:2") == b"blurred"
