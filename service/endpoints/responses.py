"""`/v1/responses`: the image tool of OpenAI's Responses, open, in the background or streamed.

A response is a job under another name: `resp_x` is `job_x`, and its images are `ig_x_0`, `ig_x_1`
…. Whatever is asked later is read from the job, so nothing else is kept.
"""

from typing import Any

import orjson
from aiohttp import web

from service.body import Body, read_json
from service.context import Call
from service.conversation import Said, Topic, topic_of
from service.draft import Draft
from service.endpoints.images import stated
from service.endpoints.jobs import cancelled, forget
from service.endpoints.response_stream import stream_response
from service.inputs import all_named, named
from service.logs import JOB_ID
from service.preference import preference
from service.responses import call_ids, document_of, job_id_of
from service.submission import answer_when_ended, model_for_tool, submit
from service.wire.fields import read
from service.wire.pictures import Picture
from service.wire.responses import Item, ResponseRequest
from storage.errors import Invalid, Missing
from storage.job import Job
from storage.request import Request


async def create(call: Call) -> web.StreamResponse:
    """Make the image that an input asks for."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(ResponseRequest, stated(body.fields))
    draft = await _draft(call, ask, body)
    if preference(call.request.headers).is_now:
        return await answer_when_ended(call, draft, _show(call))
    if ask.stream:
        return await stream_response(call, draft)
    if ask.background:
        return await _sent(call, await submit(call, draft, wait=0), background=True)
    return await answer_when_ended(call, draft, _show(call))


async def show(call: Call) -> web.StreamResponse:
    """Show a response as it stands."""
    return await _sent(call, await _job(call), background=None)


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel a response; one that is over stays as it is."""
    job = await _job(call)
    ended = job if job.is_ended else await cancelled(call, job.id)
    return await _sent(call, ended, background=None)


async def delete(call: Call) -> web.StreamResponse:
    """Forget a response with its images."""
    job = await _job(call)
    await forget(call, job)
    document = {"id": call.request.match_info["id"], "object": "response", "deleted": True}
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _show(call: Call) -> Any:
    async def show_job(job: Job, headers: dict[str, str]) -> web.StreamResponse:
        return await _sent(call, job, headers)

    return show_job


async def _sent(
    call: Call, job: Job, headers: dict[str, str] | None = None, *, background: bool | None = False
) -> web.Response:
    document = await document_of(job, call.context.objects, background=background)
    return web.Response(
        body=orjson.dumps(document), content_type="application/json", headers=headers
    )


async def _job(call: Call) -> Job:
    job_id = job_id_of(call.request.match_info["id"])
    job = None if job_id is None else await call.context.jobs.get(call.tenant.id, job_id)
    if job is None:
        raise Missing("There is no such response.", code="response_not_found")
    call.request[JOB_ID] = job.id
    return job


async def _draft(call: Call, ask: ResponseRequest, body: Body) -> Draft:
    tool = ask.image_tool
    topic = _topic(ask)
    pictures = topic.pictures
    if not pictures and ask.previous_response_id is not None:
        pictures = await _earlier(call, ask.previous_response_id)
    if tool.action == "generate":
        pictures = ()
    if tool.action == "edit" and not pictures:
        raise Invalid("There is no image to edit.", param="input", code="missing_image")
    model, adapted = model_for_tool(call.context.catalog, tool.model, ask.model)
    mask = tool.input_image_mask
    request = Request(
        prompt=topic.prompt,
        size=tool.size,
        quality=tool.quality,
        background=tool.background,
        output_format=tool.output_format,
        output_compression=tool.output_compression,
        moderation=tool.moderation,
        input_fidelity=tool.input_fidelity,
        watermark=tool.watermark,
        partial_images=tool.partial_images if ask.stream else None,
        user=ask.user,
    )
    others = any(other.type != "image_generation" for other in ask.tools or ())
    return Draft(
        door="responses",
        model=model,
        request=request,
        extras=ask,
        body=body,
        images=await all_named(call, pictures, "input"),
        mask=None if mask is None else await named(call, mask, "tools"),
        ignored=(*(ask.model_extra or ()), *(("tools",) if others else ())),
        adapted=(*adapted, *topic.adapted),
        names={"prompt": "input", "images": "input", "mask": "tools"},
    )


def _topic(ask: ResponseRequest) -> Topic:
    if isinstance(ask.input, str):
        return topic_of((Item(role="user", content=ask.input),), "input")
    messages: tuple[Said, ...] = ask.input
    return topic_of(messages, "input")


async def _earlier(call: Call, response_id: str) -> tuple[Picture, ...]:
    job_id = job_id_of(response_id)
    job = None if job_id is None else await call.context.jobs.get(call.tenant.id, job_id)
    if job is None:
        raise Invalid(
            "There is no such response.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return tuple(Picture(file_id=call_id) for call_id in call_ids(job))
