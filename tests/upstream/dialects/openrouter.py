"""OpenRouter: an image API, and pictures through chat; both say what they cost.

More tokens of this dialect:

    [[error-200]]                       the error of the other tokens, with status 200
    [[availability:capacity_exhausted]] a fault says why the model cannot be served, and when it can
    [[finish:content_filter]]           chat ends for that reason, without a picture
    [[no-stream]]                       an endpoint that does not stream, whatever is asked
    [[early-end:1]] [[error-event:1]]   a stream ends, or fails, after that many pictures
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from tests.upstream import fields
from tests.upstream.calls import Call
from tests.upstream.delivery import UNSTREAMED, Events
from tests.upstream.dialects.dialect import Dialect, Route, read_json
from tests.upstream.faults import Fault, Refused
from tests.upstream.pictures import FORMATS, Sitting
from tests.upstream.ratios import pixels
from tests.upstream.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model can: pictures per call, previews, words; its USD per megapixel."""

    n: int = 1
    streams: bool = False
    talks: bool = False
    price: float


MODELS = {
    "google/gemini-3.1-flash-image": Model(talks=True, price=0.064),
    "google/gemini-3-pro-image": Model(talks=True, price=0.128),
    "black-forest-labs/flux.2-pro": Model(price=0.03),
    "openai/gpt-image-2": Model(n=10, streams=True, price=0.05),
}
_RATIOS = (
    *("1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1"),
    *("9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto"),
)
_UNSTREAMED = UNSTREAMED | {"no-stream"}
_PREVIEWS = 2
_TIERS = ("512", "1K", "2K", "4K")


def _reference(value: object) -> str | None:
    """Judge one part that holds a picture."""
    if not isinstance(value, dict) or value.get("type") != "image_url":
        return "Input should be an image_url part"
    held = value.get("image_url")
    return fields.picture()(held.get("url") if isinstance(held, dict) else None)


_FIELDS: dict[str, fields.Check] = {
    "model": fields.text(100),
    "prompt": fields.text(100_000),
    "n": fields.whole(1, 10),
    "resolution": fields.choice(*_TIERS),
    "aspect_ratio": fields.choice(*_RATIOS),
    "size": fields.text(16),
    "quality": fields.choice("auto", "low", "medium", "high"),
    "output_format": fields.choice("png", "jpeg", "webp"),
    "background": fields.choice("auto", "transparent", "opaque"),
    "output_compression": fields.whole(0, 100),
    "seed": fields.whole(-(2**31), 2**31),
    "input_references": fields.pictures(16, _reference),
    "provider": fields.mapping,
    "user": fields.text(200),
    "stream": fields.choice(True, False),
}
_CONFIG: dict[str, fields.Check] = {
    "aspect_ratio": fields.choice(*_RATIOS),
    "image_size": fields.choice("0.5K", "1K", "2K", "4K"),
    **{name: _FIELDS[name] for name in ("quality", "size", "background", "output_format")},
    "strength": fields.number(0, 1),
    "style": fields.text(100),
}
_CHAT: dict[str, fields.Check] = {
    "model": fields.text(100),
    "messages": lambda value: None if isinstance(value, list) and value else "Input is missing",
    "modalities": lambda value: (
        None if value in (["image", "text"], ["image"]) else "Input should name modalities"
    ),
    "image_config": fields.mapping,
    "stream": fields.choice(True, False),
    "seed": _FIELDS["seed"],
    "user": _FIELDS["user"],
    "provider": fields.mapping,
    "usage": fields.mapping,
}
_ERRORS = {
    Fault.INVALID: (400, "invalid_request"),
    Fault.UNAUTHORIZED: (401, "authentication"),
    Fault.QUOTA: (402, "payment_required"),
    Fault.FORBIDDEN: (403, "permission_denied"),
    Fault.UNKNOWN_MODEL: (404, "not_found"),
    Fault.RATE_LIMITED: (429, "rate_limit_exceeded"),
    Fault.BROKEN: (500, "server"),
    Fault.UNAVAILABLE: (502, "provider_unavailable"),
    Fault.OVERLOADED: (503, "provider_overloaded"),
    Fault.TIMED_OUT: (504, "timeout"),
    Fault.REFUSED_INPUT: (400, "content_policy_violation"),
    Fault.REFUSED_OUTPUT: (400, "refusal"),
}


class OpenRouter(Dialect):
    """`/openrouter/api/v1/images` and `/openrouter/api/v1/chat/completions`."""

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/api/v1/images", self.images),
            ("POST", "/api/v1/chat/completions", self.chat),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status, kind = _ERRORS[refused.fault]
        error: dict[str, Any] = {
            "code": status,
            "message": refused.message,
            "metadata": {"error_type": kind, "provider_name": "Fake"},
        }
        if (why := call.tokens.text("availability")) is not None:
            lasting = why not in ("capacity_exhausted", "temporarily_unavailable")
            error["availability"] = {"code": why, "retryable": not lasting, "retry_after": 5}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        status = 200 if "error-200" in call.tokens else status
        return web.json_response({"error": error, "user_id": "u"}, status=status, headers=headers)

    async def images(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images`."""
        body = await read_json(request, call)
        fields.check(body, _FIELDS, "model", "prompt")
        model = _model(body)
        count = body.get("n", 1)
        if count > model.n:
            raise Refused(Fault.INVALID, f"This model makes at most {model.n} images.")
        width, height = _size(body, tier=body.get("resolution", "1K"))
        tokens = await self.begin(call, model=body["model"], prompt=body["prompt"])
        if tokens.text("refuse") == "output":
            raise Refused(Fault.REFUSED_OUTPUT, "The provider refused to make this image.")
        made = [i for i in range(count) if tokens.makes(i) and not _blank(tokens)]
        each = _price(model, width, height)
        cost = self.charge(call, len(made), len(made) * each)
        sittings = [_sitting(body, body["prompt"], width, height, index) for index in made]
        if body.get("stream") and model.streams and not _UNSTREAMED & tokens.arguments.keys():
            return await self._stream(request, call, sittings, each)
        items = [await self._item(tokens, sitting) for sitting in sittings]
        payload = {"created": 1_793_000_000, "data": items, "usage": _usage(made, cost)}
        return await self.answer(request, call, payload)

    async def chat(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /chat/completions`."""
        body = await read_json(request, call)
        fields.check(body, _CHAT, "model", "messages", "modalities")
        config = body.get("image_config", {})
        fields.check(config, _CONFIG)
        model = _model(body)
        if model.talks is not ("text" in body["modalities"]):
            message = "No endpoints found that support the requested output modalities."
            raise Refused(Fault.UNKNOWN_MODEL, message)
        prompt = _read_parts(body["messages"])
        tokens = await self.begin(call, model=body["model"], prompt=prompt)
        if tokens.text("refuse") == "output":
            raise Refused(Fault.REFUSED_OUTPUT, "The provider refused to make this image.")
        width, height = _size(config, tier=config.get("image_size", "1K"))
        made = [] if _blank(tokens) or "finish" in tokens else [0]
        cost = self.charge(call, len(made), len(made) * _price(model, width, height))
        urls = [
            await self._data_url(tokens, _sitting(config, prompt, width, height, 0)) for _ in made
        ]
        whole = _completion(call, tokens, urls, made, cost)
        if body.get("stream") and not _UNSTREAMED & tokens.arguments.keys():
            return await self._stream_chat(request, call, whole)
        return await self.answer(request, call, whole)

    async def _stream(
        self, request: web.Request, call: Call, sittings: Sequence[Sitting], each: float
    ) -> web.StreamResponse:
        """Send two previews and the picture, for each; the events have no names."""
        tokens = call.tokens
        async with Events(request, tokens) as events:
            await events.comment("OPENROUTER PROCESSING")
            for place, sitting in enumerate(sittings):
                for number in range(_PREVIEWS):
                    draft = replace(sitting, seed=number)
                    text = await self.base64(tokens, draft)
                    partial = {"partial_image_index": number, "b64_json": text}
                    await events.send({"type": "image_generation.partial_image", **partial})
                if "early-end" in tokens and place >= tokens.number("early-end", 0):
                    return events.response
                if "error-event" in tokens and place >= tokens.number("error-event", 0):
                    error = {"message": "The provider broke.", "code": 502}
                    await events.send({"type": "error", "error": error})
                    break
                item = await self._item(tokens, sitting)
                completed = {"type": "image_generation.completed", "created": 1_793_000_000}
                await events.send({**completed, **item, "usage": _usage([place], each)})
            await events.send("[DONE]")
            return events.response

    async def _stream_chat(
        self, request: web.Request, call: Call, whole: Mapping[str, Any]
    ) -> web.StreamResponse:
        """Send the words in pieces, then the pictures in one chunk, then the end and the cost."""
        (choice,) = whole["choices"]
        message, tokens = choice["message"], call.tokens
        head = {name: whole[name] for name in ("id", "created", "model", "provider")}
        head["object"] = "chat.completion.chunk"
        async with Events(request, tokens) as events:
            await events.comment("OPENROUTER PROCESSING")
            words = message["content"]
            deltas: list[dict[str, Any]] = [
                {"role": "assistant", "content": part} for part in (words[:7], words[7:])
            ]
            if "images" in message:
                deltas.append({"images": message["images"]})
            for delta in deltas:
                await events.send({**head, "choices": [{"index": 0, "delta": delta}]})
                if "early-end" in tokens:
                    return events.response
            end = {k: v for k, v in choice.items() if k != "message"} | {"delta": {"content": ""}}
            if "error" in end:
                head["error"] = end.pop("error")
            await events.send({**head, "choices": [end], "usage": whole["usage"]})
            await events.send("[DONE]")
            return events.response

    async def _item(self, tokens: Tokens, sitting: Sitting) -> dict[str, str]:
        return {"b64_json": await self.base64(tokens, sitting), "media_type": sitting.content_type}

    async def _data_url(self, tokens: Tokens, sitting: Sitting) -> str:
        return f"data:{sitting.content_type};base64,{await self.base64(tokens, sitting)}"


def _model(body: Mapping[str, Any]) -> Model:
    model = MODELS.get(body["model"])
    if model is None:
        raise Refused(Fault.UNKNOWN_MODEL, f"{body['model']} is not a valid model ID")
    return model


def _read_parts(messages: list[Any]) -> str:
    """Check the last message and return its text."""
    parts = messages[-1].get("content") if isinstance(messages[-1], dict) else None
    if isinstance(parts, str):
        return parts
    texts = []
    for part in parts if isinstance(parts, list) else [None]:
        if isinstance(part, dict) and part.get("type") == "text":
            texts.append(str(part.get("text")))
        elif wrong := _reference(part):
            raise Refused(Fault.INVALID, wrong)
    return "\n".join(texts)


def _size(body: Mapping[str, Any], *, tier: str) -> tuple[int, int]:
    ratio = body.get("aspect_ratio", "auto")
    size = body.get("size")
    if size is None:
        return pixels("1:1" if ratio == "auto" else ratio, tier)
    if "resolution" in body or ratio != "auto":
        raise Refused(Fault.INVALID, "size contradicts resolution or aspect_ratio.")
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", size)
    if match is None:
        return pixels("1:1", size)
    return int(match[1]), int(match[2])


def _sitting(body: Mapping[str, Any], prompt: str, width: int, height: int, index: int) -> Sitting:
    format_ = body.get("output_format", "png")
    return Sitting(
        model="openrouter",
        prompt=prompt,
        width=width,
        height=height,
        seed=body.get("seed"),
        index=index,
        format=format_ if format_ in FORMATS else "png",
        transparent=body.get("background") == "transparent",
    )


def _price(model: Model, width: int, height: int) -> float:
    return round(model.price * width * height / 1_000_000, 6)


def _blank(tokens: Tokens) -> bool:
    return "empty" in tokens or "text-only" in tokens


def _usage(made: list[int], cost: float) -> dict[str, Any]:
    image = 1120 * len(made)
    return {
        "prompt_tokens": 7,
        "completion_tokens": image + 10,
        "total_tokens": image + 17,
        "completion_tokens_details": {"image_tokens": image},
        "cost": cost,
    }


def _completion(
    call: Call, tokens: Tokens, urls: list[str], made: list[int], cost: float
) -> dict[str, Any]:
    words = "I can only describe it: a lighthouse." if "text-only" in tokens else ""
    message: dict[str, Any] = {"role": "assistant", "content": words}
    if urls:
        message["images"] = [
            {"type": "image_url", "image_url": {"url": url}, "index": index}
            for index, url in enumerate(urls)
        ]
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": tokens.text("finish") or "stop",
        "native_finish_reason": "STOP",
        "message": message,
    }
    if tokens.text("finish") == "error":
        choice["error"] = {"code": 502, "message": "The provider broke."}
    return {
        "id": f"gen-{call.number}",
        "object": "chat.completion",
        "created": 1_793_000_000,
        "model": call.model,
        "provider": "Fake",
        "choices": [choice],
        "usage": _usage(made, cost),
    }
