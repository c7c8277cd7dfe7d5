"""One image of a job: its bytes, its renditions, and the links that lead to them.

`GET …/images/{index}` is the address that never rots: each time it signs a fresh link. A share link
is one for people without a key; its secret lies in the image's record, so it lives as long as the
image and ends when its owner says so. Whatever is written here is written to jobs that have ended:
a running one belongs to its worker.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from service.body import read_json
from service.context import Call, Context
from service.endpoints.jobs import job_of
from service.endpoints.results import send_object
from service.wire.fields import read
from service.wire.links import SignRequest
from service.wire.renditions import RenditionsRequest
from storage import queue, redis_keys
from storage.document import LINK_LIFETIME, link_of, rendition_document
from storage.errors import Conflict, Invalid, Missing
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.rendition import Rendition, RenditionStatus


_TRIES: Final = 20
_TOKEN: Final = re.compile(r"([0-9a-f]{32})-([0-9]{1,2})-([0-9a-f]{32})")


# -- bytes ---------------------------------------------------------------------------------------


async def image(call: Call) -> web.StreamResponse:
    """Lead to one image by a fresh link, or with `?proxy=1` send its bytes."""
    job, made = await _found(call)
    return await _shown(call.request, call.context, job, made, None)


async def rendition(call: Call) -> web.StreamResponse:
    """Lead to one rendition by a fresh link, or with `?proxy=1` send its bytes."""
    job, made = await _found(call)
    return await _shown(call.request, call.context, job, made, call.request.match_info["name"])


async def shared(request: web.Request, context: Context) -> web.StreamResponse:
    """Lead whoever has a share link to its image; nobody learns why another token does not."""
    match = _TOKEN.fullmatch(request.match_info["token"])
    job = None if match is None else await context.jobs.find(f"job_{match[1]}")
    made = None if match is None or job is None else _image(job, match[2])
    if match is None or job is None or made is None or made.share is None:
        raise Missing("There is nothing at this address.")
    if not hmac.compare_digest(made.share, match[3]):
        raise Missing("There is nothing at this address.")
    return await _shown(request, context, job, made, request.query.get("rendition"))


async def _shown(
    request: web.Request, context: Context, job: Job, image: Image, name: str | None
) -> web.StreamResponse:
    file = image if name is None else _rendition(image, name)
    if _wants_bytes(request):
        filename = image.filename if isinstance(file, Image) else image.filename_of(file)
        return await send_object(
            request,
            context.objects,
            file.key or "",
            content_type=file.content_type or "application/octet-stream",
            filename=f"{job.id}-{filename}",
            etag=file.sha256,
        )
    link = link_of(job, image, file, context.objects, context.clock(), lifetime=LINK_LIFETIME)
    # The link dies before the address does, so nobody may remember where it led.
    return web.Response(status=302, headers={"Location": link.url, "Cache-Control": "no-store"})


# -- renditions ----------------------------------------------------------------------------------


async def renditions(call: Call) -> web.StreamResponse:
    """List the renditions of an image."""
    job, made = await _found(call)
    return _list(call, job, made)


async def render(call: Call) -> web.StreamResponse:
    """Have renditions made of an image that is there; those that it has are not made again."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(RenditionsRequest, body.fields)
    recipes = tuple(one.recipe for one in ask.renditions)
    job, made = await _changed(call, lambda image: image.asked(recipes))
    if len(made.ready) == len(made.renditions):
        return _list(call, job, made)
    await queue.put(
        call.context.commands,
        redis_keys.IMAGE_QUEUE,
        queue.RENDER,
        queue.render_task(job.id),
        call.context.clock(),
    )
    return _list(call, job, made, status=202)


def _list(call: Call, job: Job, image: Image, *, status: int = 200) -> web.Response:
    objects, now = call.context.objects, call.context.clock()
    data = [
        rendition_document(one, link_of(job, image, one, objects, now))
        if one.status is RenditionStatus.SUCCEEDED
        else rendition_document(one, None)
        for one in image.renditions
    ]
    headers = {"Retry-After": "1"} if status == 202 else {}
    return _json({"object": "list", "data": data}, status=status, headers=headers)


# -- links ---------------------------------------------------------------------------------------


async def sign(call: Call) -> web.StreamResponse:
    """Sign a link to an image or a rendition that lives as long as is asked."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(SignRequest, body.fields)
    job, made = await _found(call)
    file = made if ask.rendition is None else _rendition(made, ask.rendition)
    objects, now = call.context.objects, call.context.clock()
    link = link_of(job, made, file, objects, now, lifetime=ask.expires_in)
    return _json({"object": "link", "url": link.url, "expires_at": int(link.expires_at)})


async def share(call: Call) -> web.StreamResponse:
    """Give an image a link that needs no key; one that it has already is given again."""
    new = secrets.token_hex(16)
    job, made = await _changed(
        call, lambda image: image if image.share else replace(image, share=new)
    )
    token = f"{job.id.removeprefix('job_')}-{made.index}-{made.share}"
    url = f"{call.context.settings.public_url.rstrip('/')}/s/{token}"
    document = {"object": "share", "job": job.id, "index": made.index, "token": token, "url": url}
    return _json(document, status=201)


async def unshare(call: Call) -> web.StreamResponse:
    """End the link that needs no key; a later one will be another."""
    job, made = await _changed(call, lambda image: replace(image, share=None))
    return _json({"object": "share", "job": job.id, "index": made.index, "deleted": True})


# -- finding and changing ------------------------------------------------------------------------


async def _found(call: Call) -> tuple[Job, Image]:
    job = await job_of(call)
    made = _image(job, call.request.match_info["index"])
    if made is None:
        raise Missing("There is no such image.", code="image_not_found")
    return job, made


async def _changed(call: Call, change: Callable[[Image], Image]) -> tuple[Job, Image]:
    """Change an image on record, of a job that has ended, and return both as they are then."""
    for _ in range(_TRIES):
        job, made = await _found(call)
        new = change(made)
        if new == made and job.is_ended:
            return job, made
        written = await call.context.jobs.swap(job, job.with_image(new))
        if written is not None:
            return written, new
    raise Conflict("The image is changing too fast; try again.", code="job_busy")


def _image(job: Job, index: str) -> Image | None:
    made = next((image for image in job.images if str(image.index) == index), None)
    return made if made is not None and made.status is ImageStatus.SUCCEEDED else None


def _rendition(image: Image, name: str) -> Rendition:
    found = image.rendition(name)
    if found is None or found.status is not RenditionStatus.SUCCEEDED:
        raise Missing("There is no such rendition.", code="rendition_not_found")
    return found


def _wants_bytes(request: web.Request) -> bool:
    for name in request.query:
        if name not in {"proxy", "rendition"}:
            raise Invalid("Unknown parameter.", param=name[:100], code="unknown_parameter")
    return request.query.get("proxy", "0") in {"1", "true"}


def _json(
    document: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(document),
        status=status,
        headers=headers,
        content_type="application/json",
    )
