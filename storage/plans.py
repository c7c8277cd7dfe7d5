"""Plans: the lines of batches, each a job that is ready to be made or the reason why it is none."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import orjson
from pydantic import TypeAdapter

from storage.batch import Batch, Place
from storage.job import Job, JobId, JobStatus
from storage.objects import CHUNK, Objects


_JOB: TypeAdapter[Job] = TypeAdapter(Job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One request of a batch; `after` is the place behind it.

    Either `job_id` names what it becomes, or `error` says why it is refused, as (code, message).
    """

    custom_id: str
    after: Place
    job_id: JobId | None = None
    error: tuple[str, str] | None = None
    document: bytes = b""

    @property
    def job(self) -> Job | None:
        """Return the job that the line becomes."""
        document = orjson.loads(self.document).get("job")
        return None if document is None else _JOB.validate_python(document, strict=False)


def job_line(custom_id: str, job: Job) -> bytes:
    """Return the line of a request that can be made."""
    head = orjson.dumps({"custom_id": custom_id, "id": job.id})[:-1]
    return head + b',"job":' + _JOB.dump_json(job, exclude_none=True) + b"}\n"


def error_line(custom_id: str, code: str, message: str) -> bytes:
    """Return the line of a request that is refused."""
    return orjson.dumps({"custom_id": custom_id, "error": [code, message]}) + b"\n"


def is_answered(job: Job | None) -> bool:
    """Say whether a job has ended with images for the one who asked."""
    return job is not None and job.status in {JobStatus.SUCCEEDED, JobStatus.PARTIAL}


def taken_up(job: Job, now: float) -> Job:
    """Return a planned job as it is made at `now`: what it was given to end counts from then."""
    deadline = None if job.deadline is None else now + job.deadline - job.created_at
    return replace(job, created_at=now, deadline=deadline)


def renewed(job: Job, job_id: JobId, batch: Batch) -> Job:
    """Return a planned job as another one of another batch."""
    again = taken_up(job, batch.created_at)
    return replace(again, id=job_id, start_by=batch.expires_at, batch=batch.id)


async def lines(objects: Objects, key: str, start: Place, most: int) -> list[Line]:
    """Return up to `most` lines of a plan from a place on; none at its end, or without one."""
    return [line async for line in _lines(objects, key, start, most)]


async def _lines(objects: Objects, key: str, start: Place, most: int) -> AsyncIterator[Line]:
    stat = await objects.stat(key)
    if stat is None or start.offset >= stat.size:
        return
    stream = await objects.stream(key, start=start.offset)
    if stream is None:
        return
    place, rest = start, b""
    async with aclosing(stream):
        async for chunk in stream:
            *whole, rest = (rest + chunk).split(b"\n")
            for text in whole:
                place = Place(lines=place.lines + 1, offset=place.offset + len(text) + 1)
                yield _line(text, place)
                if place.lines - start.lines >= most:
                    return
            if len(rest) > 64 * CHUNK:
                return


def _line(text: bytes, after: Place) -> Line:
    document = orjson.loads(text)
    error = document.get("error")
    return Line(
        custom_id=document["custom_id"],
        after=after,
        job_id=document.get("id"),
        error=None if error is None else (error[0], error[1]),
        document=text,
    )
