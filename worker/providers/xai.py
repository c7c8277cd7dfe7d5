"""xAI's Grok Imagine: a ratio and a tier instead of a size, edits in JSON, its charge in ticks.

Pictures are asked for in base64: its links are temporary for an unknown time. Moderation answers
with status 200 and an empty picture, or with a reason and no picture at all.

What a deployment's `options` may say:

    body = {…}    further fields for every request

An order's options are further fields too; neither can replace what an order says by itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Picture, Progress, ProviderError, Reply, Tools
from worker.reply import NO_IMAGE, decoded, replied
from worker.upstream import Upstream, file_room, request_id, room


TICKS: Final = 10_000_000_000
_RESERVED: Final = frozenset({"model", "prompt", "n", "response_format", "image", "images"})
_WITHHELD: Final = Failure(
    code=FailureCode.CONTENT_POLICY, message="The upstream's moderation withheld the image."
)
_POLICY: Final = ("usage guidelines", "content policy", "moderation", "safety_check")
_MONEY: Final = ("credits", "spending limit", "billing")


class XAI:
    """Generates, and edits up to three pictures at once."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._body: Mapping[str, Any] = deployment.options.get("body", {})
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        answer = await self._upstream.call(
            "POST",
            "/images/edits" if order.edit else "/images/generations",
            json=self._fields(order),
            limit=room(order),
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        items = wire.items_at(body, "data")
        if not items and (reason := _reason(body)) is not None:
            raise ProviderError(
                self._upstream.shown(reason, prompt=order.prompt), code=FailureCode.CONTENT_POLICY
            )
        ticks = wire.number_at(body, "usage", "cost_in_usd_ticks")
        return replied(
            order,
            [await self._outcome(item, order) for item in items[: order.n]],
            cost=None if ticks is None else ticks / TICKS,
            upstream_id=request_id(answer.headers),
        )

    def _fields(self, order: Order) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "model": order.model,
            "prompt": order.prompt,
            "n": order.n if order.n != 1 else None,
            "aspect_ratio": order.aspect_ratio,
            "resolution": order.resolution.lower() if order.resolution else None,
            "quality": order.quality,
            "user": order.user,
            "response_format": "b64_json",
        }
        sources = [
            {"url": wire.data_url(source.data, source.content_type), "type": "image_url"}
            for source in order.images
        ]
        if sources:
            asked |= {"image": sources[0]} if len(sources) == 1 else {"images": sources}
        return fields(asked, self._body, order.options, reserved=_RESERVED)

    async def _outcome(self, item: Mapping[str, Any], order: Order) -> Picture | Failure:
        if item.get("respect_moderation") is False:
            return _WITHHELD
        revised = wire.at(item, "revised_prompt", kind=str) or None
        if text := wire.at(item, "b64_json", kind=str):
            return decoded(text, revised_prompt=revised)
        if url := wire.at(item, "url", kind=str):
            return await self._upstream.picture(url, limit=file_room(order), revised_prompt=revised)
        return NO_IMAGE


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: only its words tell a refusal from a mistake."""
    words = said.message.lower()
    if said.status in {400, 403} and any(part in words for part in _POLICY):
        return FailureCode.CONTENT_POLICY
    if said.status in {403, 429} and any(part in words for part in _MONEY):
        return FailureCode.BILLING
    return code_of(said.status)


def _reason(body: Mapping[str, Any]) -> str | None:
    """Return the one text that an answer without pictures holds: why the prompt was blocked."""
    texts = [value for name, value in body.items() if isinstance(value, str) and name != "id"]
    return texts[0] if texts else None
