"""Google's generateContent: pictures among the parts of an answer, refusals with status 200.

More tokens of this dialect:

    [[block:BLOCKLIST]]    the prompt is blocked for that reason
    [[finish:NO_IMAGE]]    the answer ends for that reason, without a picture
    [[thought]]            a draft comes first, marked as a thought
    [[snake]]              the answer spells its fields with underscores
    [[early-end]]          a stream ends before its picture, or after it ([[early-end:1]])
    [[error-event]]        a stream fails before its picture, or after it ([[error-event:1]])
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.upstream import fields
from tests.upstream.calls import Call
from tests.upstream.delivery import UNSTREAMED, Events
from tests.upstream.dialects.dialect import Dialect, Route, read_json
from tests.upstream.faults import Fault, Refused
from tests.upstream.pictures import Sitting
from tests.upstream.ratios import GOOGLE, pixels
from tests.upstream.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model can: tokens of a picture by tier; its USD per million tokens."""

    tiers: Mapping[str, int]
    ratios: tuple[str, ...] = tuple(GOOGLE)
    thinks: bool = False
    tokens_in: float
    text_out: float
    image_out: float


MODELS = {
    "gemini-3-pro-image": Model(
        tiers={"1K": 1120, "2K": 1120, "4K": 2000},
        thinks=True,
        tokens_in=2.0,
        text_out=12.0,
        image_out=120.0,
    ),
    "gemini-3.1-flash-image": Model(
        tiers={"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
        ratios=(*GOOGLE, "1:4", "4:1", "1:8", "8:1"),
        tokens_in=0.5,
        text_out=3.0,
        image_out=60.0,
    ),
    "gemini-3.1-flash-lite-image": Model(
        tiers={"1K": 1120}, tokens_in=0.25, text_out=1.5, image_out=30.0
    ),
}
_BODY: dict[str, fields.Check] = {
    "contents": lambda value: None if isinstance(value, list) and value else "is not specified",
    "generationConfig": fields.mapping,
    "safetySettings": lambda value: None if isinstance(value, list) else "must be a list",
    "systemInstruction": fields.mapping,
}
_CONFIG: dict[str, fields.Check] = {
    "responseModalities": fields.choice(["TEXT", "IMAGE"], ["IMAGE", "TEXT"], ["IMAGE"]),
    "imageConfig": fields.mapping,
    "seed": fields.whole(-(2**31), 2**31 - 1),
    "temperature": fields.number(0, 2),
    "candidateCount": fields.whole(1, 1),
}
_STATUSES = {
    Fault.INVALID: (400, "INVALID_ARGUMENT"),
    Fault.UNAUTHORIZED: (400, "INVALID_ARGUMENT"),
    Fault.QUOTA: (429, "RESOURCE_EXHAUSTED"),
    Fault.FORBIDDEN: (403, "PERMISSION_DENIED"),
    Fault.UNKNOWN_MODEL: (404, "NOT_FOUND"),
    Fault.RATE_LIMITED: (429, "RESOURCE_EXHAUSTED"),
    Fault.BROKEN: (500, "INTERNAL"),
    Fault.UNAVAILABLE: (502, "UNAVAILABLE"),
    Fault.OVERLOADED: (503, "UNAVAILABLE"),
    Fault.TIMED_OUT: (504, "DEADLINE_EXCEEDED"),
}
_STREAMED = "streamGenerateContent"
_VERBS = ("generateContent", _STREAMED)
_RPC = "type.googleapis.com/google.rpc"
_INPUT_TOKENS = 560
_THOUGHT_TOKENS = 200
_TEXT_TOKENS = 10
_MAX_BODY = 20_000_000


class Gemini(Dialect):
    """`/gemini/v1beta/models/{model}:generateContent` and `…:streamGenerateContent?alt=sse`."""

    def routes(self) -> Sequence[Route]:
        return (("POST", "/v1beta/models/{call}", self.generate),)

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-goog-api-key") or super().key(request)

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        if refused.fault is Fault.REFUSED_INPUT:
            return web.json_response(_blocked(call, "PROHIBITED_CONTENT"))
        status, word = _STATUSES[refused.fault]
        error = {"code": status, "message": refused.message, "status": word}
        return web.json_response({"error": error | _details(refused)}, status=status)

    async def generate(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /models/{model}:generateContent`, whole or as a stream."""
        name, _, verb = request.match_info["call"].partition(":")
        model = MODELS.get(name)
        if model is None or verb not in _VERBS:
            raise Refused(Fault.UNKNOWN_MODEL, f"models/{name} is not found for API version v1beta")
        if verb == _STREAMED and request.query.get("alt") != "sse":
            raise Refused(Fault.INVALID, "The fake streams with alt=sse only.")
        if (request.content_length or 0) > _MAX_BODY:
            raise Refused(Fault.INVALID, "Request payload size exceeds the limit: 20971520 bytes.")
        body = _camel(await read_json(request, call))
        config, tier, size = _read(body, model)
        prompt, inputs = _read_parts(body["contents"])
        tokens = await self.begin(call, model=name, prompt=prompt)
        if (reason := tokens.text("block")) is not None:
            return await self.answer(request, call, _blocked(call, reason))
        finish = tokens.text("finish")
        finish = "IMAGE_SAFETY" if tokens.text("refuse") == "output" else finish
        blank = finish is not None or "empty" in tokens or "text-only" in tokens
        usage = _usage(prompt, inputs, 0 if blank else model.tiers[tier], model)
        self.charge(call, 0 if blank else 1, _cost(usage, model))
        parts: list[dict[str, Any]] = [] if "empty" in tokens else [{"text": _words(tokens)}]
        if not blank:
            parts += await self._parts(tokens, model, _sitting(name, prompt, config, size))
        payload = _answer(call, parts, finish or "STOP", usage)
        payload = _snake(payload) if "snake" in tokens else payload
        if verb == _STREAMED and not UNSTREAMED & tokens.arguments.keys():
            return await self._stream(request, call, payload)
        return await self.answer(request, call, payload)

    async def _stream(
        self, request: web.Request, call: Call, whole: dict[str, Any]
    ) -> web.StreamResponse:
        """Send each part as an answer of its own, then the end; a prompt that is blocked is one."""
        candidates = whole.get("candidates")
        parts = candidates[0].pop("content", {"parts": []})["parts"] if candidates else []
        rest = {k: v for k, v in whole.items() if k not in ("candidates", _usage_key(whole))}
        broken = call.tokens.arguments.keys() & {"early-end", "error-event"}
        after = max((call.tokens.number(name, 0) for name in broken), default=0)
        async with Events(request, call.tokens) as events:
            for part in parts:
                is_picture = "text" not in part and not part.get("thought")
                if broken and is_picture and not after:
                    break
                content = {"role": "model", "parts": [part]}
                await events.send({"candidates": [{"index": 0, "content": content}], **rest})
            if "error-event" in broken:
                await events.send({"error": {"code": 503, "message": "", "status": "UNAVAILABLE"}})
            elif not broken:
                await events.send(whole)
            return events.response

    async def _parts(self, tokens: Tokens, model: Model, sitting: Sitting) -> list[dict[str, Any]]:
        parts = []
        if model.thinks or "thought" in tokens:
            draft = Sitting(model="draft", prompt=sitting.prompt, width=64, height=64)
            parts.append({"thought": True, **_inline(await self.base64(tokens, draft), draft)})
        picture = _inline(await self.base64(tokens, sitting), sitting)
        return [*parts, {**picture, "thoughtSignature": "c2lnbmF0dXJl"}]


def _usage_key(whole: Mapping[str, Any]) -> str:
    return "usage_metadata" if "usage_metadata" in whole else "usageMetadata"


def _camel(value: Any) -> Any:
    """Accept both spellings, as the real one does."""
    return _respelled(value, lambda key: re.sub(r"_([a-z])", lambda m: m[1].upper(), key))


def _snake(value: Any) -> Any:
    return _respelled(value, lambda key: re.sub(r"([A-Z])", lambda m: f"_{m[1].lower()}", key))


def _respelled(value: Any, spell: Any) -> Any:
    if isinstance(value, dict):
        return {spell(key): _respelled(item, spell) for key, item in value.items()}
    return [_respelled(item, spell) for item in value] if isinstance(value, list) else value


def _read(body: dict[str, Any], model: Model) -> tuple[Mapping[str, Any], str, tuple[int, int]]:
    """Check a request and return its configuration, the tier and the pixels."""
    fields.check(body, _BODY, "contents")
    config = body.get("generationConfig", {})
    fields.check(config, _CONFIG)
    image: dict[str, Any] = config.get("imageConfig", {})
    fields.check(
        image,
        {"aspectRatio": fields.choice(*model.ratios), "imageSize": fields.choice(*model.tiers)},
    )
    tier = image.get("imageSize", "1K")
    return config, tier, pixels(image.get("aspectRatio", "1:1"), tier)


def _read_parts(contents: list[Any]) -> tuple[str, int]:
    """Check the parts and return the text and how many pictures come with it."""
    texts, inputs = [], 0
    for part in contents[-1].get("parts", []):
        if "text" in part:
            texts.append(part["text"])
            continue
        inline = part.get("inlineData") or {}
        url = f"data:{inline.get('mimeType')};base64,{inline.get('data')}"
        if wrong := fields.picture()(url):
            raise Refused(Fault.INVALID, f"Unable to process input image. {wrong}")
        inputs += 1
    if not "".join(texts).strip():
        raise Refused(Fault.INVALID, "Unable to submit request because it has an empty text.")
    return "\n".join(texts), inputs


def _sitting(name: str, prompt: str, config: Mapping[str, Any], size: tuple[int, int]) -> Sitting:
    width, height = size
    return Sitting(model=name, prompt=prompt, width=width, height=height, seed=config.get("seed"))


def _inline(text: str, sitting: Sitting) -> dict[str, Any]:
    return {"inlineData": {"mimeType": sitting.content_type, "data": text}}


def _words(tokens: Tokens) -> str:
    return "I can only describe a lighthouse." if "text-only" in tokens else "Here it is."


def _usage(prompt: str, inputs: int, image: int, model: Model) -> dict[str, Any]:
    text = max(1, len(prompt) // 4)
    details = [{"modality": "TEXT", "tokenCount": text}]
    if inputs:
        details.append({"modality": "IMAGE", "tokenCount": inputs * _INPUT_TOKENS})
    thoughts = _THOUGHT_TOKENS if model.thinks else 0
    asked, made = text + inputs * _INPUT_TOKENS, image + _TEXT_TOKENS
    return {
        "promptTokenCount": asked,
        "candidatesTokenCount": made,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": asked + made + thoughts,
        "promptTokensDetails": details,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": image}],
    }


def _cost(usage: Mapping[str, Any], model: Model) -> float:
    image = usage["candidatesTokensDetails"][0]["tokenCount"]
    text = usage["candidatesTokenCount"] - image + usage["thoughtsTokenCount"]
    return (
        float(
            usage["promptTokenCount"] * model.tokens_in
            + text * model.text_out
            + image * model.image_out
        )
        / 1_000_000
    )


def _answer(
    call: Call, parts: list[dict[str, Any]], finish: str, usage: dict[str, Any]
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "finishReason": finish}
    if finish == "STOP":
        candidate["content"] = {"role": "model", "parts": parts}
    else:
        candidate["finishMessage"] = f"The picture was not made: {finish}."
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": call.model,
        "responseId": f"resp-{call.number}",
    }


def _blocked(call: Call, reason: str) -> dict[str, Any]:
    return {
        "promptFeedback": {"blockReason": reason},
        "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1},
        "modelVersion": call.model,
        "responseId": f"resp-{call.number}",
    }


def _details(refused: Refused) -> dict[str, Any]:
    match refused.fault:
        case Fault.UNAUTHORIZED:
            return {"details": [{"@type": f"{_RPC}.ErrorInfo", "reason": "API_KEY_INVALID"}]}
        case Fault.QUOTA:
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}
            return {"details": [{"@type": f"{_RPC}.QuotaFailure", "violations": [violation]}]}
        case Fault.RATE_LIMITED if refused.retry_after is not None:
            delay = f"{refused.retry_after:g}s"
            violation = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}
            return {
                "details": [
                    {"@type": f"{_RPC}.QuotaFailure", "violations": [violation]},
                    {"@type": f"{_RPC}.RetryInfo", "retryDelay": delay},
                ]
            }
        case _:
            return {}
