"""OpenAI's image doors, `/v1/images/…`, and AIGNE Hub's, `/api/images/generations`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from service.body import Body, read_json, read_json_or_form
from service.context import Call
from service.draft import Draft, request_of
from service.endpoints.image_stream import stream_images
from service.inputs import FILES, all_named, files_of, mask_of, named
from service.preference import preference
from service.replies import encoded, extras, looks, made, usage_of
from service.submission import answer_when_ended
from service.wire.fields import read
from service.wire.images import (
    Compatible,
    EditRequest,
    GenerationRequest,
    HubRequest,
    VariationRequest,
)
from storage.document import LINK_LIFETIME, links_of
from storage.errors import Invalid
from storage.image import Image
from storage.job import Job
from storage.objects import Objects
from storage.request import Adaptation, Request


_AT_ONCE: Final = 1024 * 1024  # bytes of an answer that leaves in one piece
HOUR: Final = 3600.0
HUB_MODEL: Final = "dall-e-2"
AS_IMAGE: Final = {"images": "image"}
VARY: Final = "Make a variation of this image."


async def generations(call: Call) -> web.StreamResponse:
    """Make images from a prompt and answer with them."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(GenerationRequest, stated(body.fields))
    return await _answered(call, _draft("images.generations", ask, body), ask)


def generation_of(body: Body) -> Draft:
    """Return what the JSON of a generation asks for."""
    return _draft("images.generations", read(GenerationRequest, stated(body.fields)), body)


async def edit_of(call: Call, body: Body) -> Draft:
    """Return what the JSON of an edit asks for."""
    draft, _ = await _edit_json(call, body)
    return draft


async def edits(call: Call) -> web.StreamResponse:
    """Make images from images and answer with them."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FILES
    )
    draft, ask = await (_edit_form(body) if body.is_form else _edit_json(call, body))
    return await _answered(call, draft, ask)


async def variations(call: Call) -> web.StreamResponse:
    """Make variations of one image, by an edit that asks for nothing else."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FILES
    )
    ask = read(VariationRequest, stated(body.typed(VariationRequest)))
    images = files_of(body)
    if len(images) != 1 or mask_of(body) is not None:
        raise Invalid("A variation needs exactly one image.", param="image")
    draft = Draft(
        door="images.variations",
        model=ask.model,
        request=Request(prompt=VARY, n=ask.n, size=ask.size, user=ask.user),
        extras=ask,
        body=body,
        images=images,
        ignored=tuple(ask.model_extra or ()),
        adapted=(Adaptation(param="prompt", action="adapted", used=VARY),),
        names=AS_IMAGE,
    )
    return await _shown(call, draft, as_url=ask.response_format == "url")


async def hub_generations(call: Call) -> web.StreamResponse:
    """Answer as AIGNE Hub does: links that live for an hour, unless base64 is asked for."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(HubRequest, stated(body.fields))
    images = await all_named(call, ask.image, "image")
    usual = HUB_MODEL if call.context.catalog.resolve(HUB_MODEL) is not None else None
    draft = Draft(
        door="hub.images.generations",
        model=ask.model or usual,
        request=request_of(ask),
        extras=ask,
        body=body,
        images=images,
        ignored=tuple(ask.model_extra or ()),
        names=AS_IMAGE,
    )
    return await _shown(call, draft, as_url=ask.response_format != "b64_json", lifetime=HOUR)


async def _edit_form(body: Body) -> tuple[Draft, Compatible]:
    ask = read(Compatible, stated(body.typed(Compatible)))
    images = files_of(body)
    if not images:
        raise Invalid("An edit needs an image.", param="image", code="missing_parameter")
    draft = _draft("images.edits", ask, body)
    return replace(draft, images=images, mask=mask_of(body), names=AS_IMAGE), ask


async def _edit_json(call: Call, body: Body) -> tuple[Draft, Compatible]:
    ask = read(EditRequest, stated(body.fields))
    images = await all_named(call, ask.images, "images")
    mask = None if ask.mask is None else await named(call, ask.mask, "mask")
    return replace(_draft("images.edits", ask, body), images=images, mask=mask), ask


def _draft(door: str, ask: Compatible, body: Body) -> Draft:
    previews = ask.partial_images if ask.stream else None
    return Draft(
        door=door,
        model=ask.model,
        request=replace(request_of(ask), partial_images=previews),
        extras=ask,
        body=body,
        ignored=tuple(ask.model_extra or ()),
    )


async def _answered(call: Call, draft: Draft, ask: Compatible) -> web.StreamResponse:
    if ask.stream and not preference(call.request.headers).is_now:
        return await stream_images(call, draft)
    return await _shown(call, draft, as_url=ask.response_format == "url")


async def _shown(
    call: Call, draft: Draft, *, as_url: bool, lifetime: float = LINK_LIFETIME
) -> web.StreamResponse:
    async def show(job: Job, headers: dict[str, str]) -> web.StreamResponse:
        if as_url:
            return await send_links(call, job, headers, lifetime=lifetime)
        return await send_base64(call, job, headers)

    return await answer_when_ended(call, draft, show)


def stated(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null: OpenAI's clients write it for what they do not set."""
    return {name: value for name, value in fields.items() if value is not None}


# -- showing -------------------------------------------------------------------------------------


async def send_links(
    call: Call, job: Job, headers: dict[str, str], *, lifetime: float = LINK_LIFETIME
) -> web.StreamResponse:
    """Send what was made as links that live for `lifetime` seconds."""
    links = links_of(job, call.context.objects, call.context.clock(), lifetime=lifetime)
    data = [{"url": links[image.index].url, **_words(image)} for image in made(job)]
    return web.Response(
        body=orjson.dumps({**envelope(job), "data": data}),
        content_type="application/json",
        headers=headers,
    )


async def send_base64(call: Call, job: Job, headers: dict[str, str]) -> web.StreamResponse:
    """Send what was made as base64, large images one at a time in memory.

    The length is known beforehand from the record, and the first object is read before the answer
    begins, so that what is gone is still told by a status.
    """
    images = made(job)
    head = orjson.dumps(envelope(job))[:-1] + b',"data":['
    openings = [
        (b"," if at else head) + b"{" + _opening(image) + b'"b64_json":"'
        for at, image in enumerate(images)
    ]
    length = 2 + sum(len(opening) + 2 for opening in openings)
    length += sum(((image.bytes or 0) + 2) // 3 * 4 for image in images)
    pieces = _pieces(call.context.objects, images, openings)
    first = await anext(pieces)
    if length <= _AT_ONCE:
        body = b"".join([first, *[piece async for piece in pieces]])
        return web.Response(body=body, content_type="application/json", headers=headers)
    answer = web.StreamResponse(headers=headers)
    answer.content_type = "application/json"
    answer.content_length = length
    await answer.prepare(call.request)
    await answer.write(first)
    async for piece in pieces:
        await answer.write(piece)
    await answer.write_eof()
    return answer


async def _pieces(
    objects: Objects, images: Sequence[Image], openings: Sequence[bytes]
) -> AsyncIterator[bytes]:
    for image, opening in zip(images, openings, strict=True):
        data = await encoded(objects, image)
        yield opening
        yield data
        yield b'"}' if image is not images[-1] else b'"}]}'


def envelope(job: Job) -> dict[str, Any]:
    """Return OpenAI's reply without the images."""
    document = {"created": int(job.finished_at or job.created_at), **looks(job), **extras(job)}
    if (usage := usage_of(job.usage)) is not None:
        document["usage"] = usage
    return document


def _words(image: Image) -> dict[str, str]:
    return {} if image.revised_prompt is None else {"revised_prompt": image.revised_prompt}


def _opening(image: Image) -> bytes:
    words = _words(image)
    return orjson.dumps(words)[1:-1] + b"," if words else b""
