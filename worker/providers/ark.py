"""Volcengine Ark and BytePlus ModelArk: Seedream, where one route generates and edits.

Pictures are asked for in base64: the alternative is a second download, from a bucket that forgets.
A deployment whose `capabilities.n` is above 1 makes groups, and with `capabilities.stream` gives
each picture of a group as it is finished, so that a lost connection does not lose those before it.

What a deployment's `options` may say:

    body = {…}    further fields for every request, e.g. `guidance_scale`, `optimize_prompt_options`

An order's options are further fields too; neither can replace what an order says by itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from storage.attempt import Usage
from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from storage.request import Adaptation
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Picture, Progress, ProviderError, Reply, Tools
from worker.reply import BROKEN_OFF, NO_IMAGE, decoded, replied
from worker.upstream import Upstream, events, file_room, request_id, room
from worker.web import Answer


_PATH: Final = "/images/generations"
_RESERVED: Final = frozenset(
    {"model", "prompt", "n", "image", "size", "stream", "response_format", "watermark"}
    | {"sequential_image_generation", "sequential_image_generation_options"}
)
_CODES: Final = (
    ("SensitiveContentDetected", FailureCode.CONTENT_POLICY),
    ("RiskDetection", FailureCode.CONTENT_POLICY),
    ("PolicyViolation", FailureCode.CONTENT_POLICY),
    ("AccountOverdue", FailureCode.BILLING),
    ("QuotaExceeded", FailureCode.BILLING),
    ("SetLimitExceeded", FailureCode.BILLING),
    ("ServerOverloaded", FailureCode.OVERLOADED),
    ("InvalidImage", FailureCode.INVALID_IMAGE),
    ("Authentication", FailureCode.AUTH),
    ("ModelNotOpen", FailureCode.MODEL_NOT_FOUND),
)


class Ark:
    """Generates and edits with the same call; an edit is a request with pictures."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._can = deployment.capabilities
        self._body: Mapping[str, Any] = deployment.options.get("body", {})
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        if order.n > 1 and self._can.stream:
            return await self._generate_streaming(order)
        answer = await self._upstream.call(
            "POST", _PATH, json=self._fields(order), limit=room(order), prompt=order.prompt
        )
        return await self._read(answer, order)

    async def _generate_streaming(self, order: Order) -> Reply:
        """Ask for a group; its finished pictures are kept, also when the rest never comes."""
        outcomes: list[Picture | Failure] = []
        usage, upstream_id, lost = None, None, BROKEN_OFF
        try:
            asked = self._fields(order) | {"stream": True}
            async with self._upstream.stream(
                "POST", _PATH, json=asked, limit=room(order), prompt=order.prompt
            ) as stream:
                if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                    answer = Answer(stream.status, stream.headers, await stream.read())
                    return await self._read(answer, order)
                upstream_id = request_id(stream.headers)
                async for event in events(stream, limit=room(order)):
                    kind = wire.at(event, "type", kind=str) or ""
                    if kind.endswith(".completed"):
                        usage, lost = _usage(event), NO_IMAGE
                    elif kind:
                        outcomes.append(await self._outcome(event, order))
                    else:
                        raise self._upstream.refusal(200, {}, event, prompt=order.prompt)
        except ProviderError as error:
            if not outcomes:
                raise
            lost = error.as_failure()
        return replied(
            order,
            outcomes,
            missing=lost,
            usage=usage,
            upstream_id=upstream_id,
            adaptations=_adaptations(order),
        )

    async def _read(self, answer: Answer, order: Order) -> Reply:
        body = self._upstream.read(answer, prompt=order.prompt)
        outcomes = [
            await self._outcome(item, order) for item in wire.items_at(body, "data")[: order.n]
        ]
        return replied(
            order,
            outcomes,
            usage=_usage(body),
            upstream_id=request_id(answer.headers),
            adaptations=_adaptations(order),
        )

    def _fields(self, order: Order) -> dict[str, Any]:
        """Return the request. The watermark is always named: unnamed, the upstream adds one."""
        images = [wire.data_url(source.data, source.content_type) for source in order.images]
        several = len(self._can.formats) > 1
        asked: dict[str, Any] = {
            "model": order.model,
            "prompt": order.prompt,
            "image": images[0] if len(images) == 1 else images or None,
            "size": f"{order.width}x{order.height}" if order.width else order.resolution,
            "seed": order.seed,
            "output_format": order.output_format if several else None,
            "response_format": "b64_json",
            "watermark": bool(order.watermark),
        }
        if order.n > 1:
            asked["sequential_image_generation"] = "auto"
            asked["sequential_image_generation_options"] = {"max_images": order.n}
        return fields(asked, self._body, order.options, reserved=_RESERVED)

    async def _outcome(self, item: Mapping[str, Any], order: Order) -> Picture | Failure:
        """Return the picture of one item of a group, or why moderation or a fault left it out."""
        if item.get("error"):
            return self._upstream.refusal(200, {}, item, prompt=order.prompt).as_failure()
        if text := wire.at(item, "b64_json", kind=str):
            return decoded(text)
        if url := wire.at(item, "url", kind=str):
            return await self._upstream.picture(url, limit=file_room(order))
        return NO_IMAGE


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: its codes are refined with dots and suffixes."""
    return next((code for part, code in _CODES if part in said.code), code_of(said.status))


def _adaptations(order: Order) -> tuple[Adaptation, ...]:
    """Return what is lost when a ratio is asked for without pixels: the prompt decides it."""
    if order.aspect_ratio is None or order.width is not None:
        return ()
    return (Adaptation(param="aspect_ratio", action="dropped", requested=order.aspect_ratio),)


def _usage(body: Mapping[str, Any]) -> Usage | None:
    usage = wire.at(body, "usage", kind=dict)
    if usage is None:
        return None
    return Usage(
        output_tokens=wire.at(usage, "output_tokens", kind=int),
        total_tokens=wire.at(usage, "total_tokens", kind=int),
        images=wire.at(usage, "generated_images", kind=int),
    )
