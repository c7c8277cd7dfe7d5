"""Google's generateContent: a picture is one part of what the model says, and a refusal is a 200.

A deployment with `capabilities.stream` is asked for a stream where previews are wanted: they are
the drafts of a model that thinks in pictures.

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
from worker.provider import (
    Order,
    Partial,
    Picture,
    Progress,
    ProviderError,
    Reply,
    Tools,
)
from worker.reply import BROKEN_OFF, NO_IMAGE, decoded, replied
from worker.upstream import Upstream, events, room
from worker.web import Answer


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
        said = _Said()
        try:
            lost = await self._hear(order, said, progress)
        except ProviderError as error:
            if not said.pictures:
                raise
            lost = error.as_failure()
        return replied(
            order,
            [decoded(text) for text in said.pictures],
            missing=lost or self._missing(said, order),
            usage=said.usage,
            upstream_id=said.id,
            text=said.text or None,
        )

    async def _hear(self, order: Order, said: "_Said", progress: Progress) -> Failure | None:
        """Take in the answer, whole or as a stream; return why it has no end, if it has none."""
        streams = bool(order.partial_images)
        verb = "streamGenerateContent" if streams else "generateContent"
        async with self._upstream.stream(
            "POST",
            f"/models/{order.model}:{verb}",
            params={"alt": "sse"} if streams else None,
            json=self._fields(order),
            limit=room(order, previews=order.partial_images or 0),
            prompt=order.prompt,
        ) as stream:
            if not stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                answer = Answer(stream.status, stream.headers, await stream.read())
                said.add(self._upstream.read(answer, prompt=order.prompt))
                return None
            async for event in events(stream, limit=room(order)):
                if event.get("error"):
                    raise self._upstream.refusal(200, {}, event, prompt=order.prompt)
                await self._preview(said.add(event), said, order, progress)
        return None if said.finish or said.block else BROKEN_OFF

    async def _preview(
        self, drafts: list[str], said: "_Said", order: Order, progress: Progress
    ) -> None:
        """Show the drafts of one event, as many as are wanted; a damaged one is left out."""
        for text in drafts:
            draft = decoded(text)
            if isinstance(draft, Picture) and said.shown < (order.partial_images or 0):
                await progress.previewed(Partial(index=0, sequence=said.shown, data=draft.data))
                said.shown += 1

    def _missing(self, said: "_Said", order: Order) -> Failure:
        """Return why there is no picture: it was blocked, or the model did something else."""
        if said.block:
            message = f"The upstream's moderation blocked the prompt ({said.block})."
            return Failure(code=FailureCode.CONTENT_POLICY, message=message)
        shown = self._upstream.shown(said.reason or said.text, prompt=order.prompt)
        if said.finish in _REFUSED:
            message = shown or f"The upstream's moderation withheld the image ({said.finish})."
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


class _Said:
    """What the model has said so far: its answer, or the events that are parts of one."""

    def __init__(self) -> None:
        self.pictures: list[str] = []
        self.text = ""
        self.block = ""
        self.finish = ""
        self.reason = ""
        self.id: str | None = None
        self.usage: Usage | None = None
        self.shown = 0

    def add(self, body: Mapping[str, Any]) -> list[str]:
        """Take in an answer, or an event of one; return the drafts in it, which are no pictures."""
        self.id = self.id or _either(body, "responseId", kind=str)
        self.usage = _usage(body) or self.usage
        self.block = _either(body, "promptFeedback", "blockReason", kind=str) or self.block
        candidate = _either(body, "candidates", 0, kind=dict) or {}
        self.finish = _either(candidate, "finishReason", kind=str) or self.finish
        self.reason = _either(candidate, "finishMessage", kind=str) or self.reason
        drafts: list[str] = []
        texts = []
        for part in wire.items_at(candidate, "content", "parts"):
            is_thought = part.get("thought") is True
            if (inline := _inline(part)) is not None:
                (drafts if is_thought else self.pictures).append(inline)
            elif not is_thought and (text := wire.at(part, "text", kind=str)):
                texts.append(text)
        self.text += " ".join(texts)
        return drafts


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
