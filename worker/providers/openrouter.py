"""OpenRouter: its image API, or its chat for the models that draw while they talk.

Of all upstreams it alone says in each answer what it charged. A deployment with
`capabilities.stream` is asked for a stream where previews are wanted: the image API then shows
them, for the models that can, and chat only stays awake until the picture comes.

What a deployment's `options` may say:

    api = "chat"                   pictures through chat, instead of the image API
    modalities = ["image"]         for chat with models that have no words
    provider = {…}                 which providers may serve, as OpenRouter's routing has it
    referer = "…", title = "…"     who is asking, for OpenRouter's own lists
    body = {…}                     further fields for every request

An order's options are further fields too (of `image_config` in chat); neither can replace what an
order says by itself.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from storage.attempt import Usage
from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.arrivals import Arrivals
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Progress, ProviderError, Reply, Tools
from worker.reply import BROKEN_OFF, NO_IMAGE, decoded, replied
from worker.upstream import Upstream, events, file_room, room
from worker.web import Answer


Taking: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]

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
        seen, lost = Arrivals(order, progress, usage_of=_usage, cost_of=_cost), BROKEN_OFF
        try:
            whole = await self._ask("/images", self._fields(order), order, seen.add)
        except ProviderError as error:
            if not seen.outcomes:
                raise
            whole, lost = None, error.as_failure()
        return seen.reply(lost) if whole is None else _read(whole, order)

    async def _chat(self, order: Order) -> Reply:
        said, lost = _Said(), BROKEN_OFF
        try:
            path, asked = "/chat/completions", self._conversation(order)
            whole = await self._ask(path, asked, order, said.add)
        except ProviderError as error:
            if not said.urls:
                raise
            whole, lost = None, error.as_failure()
        if whole is not None:
            await said.add(whole)
        if said.error and not said.urls:
            raise self._upstream.refusal(200, {}, said.error, prompt=order.prompt)
        ended = whole is not None or bool(said.finish)
        return replied(
            order,
            [
                await self._upstream.picture(url, limit=file_room(order))
                for url in said.urls[: order.n]
            ],
            missing=self._missing(said, order) if ended else lost,
            usage=said.usage,
            cost=said.cost,
            upstream_id=said.id,
            text="".join(said.texts) or None,
        )

    async def _ask(
        self, path: str, asked: Mapping[str, Any], order: Order, take: Taking
    ) -> dict[str, Any] | None:
        """Return the answer if it comes whole; else have each event of it taken in."""
        limit = room(order, previews=order.n * (order.partial_images or 0))
        async with self._upstream.stream(
            "POST", path, json=asked, limit=limit, prompt=order.prompt
        ) as stream:
            if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                answer = Answer(stream.status, stream.headers, await stream.read())
                return self._upstream.read(answer, prompt=order.prompt)
            async for event in events(stream, limit=room(order)):
                if event.get("error"):
                    raise self._upstream.refusal(200, {}, event, prompt=order.prompt)
                await take(event)
        return None

    def _missing(self, said: "_Said", order: Order) -> Failure:
        """Return why there is no picture: what the model said instead, if it said anything."""
        words = self._upstream.shown("".join(said.texts), prompt=order.prompt)
        refused = said.finish in _FINISHES
        code = FailureCode.CONTENT_POLICY if refused else FailureCode.NO_IMAGE
        return Failure(code=code, message=words or NO_IMAGE.message)

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
            "stream": True if order.partial_images else None,
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
            "stream": True if order.partial_images else None,
            "provider": self._options.get("provider"),
        }
        return fields(asked, self._options.get("body", {}), reserved=_RESERVED)


class _Said:
    """What chat has said so far, whole or chunk by chunk."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.texts: list[str] = []
        self.finish = ""
        self.error: Mapping[str, Any] = {}
        self.id: str | None = None
        self.usage: Usage | None = None
        self.cost: float | None = None

    async def add(self, body: Mapping[str, Any]) -> None:
        """Take in an answer, or a chunk of one."""
        self.id = self.id or wire.at(body, "id", kind=str)
        self.usage = _usage(body) or self.usage
        self.cost = self.cost if (cost := _cost(body)) is None else cost
        choice = wire.at(body, "choices", 0, kind=dict) or {}
        self.finish = wire.at(choice, "finish_reason", kind=str) or self.finish
        if choice.get("error"):
            self.error = choice
        name = "delta" if "delta" in choice else "message"
        for part in wire.items_at(choice, name, "images"):
            self.urls.append(wire.at(part, "image_url", "url", kind=str) or "")
        if text := wire.at(choice, name, "content", kind=str):
            self.texts.append(text)


def _read(body: Mapping[str, Any], order: Order) -> Reply:
    """Return the reply of the image API that came whole."""
    items = wire.items_at(body, "data")[: order.n]
    outcomes = [decoded(wire.at(item, "b64_json", kind=str) or "") for item in items]
    return replied(order, outcomes, usage=_usage(body), cost=_cost(body))


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
