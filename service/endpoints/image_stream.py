"""`stream: true` on OpenAI's image doors: previews and images as named events."""

from typing import Any

import pybase64
from aiohttp import web

from service.context import Call
from service.draft import Draft
from service.errors import end_error, error_document
from service.events import Events
from service.logs import JOB_ID
from service.progress import Preview, Quiet, Watched
from service.replies import (
    encoded,
    extras,
    format_of,
    looks,
    made,
    no_usage,
    usage_of,
    used,
)
from service.submission import asker_of
from storage.container import CONTENT_TYPES, sniff
from storage.errors import Error
from storage.image import Image, ImageStatus
from storage.job import Job, JobType


KINDS = {JobType.GENERATION: "image_generation", JobType.EDIT: "image_edit"}
_FORMATS = {content_type: name for name, content_type in CONTENT_TYPES.items()}


async def stream_images(call: Call, draft: Draft) -> web.StreamResponse:
    """Take the draft in and answer with a stream of events up to the job's end."""
    reception = call.context.reception
    async with reception.watched(asker_of(call), draft) as watched:
        job = watched.job
        call.request[JOB_ID] = job.id
        async with Events(call.request, {"X-Job-Id": job.id}) as events:
            await _tell(call, watched, events)
    return events.response


async def _tell(call: Call, watched: Watched, events: Events) -> None:
    told: set[int] = set()
    longest = call.context.settings.limits.max_stream
    async for step in watched.steps(longest, call.is_gone):
        if isinstance(step, Quiet):
            await events.keep_alive()
        elif isinstance(step, Preview):
            event = preview_event(watched.job, step)
            await events.send(event, event=event["type"])
        else:
            await _tell_images(call, step, events, told)
    if not call.is_gone():
        await tell_failure(watched.job, events)


async def _tell_images(call: Call, job: Job, events: Events, told: set[int]) -> None:
    """Send the images that are new; the last one carries the usage of all."""
    news = [image for image in made(job) if image.index not in told]
    for image in news:
        told.add(image.index)
        # Until the job has ended, nobody knows which image is the last.
        left = sum(i.status is ImageStatus.PENDING for i in job.images)
        usage = usage_of(job.usage) if not left and image is news[-1] else None
        try:
            event = await completed_event(call, job, image, usage)
        except Error as error:
            document = error_document("server_error", error.code or "gone", error.message)
            await events.send({"type": "error", **document}, event="error")
            return
        await events.send(event, event=event["type"])


async def tell_failure(job: Job, events: Events) -> None:
    """Send an error when the stream is over without any image."""
    if not (job.is_ended and made(job)):
        await events.send({"type": "error", **end_error(job)}, event="error")


async def completed_event(
    call: Call, job: Job, image: Image, usage: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the event that carries a finished image."""
    data = await encoded(call.context.objects, image)
    return {
        "type": f"{KINDS[job.type]}.completed",
        "b64_json": data.decode("ascii"),
        **_setting(job),
        "created_at": int(call.context.clock()),
        "size": f"{image.width}x{image.height}",
        "output_format": format_of(image),
        "usage": usage or no_usage(),
        **extras(job),
    }


def preview_event(job: Job, preview: Preview) -> dict[str, Any]:
    """Return the event that carries a preview."""
    kind = _FORMATS.get(sniff(preview.data[:512]) or "")
    return {
        "type": f"{KINDS[job.type]}.partial_image",
        "b64_json": pybase64.b64encode(preview.data).decode("ascii"),
        "partial_image_index": preview.sequence,
        "image_index": preview.index,
        "created_at": int(job.started_at or job.created_at),
        **_setting(job),
        "size": used(job, "size") or "auto",
        "output_format": kind or "png",
    }


def _setting(job: Job) -> dict[str, Any]:
    known = looks(job)
    return {
        "background": known.get("background", "auto"),
        "quality": known.get("quality", "auto"),
    }
