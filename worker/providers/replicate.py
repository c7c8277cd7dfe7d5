"""Replicate: predictions, whose input is that of the model, so the models differ.

A model is "owner/name", asked for at its own route; "owner/name:version" asks for that version.

What a deployment's `options` may say, because models differ:

    deployment = true               the model is one of the account's own deployments
    images_field = "input_images"   a list of input pictures under this name, or
    image_field = "image"           one alone under this one
    mask_field = "mask"             the name of the mask, white where the picture may change
    resolutions = {"1K" = "1 MP"}   what the model calls our tiers
    poll_seconds = 0.5              the first pause between two polls
    body = {…}                      further fields for every input, e.g. `safety_tolerance`
    edit_body = {…}                 further fields for edits, e.g. a ratio of `match_input_image`

An order's options are further fields too; neither can replace what an order says by itself.
"""

import io
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from storage.catalog import Deployment
from storage.failure import FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.polling import Polling, Ticket
from worker.provider import Order, Progress, ProviderError, Reply, Tools
from worker.reply import NO_IMAGE, replied
from worker.upstream import MIB, Upstream, file_room


FAMILY: Final = "replicate.com"
LONGEST_DATA_URL: Final = 256 * 1024
_RESERVED: Final = frozenset({"prompt", "num_outputs"})
_ENDED: Final = frozenset({"succeeded", "failed", "canceled", "aborted"})
_POLICY: Final = ("nsfw", "e005", "flagged", "sensitive", "safety", "moderat", "content policy")
_FORMATS: Final = {"jpeg": "jpg"}


class Replicate:
    """Creates predictions and polls them; large inputs are uploaded first."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._options = deployment.options
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge, family=FAMILY
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        path, body = self._route(order.model)
        body["input"] = await self._input(order)
        answer = await self._upstream.call("POST", path, json=body, limit=MIB, prompt=order.prompt)
        taken = self._upstream.read(answer, prompt=order.prompt)
        ticket = Ticket.of(taken, url=wire.at(taken, "urls", "get", kind=str))
        await progress.submitted(str(ticket))
        return await self._finish(order, ticket)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    def _route(self, model: str) -> tuple[str, dict[str, Any]]:
        """Return the path of the model, and the version if the body has to name it."""
        if self._options.get("deployment"):
            return f"/deployments/{quote(model)}/predictions", {}
        if ":" in model:
            return "/predictions", {"version": model}
        return f"/models/{quote(model)}/predictions", {}

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        url = ticket.url or f"/predictions/{quote(ticket.id, safe='')}"

        async def ask() -> dict[str, Any] | None:
            body = await self._polling.get(url)
            return body if body.get("status") in _ENDED else None

        body = await self._polling.until(ask)
        if body["status"] != "succeeded":
            raise self._failed(body, order)
        output = body.get("output")
        urls = [output] if isinstance(output, str) else wire.at(body, "output", kind=list) or []
        outcomes = [
            await self._upstream.picture(url, limit=file_room(order))
            if isinstance(url, str)
            else NO_IMAGE
            for url in urls[: order.n]
        ]
        return replied(order, outcomes, upstream_id=str(ticket))

    def _failed(self, body: Mapping[str, Any], order: Order) -> ProviderError:
        text = wire.at(body, "error", kind=str) or ""
        if any(part in text.lower() for part in _POLICY):
            shown = self._upstream.shown(text, prompt=order.prompt)
            return ProviderError(shown, code=FailureCode.CONTENT_POLICY)
        message = f"The upstream's task {'failed' if body['status'] == 'failed' else 'was ended'}."
        return ProviderError(message, code=FailureCode.UPSTREAM_ERROR)

    async def _input(self, order: Order) -> dict[str, Any]:
        names: Mapping[str, str] = self._options.get("resolutions", {})
        sized = order.mask is None  # what fills a mask keeps the size of the picture
        asked: dict[str, Any] = {
            "prompt": order.prompt,
            "num_outputs": order.n if order.n != 1 else None,
            "aspect_ratio": order.aspect_ratio if sized else None,
            "resolution": names.get(order.resolution or "", order.resolution),
            "width": order.width if sized else None,
            "height": order.height if sized else None,
            "seed": order.seed,
            "negative_prompt": order.negative_prompt,
            "output_format": _FORMATS.get(order.output_format or "", order.output_format),
            "output_quality": order.output_compression,
        }
        urls = [await self._url(source.data, source.content_type) for source in order.images]
        if urls and (name := self._options.get("image_field")):
            asked[str(name)] = urls[0]
        elif urls:
            asked[str(self._options.get("images_field", "input_images"))] = urls
        if order.mask is not None:
            white = await self._imaging.mask_to_white(order.mask.data)
            name = str(self._options.get("mask_field", "mask"))
            asked[name] = await self._url(white, "image/png")
        further = [self._options.get("body", {})]
        if order.edit:
            further.append(self._options.get("edit_body", {}))
        return fields(asked, *further, order.options, reserved=_RESERVED)

    async def _url(self, data: bytes, content_type: str) -> str:
        """Return a URL of an input: one that carries it, or that of a file uploaded for it."""
        if len(data) * 4 // 3 < LONGEST_DATA_URL:
            return wire.data_url(data, content_type)
        form = aiohttp.FormData()
        form.add_field("content", io.BytesIO(data), filename="input", content_type=content_type)
        try:
            answer = await self._upstream.call("POST", "/files", data=form, limit=MIB)
            url = wire.at(self._upstream.read(answer), "urls", "get", kind=str)
        except ProviderError as error:
            error.outcome_unknown, error.charged = False, False  # nothing was asked for yet
            raise
        if url is None:
            message = "The upstream did not keep an input image."
            raise ProviderError(message, code=FailureCode.UPSTREAM_ERROR)
        return url


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: the statuses tell."""
    return code_of(said.status)
