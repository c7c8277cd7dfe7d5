"""OpenRouter: its image API, or its chat for the models that draw while they talk.

Of all upstreams it alone says in each answer what it charged.

What a deployment's `options` may say:

    api = "chat"                   pictures through chat, instead of the image API
    modalities = ["image"]         for chat with models that have no words
    provider = {…}                 which providers may serve, as OpenRouter's routing has it
    referer = "…", title = "…"     who is asking, for OpenRouter's own lists
    body = {…}                     further fields for every request

An order's options are further fields too (of `image_config` in chat); neither can replace what an
order says by itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from storage.attempt import Usage
from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Progress, Reply, Tools
from worker.reply import NO_IMAGE, decoded, replied
from worker.upstream import Upstream, room


_RESERVED: Final = frozenset(
    {"model", "prompt", "n", "stream", "messages", "modalities", "input_references", "provider"}
)
_KINDS: Final = {
    "content_policy_violation": FailureCode.CONTENT_POLICY,
    "refusal": FailureCode.CONTENT_POLICY,
    "payment_required": FailureCode.BILLING,
    "not_found": FailureCode.MODEL_NOT_FOUND,
    "rate_limit_exceeded": FailureCode.RATE_LIMITED,
    "provider_overloaded": FailureCode.OVERLOADED,
    "invalid_image": FailureCode.INVALID_IMAGE,
    "image_too_large": FailureCode.INVALID_IMAGE,
    "image_too_small": FailureCode.INVALID_IMAGE,
    "image_not_found": FailureCode.INVALID_IMAGE,
    "unsupported_image_format": FailureCode.INVALID_IMAGE,
    "image_download_failed": FailureCode.INVALID_IMAGE,
}
_AVAILABILITY: Final = {
    "capacity_exhausted": FailureCode.OVERLOADED,
    "temporarily_unavailable": FailureCode.OVERLOADED,
    "model_unavailable_upstream": FailureCode.OVERLOADED,
    "region_restricted": FailureCode.PERMISSION,
    "privacy_restricted": FailureCode.PERMISSION,
    "constraint_filtered": FailureCode.INVALID_REQUEST,
}
_FINISHES: Final = frozenset({"content_filter", "refusal"})
_SIZES: Final = {"512": "0.5K"}


class OpenRouter:
    """Generates and edits with the same call; an edit is a request with references."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._options = deployment.options
        self._upstream = Upstream(
            tools.web,
            deployment,
            api_key=api_key,
            headers=_headers(deployment.options, api_key),
            judge=judge,
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        if self._options.get("api") == "chat":
            return await self._chat(order)
        body = await self._ask("/images", self._fields(order), order)
        items = wire.items_at(body, "data")[: order.n]
        outcomes = [decoded(wire.at(item, "b64_json", kind=str) or "") for item in items]
        return replied(order, outcomes, usage=_usage(body), cost=_cost(body))

    async def _chat(self, order: Order) -> Reply:
        body = await self._ask("/chat/completions", self._conversation(order), order)
        choice = wire.at(body, "choices", 0, kind=dict) or {}
        if choice.get("error"):
            raise self._upstream.refusal(200, {}, choice, prompt=order.prompt)
        urls = (
            wire.at(part, "image_url", "url", kind=str) or ""
            for part in wire.items_at(choice, "message", "images")[: order.n]
        )
        outcomes = [await self._upstream.picture(url) for url in urls]
        text = wire.at(choice, "message", "content", kind=str) or None
        return replied(
            order,
            outcomes,
            missing=self._missing(choice, text, order),
            usage=_usage(body),
            cost=_cost(body),
            upstream_id=wire.at(body, "id", kind=str),
            text=text,
        )

    async def _ask(self, path: str, asked: Mapping[str, Any], order: Order) -> dict[str, Any]:
        answer = await self._upstream.call(
            "POST", path, json=asked, limit=room(order), prompt=order.prompt
        )
        return self._upstream.read(answer, prompt=order.prompt)

    def _missing(self, choice: Mapping[str, Any], text: str | None, order: Order) -> Failure:
        """Return why there is no picture: what the model said instead, if it said anything."""
        words = self._upstream.shown(text or "", prompt=order.prompt) or NO_IMAGE.message
        refused = choice.get("finish_reason") in _FINISHES
        code = FailureCode.CONTENT_POLICY if refused else FailureCode.NO_IMAGE
        return Failure(code=code, message=words)

    def _fields(self, order: Order) -> dict[str, Any]:
        """Return a request of the image API. Pixels win: beside them a ratio is refused."""
        exact = order.width is not None
        asked = {
            "model": order.model,
            "prompt": order.prompt,
            "n": order.n if order.n != 1 else None,
            "size": f"{order.width}x{order.height}" if exact else None,
            "resolution": None if exact else order.resolution,
            "aspect_ratio": None if exact else order.aspect_ratio,
            "quality": order.quality,
            "output_format": order.output_format,
            "background": order.background,
            "output_compression": order.output_compression,
            "seed": order.seed,
            "user": order.user,
            "input_references": _parts(order) or None,
            "provider": self._options.get("provider"),
        }
        return fields(asked, self._options.get("body", {}), order.options, reserved=_RESERVED)

    def _conversation(self, order: Order) -> dict[str, Any]:
        """Return a request of chat: the words first, then the pictures."""
        config = {
            "aspect_ratio": order.aspect_ratio,
            "image_size": _SIZES.get(order.resolution or "", order.resolution),
            "size": f"{order.width}x{order.height}" if order.width else None,
            "quality": order.quality,
            "background": order.background,
            "output_format": order.output_format,
            "style": order.style,
        }
        content = [{"type": "text", "text": order.prompt}, *_parts(order)]
        asked = {
            "model": order.model,
            "messages": [{"role": "user", "content": content}],
            "modalities": self._options.get("modalities", ["image", "text"]),
            "image_config": fields(config, order.options, reserved=_RESERVED) or None,
            "seed": order.seed,
            "user": order.user,
            "provider": self._options.get("provider"),
        }
        return fields(asked, self._options.get("body", {}), reserved=_RESERVED)


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: its type, else its availability, else its status."""
    kind = wire.at(said.error, "metadata", "error_type", kind=str) or ""
    flagged = wire.at(said.error, "metadata", "flagged_input", kind=str) is not None
    if flagged or wire.at(said.error, "metadata", "patterns", kind=list) is not None:
        return FailureCode.CONTENT_POLICY
    if (reason := wire.at(said.error, "availability", "code", kind=str)) is not None:
        return _AVAILABILITY.get(reason, FailureCode.MODEL_NOT_FOUND)
    return _KINDS.get(kind) or code_of(said.status)


def _headers(options: Mapping[str, Any], api_key: str | None) -> dict[str, str]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    for option, name in (("referer", "HTTP-Referer"), ("title", "X-Title")):
        if option in options:
            headers[name] = str(options[option])
    return headers


def _parts(order: Order) -> list[dict[str, Any]]:
    return [
        {"type": "image_url", "image_url": {"url": wire.data_url(s.data, s.content_type)}}
        for s in order.images
    ]


def _cost(body: Mapping[str, Any]) -> float | None:
    return wire.number_at(body, "usage", "cost")


def _usage(body: Mapping[str, Any]) -> Usage | None:
    usage = wire.at(body, "usage", kind=dict)
    if usage is None:
        return None
    return Usage(
        input_tokens=wire.at(usage, "prompt_tokens", kind=int),
        cached_tokens=wire.at(usage, "prompt_tokens_details", "cached_tokens", kind=int),
        output_tokens=wire.at(usage, "completion_tokens", kind=int),
        output_image_tokens=wire.at(usage, "completion_tokens_details", "image_tokens", kind=int),
        total_tokens=wire.at(usage, "total_tokens", kind=int),
    )
