"""Images through chat: OpenAI's `/v1/chat/completions`, and that of gateways below `/api`.

OpenAI's chat has no images, so an answer to its own words is one that its types can read: the
content is a text, which shows the images in Markdown as relays do. Whoever asks in a gateway's
words, or at its address, reads them as parts of the content. `images` has them either way.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from service.body import Body, read_json
from service.context import Call
from service.conversation import topic_of
from service.draft import Draft
from service.endpoints.images import stated
from service.errors import JobFailed, end_error
from service.events import Events
from service.inputs import all_named, named
from service.logs import JOB_ID
from service.preference import preference
from service.progress import Quiet
from service.replies import data_url, extras, made, usage_of
from service.submission import answer_when_ended, asker_of, model_for_tool
from service.wire.chat import ChatRequest, ImageConfig, ImageTool
from service.wire.fields import read
from storage.failure import FailureCode
from storage.image import Image
from storage.job import Job
from storage.request import Request


@dataclass(frozen=True, slots=True)
class _Form:
    """How an answer has its images: as parts of the content or in its text, and as tool calls."""

    in_parts: bool
    by_tool: bool


async def completions(call: Call) -> web.StreamResponse:
    """Make the image that a conversation asks for and answer as an assistant."""
    return await _answered(call, at_gateway=False)


async def gateway_completions(call: Call) -> web.StreamResponse:
    """Answer as gateways do, in whichever words they are asked."""
    return await _answered(call, at_gateway=True)


async def _answered(call: Call, *, at_gateway: bool) -> web.StreamResponse:
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(ChatRequest, stated(body.fields))
    form = _Form(in_parts=at_gateway or ask.is_extended, by_tool=ask.image_tool is not None)
    draft = await _draft(call, ask, body)
    if ask.stream and not preference(call.request.headers).is_now:
        return await _stream(call, draft, ask, form)

    async def show(job: Job, headers: dict[str, str]) -> web.StreamResponse:
        document = await _completion(call, job, form)
        return web.Response(
            body=orjson.dumps(document), content_type="application/json", headers=headers
        )

    try:
        return await answer_when_ended(call, draft, show)
    except JobFailed as failed:
        if not _is_text(failed.job):
            raise
        return await show(failed.job, {"X-Job-Id": failed.job.id})


async def _draft(call: Call, ask: ChatRequest, body: Body) -> Draft:
    topic = topic_of(ask.messages, "messages")
    tool = ask.image_tool or ImageTool()
    config = ask.image_config or ImageConfig()
    mask = tool.input_image_mask
    model, adapted = (
        (ask.model, ())
        if ask.image_tool is None
        else model_for_tool(call.context.catalog, tool.model, ask.model)
    )
    request = Request(
        prompt=topic.prompt,
        n=ask.n,
        size=tool.size or config.size or ask.size,
        aspect_ratio=config.aspect_ratio,
        resolution=config.image_size,
        quality=tool.quality or config.quality or ask.quality,
        background=tool.background or config.background,
        output_format=tool.output_format or config.output_format,
        output_compression=tool.output_compression,
        moderation=tool.moderation,
        input_fidelity=tool.input_fidelity,
        watermark=tool.watermark,
        user=ask.user,
    )
    return Draft(
        door="chat.completions",
        model=model,
        request=request,
        extras=ask,
        body=body,
        images=await all_named(call, topic.pictures, "messages"),
        mask=None if mask is None else await named(call, mask, "tools"),
        ignored=_ignored(ask),
        adapted=(*adapted, *topic.adapted),
        names={"prompt": "messages", "images": "messages", "mask": "tools"},
    )


def _ignored(ask: ChatRequest) -> tuple[str, ...]:
    others = any(tool.type != "image_generation" for tool in ask.tools or ())
    return (*(ask.model_extra or ()), *(("tools",) if others else ()))


def _is_text(job: Job) -> bool:
    """Say whether the upstream answered in words instead of images."""
    return bool(job.text) and job.error is not None and job.error.code is FailureCode.NO_IMAGE


# -- showing -------------------------------------------------------------------------------------


async def _completion(call: Call, job: Job, form: _Form) -> dict[str, Any]:
    images = [await _part(call, image) for image in made(job)]
    words = [{"type": "text", "text": job.text}] if job.text else []
    message: dict[str, Any] = {"role": "assistant", "content": [*words, *images]}
    if not images or not form.in_parts:
        message["content"] = "\n\n".join([job.text or "", *map(_drawn, images)]).strip()
    if images and not form.in_parts:
        message["content_parts"] = [*words, *images]
    if images:
        message["images"] = [{**part, "index": at} for at, part in enumerate(images)]
    if images and form.by_tool:
        message["tool_calls"] = _tool_calls(job)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": _id(job),
        "object": "chat.completion",
        "created": int(job.created_at),
        **extras(job),
        "choices": [choice],
        "usage": _usage(job),
    }


def _drawn(part: dict[str, Any]) -> str:
    """Return an image as a text shows it, in Markdown."""
    return f"![image]({part['image_url']['url']})"


async def _part(call: Call, image: Image) -> dict[str, Any]:
    url = await data_url(call.context.objects, image)
    return {"type": "image_url", "image_url": {"url": url}}


def _tool_calls(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "index": at,
            "id": f"call_{job.id.removeprefix('job_')}_{image.index}",
            "type": "image_generation",
            "image_generation": {"status": "completed", "revised_prompt": image.revised_prompt},
        }
        for at, image in enumerate(made(job))
    ]


def _id(job: Job) -> str:
    return f"chatcmpl-{job.id.removeprefix('job_')}"


def _usage(job: Job) -> dict[str, Any]:
    usage = usage_of(job.usage) or {}
    return {
        "prompt_tokens": usage.get("input_tokens", 0),
        "completion_tokens": usage.get("output_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
        "cost": job.cost.amount,
    }


# -- streaming -----------------------------------------------------------------------------------


async def _stream(call: Call, draft: Draft, ask: ChatRequest, form: _Form) -> web.StreamResponse:
    async with call.context.reception.watched(asker_of(call), draft) as watched:
        call.request[JOB_ID] = watched.job.id
        async with Events(call.request, {"X-Job-Id": watched.job.id}) as events:
            chunks = _Chunks(call, events, form)
            await chunks.begin(watched.job)
            longest = call.context.settings.limits.max_stream
            async for step in watched.steps(longest, call.is_gone):
                if isinstance(step, Quiet):
                    await events.keep_alive()
                elif isinstance(step, Job):
                    await chunks.images(step)
            options = ask.stream_options
            await chunks.end(watched.job, with_usage=options is not None and options.include_usage)
    return events.response


class _Chunks:
    """The pieces of one streamed answer."""

    def __init__(self, call: Call, events: Events, form: _Form) -> None:
        self._call = call
        self._events = events
        self._form = form
        self._told: set[int] = set()

    async def begin(self, job: Job) -> None:
        await self._send(job, {"role": "assistant", "content": ""})

    async def images(self, job: Job) -> None:
        """Send the images that are new."""
        for image in made(job):
            if image.index in self._told:
                continue
            part = await _part(self._call, image)
            delta: dict[str, Any] = {"images": [{**part, "index": len(self._told)}]}
            if not self._form.in_parts:
                delta["content"] = self._apart(_drawn(part))
            await self._send(job, delta)
            self._told.add(image.index)

    async def end(self, job: Job, *, with_usage: bool) -> None:
        """Send what is left to say."""
        if job.is_ended and (made(job) or _is_text(job)):
            if job.text:
                await self._send(job, {"content": self._apart(job.text)})
            if self._form.by_tool and made(job):
                await self._send(job, {"tool_calls": _tool_calls(job)})
            await self._send(job, {}, finish_reason="stop")
            if with_usage:
                await self._events.send({**_chunk(job), "choices": [], "usage": _usage(job)})
        else:
            await self._events.send(dict(end_error(job)))
        await self._events.send(b"[DONE]")

    def _apart(self, text: str) -> str:
        """Keep a text from the images before it, where they are in the text too."""
        return f"\n\n{text}" if self._told and not self._form.in_parts else text

    async def _send(
        self, job: Job, delta: dict[str, Any], *, finish_reason: str | None = None
    ) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        await self._events.send({**_chunk(job), "choices": [choice]})


def _chunk(job: Job) -> dict[str, Any]:
    return {
        "id": _id(job),
        "object": "chat.completion.chunk",
        "created": int(job.created_at),
        "model": job.model,
    }
