"""OpenAI's image doors: `/v1/images/generations` and `/v1/images/edits`."""

from dataclasses import replace
from typing import Any

import orjson
import pybase64
from aiohttp import web

from service.body import Body, read_json, read_json_or_form
from service.context import Call
from service.draft import Draft, request_of
from service.endpoints.jobs import given_of
from service.submission import answer_when_ended
from service.wire.fields import read
from service.wire.images import Compatible, EditRequest, GenerationRequest
from storage.attempt import Usage
from storage.document import cost_document, links_of, warning_document
from storage.errors import Invalid, Missing
from storage.image import Image, ImageStatus
from storage.job import Job


FILES = frozenset({"image", "images", "mask"})
HOUR = 3600.0


async def generations(call: Call) -> web.StreamResponse:
    """Make images from a prompt and answer with them."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(GenerationRequest, _stated(body.fields))
    draft = _draft("images.generations", ask, body)
    return await _answered(call, draft, ask)


async def edits(call: Call) -> web.StreamResponse:
    """Make images from images and answer with them."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FILES
    )
    try:
        draft, ask = await _edit(call, body)
        return await _answered(call, draft, ask)
    finally:
        body.discard()


async def _edit(call: Call, body: Body) -> tuple[Draft, Compatible]:
    masks = [given for name, given in body.files if name == "mask"]
    images = [given for name, given in body.files if name != "mask"]
    ask: Compatible
    if body.is_form:
        ask = read(Compatible, _stated(body.typed(Compatible)))
    else:
        edit = read(EditRequest, _stated(body.fields))
        images = [
            await given_of(call, picture, f"images.{at}") for at, picture in enumerate(edit.images)
        ]
        masks = [] if edit.mask is None else [await given_of(call, edit.mask, "mask")]
        ask = edit
    if not images:
        raise Invalid("An edit needs an image.", param="image", code="missing_parameter")
    if len(images) > 16:
        raise Invalid("At most 16 images are taken.", param="image", code="invalid_value")
    if len(masks) > 1:
        raise Invalid("There is more than one mask.", param="mask", code="invalid_value")
    draft = _draft("images.edits", ask, body)
    return replace(draft, images=tuple(images), mask=masks[0] if masks else None), ask


def _draft(door: str, ask: Compatible, body: Body) -> Draft:
    return Draft(
        door=door,
        model=ask.model,
        request=replace(request_of(ask), partial_images=ask.partial_images),
        extras=ask,
        body=body,
        ignored=tuple(ask.model_extra or ()),
    )


async def _answered(call: Call, draft: Draft, ask: Compatible) -> web.StreamResponse:
    if ask.stream:
        raise Invalid("Streams are not served yet.", param="stream", code="unsupported")
    as_url = ask.response_format == "url"

    async def show(job: Job) -> web.StreamResponse:
        return await (send_links(call, job) if as_url else send_base64(call, job))

    return await answer_when_ended(call, draft, show)


def _stated(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null: OpenAI's clients write it for what they do not set."""
    return {name: value for name, value in fields.items() if value is not None}


# -- showing -------------------------------------------------------------------------------------


async def send_links(call: Call, job: Job, *, lifetime: float | None = None) -> web.StreamResponse:
    """Send what was made as links."""
    now = call.context.clock()
    options = {} if lifetime is None else {"lifetime": lifetime}
    links = links_of(job, call.context.objects, now, **options)
    data = [{"url": links[image.index].url, **_words(image)} for image in _made(job)]
    document = {**envelope(job), "data": data}
    return web.Response(
        body=orjson.dumps(document),
        content_type="application/json",
        headers={"X-Job-Id": job.id},
    )


async def send_base64(call: Call, job: Job) -> web.StreamResponse:
    """Send what was made as base64, one image in memory at a time.

    The length is known beforehand from the record, and the first object is read before the answer
    begins, so that what is gone is still told by a status.
    """
    made = _made(job)
    head = orjson.dumps(envelope(job))[:-1] + b',"data":['
    openings = [
        (b"," if at else b"") + b"{" + _opening(image) + b'"b64_json":"'
        for at, image in enumerate(made)
    ]
    length = len(head) + 2 + sum(len(opening) + 2 for opening in openings)
    length += sum(((image.bytes or 0) + 2) // 3 * 4 for image in made)
    data = await _encoded(call, made[0])
    answer = web.StreamResponse(headers={"X-Job-Id": job.id, "Vary": "Prefer"})
    answer.content_type = "application/json"
    answer.content_length = length
    await answer.prepare(call.request)
    await answer.write(head)
    for at, (image, opening) in enumerate(zip(made, openings, strict=True)):
        if at:
            data = await _encoded(call, image)
        await answer.write(opening)
        await answer.write(data)
        await answer.write(b'"}')
    await answer.write(b"]}")
    await answer.write_eof()
    return answer


def envelope(job: Job) -> dict[str, Any]:
    """Return what OpenAI's reply says beside the images, and what Darkroom adds to it."""
    request = job.request
    first = next(iter(_made(job)), None)
    size = None if first is None else f"{first.width}x{first.height}"
    document: dict[str, Any] = {
        "created": int(job.finished_at or job.created_at),
        "background": request.background,
        "output_format": None if first is None else _format(first),
        "quality": request.quality,
        "size": size or request.size,
        "job_id": job.id,
        "model": job.model,
        "cost": cost_document(job.cost),
        "warnings": [warning_document(warning) for warning in job.warnings],
    }
    if (usage := usage_of(job.usage)) is not None:
        document["usage"] = usage
    return {name: value for name, value in document.items() if value is not None}


def usage_of(usage: Usage | None) -> dict[str, Any] | None:
    """Return a count in OpenAI's shape, or None when the upstream did not count tokens."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    image_in, image_out = usage.input_image_tokens or 0, usage.output_image_tokens
    text_out = usage.output_text_tokens or 0
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "image_tokens": image_in,
            "text_tokens": usage.input_text_tokens
            if usage.input_text_tokens is not None
            else usage.input_tokens - image_in,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "image_tokens": image_out if image_out is not None else usage.output_tokens - text_out,
            "text_tokens": text_out,
        },
        "total_tokens": usage.total_tokens
        if usage.total_tokens is not None
        else usage.input_tokens + usage.output_tokens,
    }


def _made(job: Job) -> list[Image]:
    return [image for image in job.images if image.status is ImageStatus.SUCCEEDED]


def _words(image: Image) -> dict[str, str]:
    return {} if image.revised_prompt is None else {"revised_prompt": image.revised_prompt}


def _opening(image: Image) -> bytes:
    words = _words(image)
    return orjson.dumps(words)[1:-1] + b"," if words else b""


def _format(image: Image) -> str:
    return (image.content_type or "").rpartition("/")[2]


async def _encoded(call: Call, image: Image) -> bytes:
    data = await call.context.objects.get(image.key or "", limit=image.bytes or 0)
    if data is None or len(data) != image.bytes:
        raise Missing("The image is gone.", code="image_not_found")
    return pybase64.b64encode(data)
