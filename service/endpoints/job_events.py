"""`GET /v1/jobs/{id}/events`: every step of a job as it happens, also for who comes late or again.

The id of an event says all that its reader knows: how far the job is, and which images have been
told. So a reader that comes back with `Last-Event-ID` gets what it missed and nothing twice, from
any service process, and nobody has to remember any events.
"""

import re
from dataclasses import dataclass
from typing import Final

import pybase64
from aiohttp import web

from service.context import Call
from service.endpoints.jobs import job_of
from service.events import Events
from service.progress import Preview, Quiet
from storage.container import sniff
from storage.document import image_document, job_document, links_of
from storage.image import ImageStatus
from storage.job import Job, JobStatus


_PHASES: Final = ("queued", "running", "ended")
_MARK: Final = re.compile(r"(queued|running|ended)-([0-9a-f]{1,8})")


async def events(call: Call) -> web.StreamResponse:
    """Stream a job's steps up to its end; 204 for who has heard of the end already."""
    job = await job_of(call)
    known = _Known.read(call.request.headers.get("Last-Event-ID", ""))
    if known.phase == "ended":
        return web.Response(status=204)
    longest = call.context.settings.limits.max_stream
    async with (
        call.context.progress.of(job) as watched,
        Events(call.request, {"X-Job-Id": job.id}) as stream,
    ):
        telling = _Telling(call, stream, known)
        async for step in watched.steps(longest, call.is_gone):
            if isinstance(step, Preview):
                await telling.preview(step)
            elif isinstance(step, Quiet):
                await telling.quiet(watched.job)
            else:
                await telling.news(step)
    return stream.response


@dataclass(slots=True)
class _Known:
    """What a reader knows: the phase, "" for none, and one bit for each image it has heard of."""

    phase: str = ""
    images: int = 0

    @classmethod
    def read(cls, mark: str) -> "_Known":
        match = _MARK.fullmatch(mark)
        return cls() if match is None else cls(match[1], int(match[2], 16))

    @property
    def mark(self) -> str:
        return f"{self.phase}-{self.images:x}"

    def is_past(self, phase: str) -> bool:
        return self.phase != "" and _PHASES.index(self.phase) >= _PHASES.index(phase)


class _Telling:
    def __init__(self, call: Call, stream: Events, known: _Known) -> None:
        self._call = call
        self._stream = stream
        self._known = known
        self._position: int | None = None

    async def news(self, job: Job) -> None:
        """Tell what the job shows and the reader does not know."""
        if not self._known.is_past("queued"):
            self._known.phase = "queued"
            await self._queued(job)
        if job.status is not JobStatus.QUEUED and not self._known.is_past("running"):
            self._known.phase = "running"
            if job.started_at is not None:
                await self._send("job.started", {"id": job.id, "started_at": int(job.started_at)})
        await self._images(job)
        if job.is_ended:
            self._known.phase = "ended"
            links = links_of(job, self._call.context.objects, self._call.context.clock())
            await self._send(f"job.{job.status}", job_document(job, links))

    async def preview(self, preview: Preview) -> None:
        """Tell a preview; it is gone in a minute, so nobody gets it twice."""
        data = {
            "index": preview.index,
            "sequence": preview.sequence,
            "content_type": sniff(preview.data[:512]),
            "b64_json": pybase64.b64encode(preview.data).decode("ascii"),
        }
        await self._stream.send(data, event="job.partial_image")

    async def quiet(self, job: Job) -> None:
        """Tell how the queue moves on, or that nothing does."""
        position = await self._call.context.jobs.position(job)
        if position is not None and position != self._position:
            await self._queued(job, position)
        else:
            await self._stream.keep_alive()

    async def _queued(self, job: Job, position: int | None = None) -> None:
        if position is None:
            position = await self._call.context.jobs.position(job)
        self._position = position
        data = {"id": job.id, "created_at": int(job.created_at), "queue_position": position}
        await self._send("job.queued", data)

    async def _images(self, job: Job) -> None:
        links = links_of(job, self._call.context.objects, self._call.context.clock())
        for image in job.images:
            bit = 1 << image.index
            if image.status is ImageStatus.PENDING or self._known.images & bit:
                continue
            self._known.images |= bit
            await self._send("job.image", image_document(job, image, links))

    async def _send(self, event: str, data: dict[str, object]) -> None:
        await self._stream.send(data, event=event, mark=self._known.mark)
