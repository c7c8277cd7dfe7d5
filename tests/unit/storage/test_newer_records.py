"""Records of a newer version, met in the middle of a rolling restart: read, but never written."""

import orjson
import pytest

from storage import redis_keys
from storage.errors import Error
from storage.job import SCHEMA, Job, Newer
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.samples import NOW, a_job


@pytest.fixture
def jobs(commands: Commands) -> Jobs:
    return Jobs(commands, RetentionSettings())


async def changed(commands: Commands, job: Job, **fields: object) -> None:
    """Write the record as another version would."""
    key = redis_keys.job(job.id)
    document = orjson.loads(await commands.execute("HGET", key, "document"))
    await commands.execute("HSET", key, "document", orjson.dumps({**document, **fields}))


async def test_a_newer_record_is_read_and_not_written(jobs: Jobs, commands: Commands) -> None:
    job = a_job()
    await jobs.add(job)
    await changed(commands, job, schema=SCHEMA + 1, mood="joyful")
    newer = await jobs.find(job.id)
    assert newer is not None
    assert newer.is_newer
    assert newer.request == job.request
    with pytest.raises(Newer):
        await jobs.swap(newer, newer.cancelled(NOW))
    kept = await commands.execute("HGET", redis_keys.job(job.id), "document")
    assert orjson.loads(kept)["mood"] == "joyful"


async def test_a_newer_record_that_cannot_be_read_says_so(jobs: Jobs, commands: Commands) -> None:
    job = a_job()
    await jobs.add(job)
    await changed(commands, job, schema=SCHEMA + 1, status="dreaming")
    with pytest.raises(Newer):
        await jobs.find(job.id)


async def test_a_broken_record_of_our_own_is_not_called_newer(
    jobs: Jobs, commands: Commands
) -> None:
    job = a_job()
    await jobs.add(job)
    await changed(commands, job, status="dreaming")
    with pytest.raises(Error) as refusal:
        await jobs.find(job.id)
    assert refusal.value.code == "record_unreadable"


async def test_one_record_that_cannot_be_read_does_not_hide_the_others(
    jobs: Jobs, commands: Commands
) -> None:
    first, second = a_job("job_1"), a_job("job_2", created_at=NOW + 1)
    for job in (first, second):
        await jobs.add(job)
    await changed(commands, second, status="dreaming")
    page = await jobs.listing.page("acme", limit=10)
    assert [job.id for job in page.jobs] == [first.id]
