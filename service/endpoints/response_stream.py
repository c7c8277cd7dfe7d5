"""`stream: true` on `/v1/responses`: the events of the image tool, numbered in order."""

from typing import Any

import pybase64
from aiohttp import web

from service.context import Call
from service.draft import Draft
from service.events import Events
from service.logs import JOB_ID
from service.progress import Preview, Quiet
from service.replies import made
from service.responses import call_begun, call_document, call_id, document_of
from service.submission import asker_of
from storage.job import Job, JobStatus


async def stream_response(call: Call, draft: Draft) -> web.StreamResponse:
    """Take the draft in and answer with a stream of events up to the response's end."""
    async with call.context.reception.watched(asker_of(call), draft) as watched:
        call.request[JOB_ID] = watched.job.id
        async with Events(call.request, {"X-Job-Id": watched.job.id}) as events:
            telling = _Telling(call, events)
            await telling.begin(watched.job)
            longest = call.context.settings.limits.max_stream
            async for step in watched.steps(longest, call.is_gone):
                if isinstance(step, Quiet):
                    await events.keep_alive()
                elif isinstance(step, Preview):
                    await telling.preview(watched.job, step)
                elif step.status is not JobStatus.QUEUED:
                    await telling.generating(step)
            await telling.end(watched.job)
    return events.response


class _Telling:
    def __init__(self, call: Call, events: Events) -> None:
        self._call = call
        self._events = events
        self._number = 0
        self._generating = False

    async def begin(self, job: Job) -> None:
        """Tell that the response is there and the tool is called."""
        shown = await document_of(job, self._call.context.objects, with_output=False)
        shown = {**shown, "status": "in_progress", "usage": None, "error": None}
        await self._send("response.created", response=shown)
        await self._send("response.in_progress", response=shown)
        await self._send("response.output_item.added", output_index=0, item=call_begun(job, 0))
        await self._tool(job, "in_progress")

    async def generating(self, job: Job) -> None:
        """Tell, once, that the image is being made."""
        if not self._generating:
            self._generating = True
            await self._tool(job, "generating")

    async def preview(self, job: Job, preview: Preview) -> None:
        """Tell what the image looks like so far."""
        data = pybase64.b64encode(preview.data).decode("ascii")
        await self._tool(
            job, "partial_image", partial_image_index=preview.sequence, partial_image_b64=data
        )

    async def end(self, job: Job) -> None:
        """Tell how it ended."""
        objects = self._call.context.objects
        images = made(job)
        if images:
            item = await call_document(job, images[0], objects)
            await self._tool(job, "completed")
        else:
            item = {**call_begun(job, 0), "status": "failed"}
        await self._send("response.output_item.done", output_index=0, item=item)
        shown = await document_of(job, objects)
        if images or (job.is_ended and job.status is JobStatus.SUCCEEDED):
            await self._send("response.completed", response=shown)
        elif job.is_ended:
            await self._send("response.failed", response=shown)
        else:
            await self._send("response.incomplete", response={**shown, "status": "incomplete"})

    async def _tool(self, job: Job, step: str, **fields: Any) -> None:
        await self._send(
            f"response.image_generation_call.{step}",
            output_index=0,
            item_id=call_id(job, 0),
            **fields,
        )

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._events.send(
            {"type": kind, "sequence_number": self._number, **fields}, event=kind
        )
        self._number += 1
