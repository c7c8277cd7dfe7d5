"""Google's generateContent: a picture is one part of what the model says, and a refusal is a 200.

What a deployment's `options` may say:

    auth = "bearer"              a bearer token instead of `x-goog-api-key` (Vertex)
    modalities = ["IMAGE"]       what the model may answer with; words and pictures by default
    body = {…}                   further fields for every request, e.g. `safetySettings`

An order's options are further fields of `generationConfig`; neither can replace what an order says
by itself.
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


_REFUSED: Final = frozenset(
    {"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)
_RESERVED: Final = frozenset(
    {"candidateCount", "candidate_count", "imageConfig", "image_config"}
    | {"responseModalities", "response_modalities"}
)
_SPELLINGS: Final = frozenset({"generation_config"})


class Gemini:
    """Generates and edits with the same call; an edit has pictures among its parts."""

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
        answer = await self._upstream.call(
            "POST",
            f"/models/{order.model}:generateContent",
            json=self._fields(order),
            limit=room(order),
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        candidate = _either(body, "candidates", 0, kind=dict) or {}
        parts = wire.items_at(candidate, "content", "parts")
        said = [part for part in parts if part.get("thought") is not True]
        outcomes = [decoded(text) for part in said if (text := _inline(part)) is not None]
        text = " ".join(filter(None, (wire.at(part, "text", kind=str) for part in said))) or None
        return replied(
            order,
            outcomes,
            missing=self._missing(body, candidate, text, order),
            usage=_usage(body),
            upstream_id=_either(body, "responseId", kind=str),
            text=text,
        )

    def _missing(
        self, body: Mapping[str, Any], candidate: Mapping[str, Any], text: str | None, order: Order
    ) -> Failure:
        """Return why there is no picture: it was blocked, or the model did something else."""
        block = _either(body, "promptFeedback", "blockReason", kind=str)
        finish = _either(candidate, "finishReason", kind=str) or ""
        if block is not None:
            message = f"The upstream's moderation blocked the prompt ({block})."
            return Failure(code=FailureCode.CONTENT_POLICY, message=message)
        said = _either(candidate, "finishMessage", kind=str) or text or ""
        shown = self._upstream.shown(said, prompt=order.prompt)
        if finish in _REFUSED:
            message = shown or f"The upstream's moderation withheld the image ({finish})."
            return Failure(code=FailureCode.CONTENT_POLICY, message=message)
        return Failure(code=FailureCode.NO_IMAGE, message=shown or NO_IMAGE.message)

    def _fields(self, order: Order) -> dict[str, Any]:
        config = {
            "responseModalities": self._options.get("modalities", ["TEXT", "IMAGE"]),
            "imageConfig": fields(
                {"aspectRatio": order.aspect_ratio, "imageSize": order.resolution}
            )
            or None,
            "seed": order.seed,
        }
        pictures = [
            {"inlineData": {"mimeType": source.content_type, "data": wire.encode(source.data)}}
            for source in order.images
        ]
        asked = {
            "contents": [{"role": "user", "parts": [*pictures, {"text": order.prompt}]}],
            "generationConfig": fields(config, order.options, reserved=_RESERVED),
        }
        return fields(asked, self._options.get("body", {}), reserved=_SPELLINGS)


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means.

    A bad key is an invalid argument here, and a quota for the day reads like one for the minute but
    for its name.
    """
    details = wire.items_at(said.error, "details")
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
        return FailureCode.AUTH
    if said.kind == "FAILED_PRECONDITION":
        return FailureCode.PERMISSION
    violations = [one for detail in details for one in wire.items_at(detail, "violations")]
    if any("PerDay" in (wire.at(one, "quotaId", kind=str) or "") for one in violations):
        return FailureCode.BILLING
    return code_of(said.status)


def _headers(options: Mapping[str, Any], api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if options.get("auth") == "bearer":
        return {"Authorization": f"Bearer {api_key}"}
    return {"x-goog-api-key": api_key}


def _either(value: object, *path: str | int, kind: type[wire.T]) -> wire.T | None:
    """Return what stands at `path` in either spelling: relays answer with underscores."""
    snake = (_snake(step) if isinstance(step, str) else step for step in path)
    found = wire.at(value, *path, kind=kind)
    return wire.at(value, *snake, kind=kind) if found is None else found


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _inline(part: Mapping[str, Any]) -> str | None:
    return _either(part, "inlineData", "data", kind=str)


def _usage(body: Mapping[str, Any]) -> Usage | None:
    usage = _either(body, "usageMetadata", kind=dict)
    if usage is None:
        return None
    made = _either(usage, "candidatesTokenCount", kind=int)
    thoughts = _either(usage, "thoughtsTokenCount", kind=int) or 0
    image = _of_images(usage, "candidatesTokensDetails")
    output = None if made is None else made + thoughts
    return Usage(
        input_tokens=_either(usage, "promptTokenCount", kind=int),
        input_image_tokens=_of_images(usage, "promptTokensDetails"),
        cached_tokens=_either(usage, "cachedContentTokenCount", kind=int),
        output_tokens=output,
        output_text_tokens=None if output is None or image is None else output - image,
        output_image_tokens=image,
        total_tokens=_either(usage, "totalTokenCount", kind=int),
    )


def _of_images(usage: Mapping[str, Any], name: str) -> int | None:
    details = _either(usage, name, kind=list)
    if details is None:
        return None
    counts = [
        _either(one, "tokenCount", kind=int) or 0
        for one in details
        if wire.at(one, "modality", kind=str) == "IMAGE"
    ]
    return sum(counts)
