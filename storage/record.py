"""The record of a job: the JSON that is kept of it, and who can read that."""

from contextlib import suppress

import orjson
from pydantic import TypeAdapter, ValidationError

from storage.errors import Error
from storage.job import SCHEMA, Job, Newer


_JOB: TypeAdapter[Job] = TypeAdapter(Job)


def written(job: Job) -> bytes:
    """Return the record of a job as it is now."""
    return _JOB.dump_json(job, exclude_none=True)


def read(document: bytes) -> Job:
    """Return the job of a record; raises `Newer` where only a newer version can read it."""
    try:
        return _JOB.validate_json(document)
    except ValidationError:  # its text repeats what it could not read, prompts too
        if _schema_of(document) > SCHEMA:
            raise Newer from None
        raise Error("The record of a job cannot be read.", code="record_unreadable") from None


def readable(document: bytes) -> Job | None:
    """Return a job of many; one that cannot be read must not hide the others."""
    with suppress(Error):
        return read(document)
    return None


def _schema_of(document: bytes) -> int:
    try:
        return int(orjson.loads(document)["schema"])
    except (ValueError, TypeError, KeyError):
        return 0
