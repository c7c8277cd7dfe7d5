"""Events: what is told of a job as it goes its way, and which receivers want to hear of it.

An event has a type and nothing of its own: whoever sends it shows the job as it is at that moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from storage.batch import BatchStatus
from storage.image import ImageStatus
from storage.job import Job, JobStatus


QUEUED: Final = "job.queued"
STARTED: Final = "job.started"
IMAGE_READY: Final = "job.image_ready"
ENDINGS: Final = tuple(f"job.{status}" for status in JobStatus if status.is_ended)
JOB_EVENTS: Final = (QUEUED, STARTED, IMAGE_READY, *ENDINGS)

DISABLED: Final = "webhook_endpoint.disabled"
TEST: Final = "webhook_endpoint.test"

BATCH_EVENTS: Final = tuple(f"batch.{status}" for status in BatchStatus if status.is_ended)
EVENTS: Final = (*JOB_EVENTS, *BATCH_EVENTS, DISABLED)
MESSAGES: Final = (*EVENTS, TEST)  # a test is sent to who asked for it and cannot be named
WILDCARDS: Final = ("*", *dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENTS))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that became of a job; `image` is the index of the one image it is about, if any."""

    type: str
    image: int | None = None


def events_of(before: Job | None, after: Job) -> Iterator[Event]:
    """Yield what is to be told of one step of a job, in order; `before` is None for a new one.

    A job has started when its first attempt is on record, which happens once. Its images are told
    of before its end, also when one step brings both.
    """
    if before is None:
        yield Event(QUEUED)
        return
    if after.attempts and not before.attempts:
        yield Event(STARTED)
    known = {image.index for image in before.images if image.status is ImageStatus.SUCCEEDED}
    for image in after.images:
        if image.status is ImageStatus.SUCCEEDED and image.index not in known:
            yield Event(IMAGE_READY, image.index)
    if after.is_ended and not before.is_ended:
        yield Event(f"job.{after.status}")


def wants(events: tuple[str, ...], event: str) -> bool:
    """Say whether a receiver that named `events` gets `event`; naming none means every ending."""
    if not events:
        return event in ENDINGS
    return event in events or "*" in events or f"{event.partition('.')[0]}.*" in events
