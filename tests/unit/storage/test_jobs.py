"""The records of jobs on a Redis inside the process."""

import asyncio
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage.attempt import Attempt, Cost, Usage
from storage.failure import Failure
from storage.image import Image
from storage.job import Job, JobId
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.request import Adaptation, Input, Request
from storage.settings import RetentionSettings
from tests.doubles import fake_redis
from tests.suites.jobs import JobsSuite


class TestJobs(JobsSuite):
    """Everything of the suite."""


WORDS = st.text(string.ascii_letters, min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(0, 1e9)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
FAILURES = st.builds(Failure, message=TEXTS)
COSTS = st.builds(Cost, st.none() | NUMBERS)
USAGES = st.builds(Usage, images=st.none() | st.integers(0, 99))
INPUTS = st.builds(Input, key=st.none() | WORDS, url=st.none() | TEXTS)
REQUESTS = st.builds(
    Request,
    prompt=TEXTS,
    n=st.integers(1, 10),
    images=st.lists(INPUTS, max_size=2).map(tuple),
    mask=st.none() | INPUTS,
    options=st.dictionaries(WORDS, JSON, max_size=3),
    **{
        name: st.none() | TEXTS
        for name in ("size", "aspect_ratio", "quality", "background", "style", "negative_prompt")
    },
)
VALUES = st.none() | TEXTS | st.integers(0, 2**40) | st.booleans() | NUMBERS
WARNINGS = st.builds(Adaptation, param=WORDS, action=WORDS, requested=VALUES, used=VALUES)
ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(1, 9),
    deployment=WORDS,
    provider=WORDS,
    fence=WORDS,
    started_at=NUMBERS,
    finished_at=st.none() | NUMBERS,
    upstream_ids=st.dictionaries(st.integers(0, 9), WORDS, max_size=3),
    costs=st.lists(COSTS, max_size=3).map(tuple),
    usage=st.none() | USAGES,
    error=st.none() | FAILURES,
)
IMAGES = st.builds(
    Image,
    index=st.integers(0, 9),
    key=st.none() | WORDS,
    width=st.none() | st.integers(1, 9999),
    revised_prompt=st.none() | TEXTS,
    error=st.none() | FAILURES,
)
JOBS = st.builds(
    Job,
    id=WORDS.map(JobId),
    tenant=WORDS,
    model=WORDS,
    request=REQUESTS,
    created_at=NUMBERS,
    started_at=st.none() | NUMBERS,
    finished_at=st.none() | NUMBERS,
    images=st.lists(IMAGES, max_size=3).map(tuple),
    attempts=st.lists(ATTEMPTS, max_size=3).map(tuple),
    warnings=st.lists(WARNINGS, max_size=3).map(tuple),
    error=st.none() | FAILURES,
    text=st.none() | TEXTS,
    metadata=st.dictionaries(WORDS, TEXTS, max_size=3),
    webhook_url=st.none() | TEXTS,
    webhook_events=st.lists(WORDS, max_size=3).map(tuple),
    priority=st.integers(-1, 1),
    start_by=st.none() | NUMBERS,
    deadline=st.none() | NUMBERS,
    max_cost=st.none() | NUMBERS,
    reserved=st.none() | NUMBERS,
    fence=st.none() | WORDS,
    crashes=st.integers(0, 9),
    request_id=st.none() | WORDS,
    version=st.just(0),
    schema=st.just(1),
)


@given(JOBS)
def test_any_job_is_read_back_as_it_was_written(job: Job) -> None:
    async def there_and_back() -> Job | None:
        commands = Commands(fake_redis())
        jobs = Jobs(commands, RetentionSettings())
        await jobs.add(job)
        found = await jobs.find(job.id)
        await commands.close()
        return found

    assert asyncio.run(there_and_back()) == job
