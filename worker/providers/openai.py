"""OpenAI's image API, and all that speak it: Azure, relays, LocalAI, vLLM, SGLang, sd.cpp.

What a deployment's `options` may say, because likenesses differ:

    auth = "api-key"             the header of the key, instead of a bearer token (Azure)
    api_version = "…"            the query parameter of that name (Azure)
    organization, project        OpenAI's headers of that name
    edits = "json"               edits as JSON with data URLs, instead of multipart
    image_field = "image"        the name of each input in multipart, instead of `image[]` for many
    response_format = "b64_json" for servers that answer URLs otherwise; never sent to GPT-Image
    body = {…}                   further fields for every request

An order's options are further fields too; neither can replace what an order says by itself.
"""

import asyncio
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import aiohttp
import orjson

from storage.attempt import Usage
from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.arrivals import Arrivals
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import (
    Order,
    Picture,
    Progress,
    ProviderError,
    Reply,
    Source,
    Tools,
)
from worker.reply import BROKEN_OFF, NO_IMAGE, decoded, replied
from worker.upstream import Upstream, events, file_room, request_id, room
from worker.web import Answer


_CODES: Final = {
    "moderation_blocked": FailureCode.CONTENT_POLICY,
    "content_policy_violation": FailureCode.CONTENT_POLICY,
    "content_filter": FailureCode.CONTENT_POLICY,
    "contentFilter": FailureCode.CONTENT_POLICY,
    "insufficient_quota": FailureCode.BILLING,
    "insufficient_user_quota": FailureCode.BILLING,
    "billing_hard_limit_reached": FailureCode.BILLING,
    "billing_not_active": FailureCode.BILLING,
    "invalid_api_key": FailureCode.AUTH,
    "model_not_found": FailureCode.MODEL_NOT_FOUND,
    "DeploymentNotFound": FailureCode.MODEL_NOT_FOUND,
    "rate_limit_exceeded": FailureCode.RATE_LIMITED,
    "invalid_image_file": FailureCode.INVALID_IMAGE,
    "unsupported_file_mimetype": FailureCode.INVALID_IMAGE,
}
_REFUSAL: Final = "safety system"
_GPT_IMAGE: Final = ("gpt-image-", "chatgpt-image-")
_RESERVED: Final = frozenset(
    {"model", "prompt", "n", "stream", "partial_images"}
    | {"image", "image[]", "images", "mask", "response_format"}
)
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class OpenAI:
    """Generates by JSON, edits by multipart, streams when previews are wanted."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._options = deployment.options
        self._upstream = Upstream(
            tools.web,
            deployment,
            api_key=api_key,
            headers=_headers(deployment.options, api_key),
            judge=judge,
        )
        version = deployment.options.get("api_version")
        self._params = None if version is None else {"api-version": str(version)}

    async def generate(self, order: Order, progress: Progress) -> Reply:
        if order.partial_images:
            return await self._generate_streaming(order, progress)
        answer = await self._upstream.call("POST", **self._call(order))
        return await self._read(answer, order)

    async def _generate_streaming(self, order: Order, progress: Progress) -> Reply:
        """Ask for a stream; what is complete is kept, also when the rest never comes."""
        seen = Arrivals(order, progress, usage_of=_usage)
        lost = BROKEN_OFF
        try:
            async with self._upstream.stream("POST", **self._call(order)) as stream:
                if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                    answer = Answer(stream.status, stream.headers, await stream.read())
                    return await self._read(answer, order)
                seen.upstream_id = request_id(stream.headers)
                async for event in events(stream, limit=room(order)):
                    if event.get("error") or event.get("type") == "error":
                        raise self._upstream.refusal(200, {}, event, prompt=order.prompt)
                    await seen.add(event)
        except ProviderError as error:
            if not seen.outcomes:
                raise
            lost = error.as_failure()
        return seen.reply(lost)

    # -- asking ----------------------------------------------------------------------------------

    def _call(self, order: Order) -> dict[str, Any]:
        """Return the arguments of the call that `order` is."""
        said = self._fields(order)
        call: dict[str, Any] = {
            "path": "/images/edits" if order.edit else "/images/generations",
            "params": self._params,
            "limit": room(order, previews=order.n * (order.partial_images or 0)),
            "prompt": order.prompt,
        }
        if not order.edit:
            return call | {"json": said}
        if self._options.get("edits") == "json":
            return call | {"json": said | _references(order)}
        return call | {"data": self._form(said, order)}

    def _fields(self, order: Order) -> dict[str, Any]:
        """Return what is not a file; what was not asked for is left out."""
        asked = {
            "model": order.model,
            "prompt": order.prompt,
            "n": order.n if order.n != 1 else None,
            "size": f"{order.width}x{order.height}" if order.width else None,
            "quality": order.quality,
            "background": order.background,
            "output_format": order.output_format,
            "output_compression": order.output_compression,
            "moderation": order.moderation,
            "input_fidelity": order.input_fidelity if order.edit else None,
            "style": order.style,
            "seed": order.seed,
            "negative_prompt": order.negative_prompt,
            "user": order.user,
        }
        if order.partial_images:
            asked |= {"stream": True, "partial_images": order.partial_images}
        if not order.model.startswith(_GPT_IMAGE):
            asked["response_format"] = self._options.get("response_format")
        return fields(asked, self._options.get("body", {}), order.options, reserved=_RESERVED)

    def _form(self, said: Mapping[str, Any], order: Order) -> aiohttp.FormData:
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in said.items():
            form.add_field(name, value if isinstance(value, str) else orjson.dumps(value).decode())
        many = "image[]" if len(order.images) > 1 else "image"
        for number, source in enumerate(order.images, 1):
            _attach(form, self._options.get("image_field", many), source, f"image_{number}")
        if order.mask is not None:
            _attach(form, "mask", order.mask, "mask")
        return form

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, answer: Answer, order: Order) -> Reply:
        body, lifted = self._upstream.read_large(answer, "b64_json", prompt=order.prompt)
        items = wire.items_at(body, "data")[: order.n]
        outcomes = await asyncio.gather(*(self._picture(item, lifted, order) for item in items))
        upstream_id = request_id(answer.headers)
        return replied(order, outcomes, usage=_usage(body), upstream_id=upstream_id)

    async def _picture(
        self, item: Mapping[str, Any], lifted: Sequence[memoryview], order: Order
    ) -> Picture | Failure:
        revised = wire.at(item, "revised_prompt", kind=str) or None
        if text := wire.large_at(item, lifted, "b64_json"):
            return decoded(text, revised_prompt=revised)
        if url := wire.at(item, "url", kind=str):
            return await self._upstream.picture(url, limit=file_room(order), revised_prompt=revised)
        return NO_IMAGE


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means."""
    code = _CODES.get(said.code) or _CODES.get(said.kind)
    if code is None and said.status == 400 and _REFUSAL in said.message:
        code = FailureCode.CONTENT_POLICY
    if code is None:
        code = code_of(said.status)
    if code is FailureCode.RATE_LIMITED and said.should_retry is False:
        return FailureCode.BILLING
    if code is FailureCode.INVALID_REQUEST and said.should_retry is True:
        return FailureCode.UPSTREAM_ERROR
    return code


def _headers(options: Mapping[str, Any], api_key: str | None) -> dict[str, str]:
    headers = {}
    if api_key is not None and options.get("auth") == "api-key":
        headers["api-key"] = api_key
    elif api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    for option, name in (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project")):
        if option in options:
            headers[name] = str(options[option])
    return headers


def _attach(form: aiohttp.FormData, name: str, source: Source, stem: str) -> None:
    """Add a file under a name of our own: the client's may be anything."""
    form.add_field(
        name,
        io.BytesIO(source.data),
        filename=f"{stem}.{_EXTENSIONS.get(source.content_type, 'bin')}",
        content_type=source.content_type,
    )


def _references(order: Order) -> dict[str, Any]:
    images = [{"image_url": wire.data_url(s.data, s.content_type)} for s in order.images]
    if order.mask is None:
        return {"images": images}
    mask = {"image_url": wire.data_url(order.mask.data, order.mask.content_type)}
    return {"images": images, "mask": mask}


def _usage(body: Mapping[str, Any]) -> Usage | None:
    if wire.at(body, "usage", kind=dict) is None:
        return None
    count = partial(wire.at, body, "usage", kind=int)
    into = partial(wire.at, body, "usage", "input_tokens_details", kind=int)
    out_of = partial(wire.at, body, "usage", "output_tokens_details", kind=int)
    return Usage(
        input_tokens=count("input_tokens"),
        input_text_tokens=into("text_tokens"),
        input_image_tokens=into("image_tokens"),
        cached_tokens=into("cached_tokens"),
        output_tokens=count("output_tokens"),
        output_text_tokens=out_of("text_tokens"),
        output_image_tokens=out_of("image_tokens"),
        total_tokens=count("total_tokens"),
    )
