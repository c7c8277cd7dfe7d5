"""Volcengine Ark (Seedream): one route for all, sizes by pixels or tier, groups, watermarks.

Fields of OpenAI that it does not know are ignored, `n` among them; its own fields are refused on
models that lack them. A picture has a watermark unless the request says no.

More tokens of this dialect:

    [[code:SetLimitExceeded]]   that error code, with the status that belongs to it
    [[error-200]]               the error of the other tokens, with status 200
    [[no-stream]]               a server that does not stream, whatever is asked
    [[early-end:1]]             a stream ends after that many pictures
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
from tests.upstream.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model accepts, and its USD: per picture, per large picture, per input."""

    tiers: tuple[str, ...]
    least: int
    most: int
    inputs: int = 14
    own: tuple[str, ...] = ()
    price: float
    large: float | None = None
    per_input: float = 0.0


_GROUPS = ("sequential_image_generation", "sequential_image_generation_options", "stream")
MODELS = {
    "doubao-seedream-3-0-t2i-250415": Model(
        tiers=(), least=512**2, most=2048**2, inputs=0, own=("seed", "guidance_scale"), price=0.03
    ),
    "doubao-seededit-3-0-i2i-250628": Model(
        tiers=("adaptive",), least=1, most=0, inputs=1, own=("seed", "guidance_scale"), price=0.03
    ),
    "doubao-seedream-4-0-250828": Model(
        tiers=("1K", "2K", "4K"), least=921_600, most=16_777_216, own=_GROUPS, price=0.03
    ),
    "doubao-seedream-4-5-251128": Model(
        tiers=("2K", "4K"), least=3_686_400, most=16_777_216, own=_GROUPS, price=0.04
    ),
    "doubao-seedream-5-0-260128": Model(
        tiers=("2K", "3K", "4K"),
        least=3_686_400,
        most=16_777_216,
        own=(*_GROUPS, "output_format"),
        price=0.035,
    ),
    "doubao-seedream-5-0-flash-260915": Model(
        tiers=("1K", "1.5K", "2K"),
        least=921_600,
        most=4_624_220,
        inputs=10,
        own=("output_format",),
        price=0.02,
    ),
    "doubao-seedream-5-0-pro-260628": Model(
        tiers=("1K", "1.5K", "2K"),
        least=921_600,
        most=4_624_220,
        inputs=10,
        own=("output_format",),
        price=0.045,
        large=0.09,
    ),
    "doubao-seedream-5-5-261028": Model(
        tiers=("1K", "1.5K", "2K"),
        least=921_600,
        most=4_624_220,
        inputs=10,
        own=("output_format",),
        price=0.020,
        large=0.035,
        per_input=0.008,
    ),
}
_LARGE = 2_601_123
_TIERS = {"adaptive": 1024, "1K": 1024, "1.5K": 1536, "2K": 2048, "3K": 3072, "4K": 4096}
_SHARED: dict[str, fields.Check] = {
    "model": fields.text(64),
    "prompt": fields.text(4000),
    "size": fields.text(16),
    "response_format": fields.choice("url", "b64_json"),
    "watermark": fields.boolean,
}
_OWN: dict[str, fields.Check] = {
    "seed": fields.whole(-1, 2_147_483_647),
    "guidance_scale": fields.number(1, 10),
    "sequential_image_generation": fields.choice("auto", "disabled"),
    "sequential_image_generation_options": fields.mapping,
    "stream": fields.boolean,
    "output_format": fields.choice("png", "jpeg"),
}
_CODES = {
    Fault.INVALID: ("InvalidParameter", 400),
    Fault.UNAUTHORIZED: ("AuthenticationError", 401),
    Fault.QUOTA: ("QuotaExceeded", 429),
    Fault.FORBIDDEN: ("AccessDenied", 403),
    Fault.UNKNOWN_MODEL: ("InvalidEndpointOrModel.NotFound", 404),
    Fault.RATE_LIMITED: ("RateLimitExceeded.EndpointRPMExceeded", 429),
    Fault.BROKEN: ("InternalServiceError", 500),
    Fault.UNAVAILABLE: ("InternalServiceError", 502),
    Fault.OVERLOADED: ("ServerOverloaded", 429),
    Fault.TIMED_OUT: ("InternalServiceError", 504),
    Fault.REFUSED_INPUT: ("InputTextSensitiveContentDetected", 400),
    Fault.REFUSED_OUTPUT: ("OutputImageSensitiveContentDetected", 400),
}
_UNSTREAMED = UNSTREAMED | {"no-stream"}
_STATUSES = {"AccountOverdueError": 403, "ModelNotOpen": 404, "SetLimitExceeded": 429}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    body: Mapping[str, Any]
    model: Model
    width: int
    height: int
    count: int
    inputs: int

    def sitting(self, index: int) -> Sitting:
        return Sitting(
            model=self.body["model"],
            prompt=self.body["prompt"],
            width=self.width,
            height=self.height,
            seed=self.body.get("seed"),
            index=index,
            format=self.body.get("output_format", "jpeg"),
            watermark=self.body.get("watermark", True),
        )

    def cost(self, made: int) -> float:
        large = self.model.large if self.width * self.height > _LARGE else None
        inputs = self.inputs * self.model.per_input if made else 0.0
        return made * (large or self.model.price) + inputs

    def usage(self, made: int) -> dict[str, int]:
        tokens = made * self.width * self.height // 256
        return {"generated_images": made, "output_tokens": tokens, "total_tokens": tokens}


class Ark(Dialect):
    """`/ark/api/v3/images/generations`."""

    def routes(self) -> Sequence[Route]:
        return (("POST", "/api/v3/images/generations", self.generations),)

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        code, status = _CODES[refused.fault]
        if refused.code in _STATUSES:
            code, status = refused.code, _STATUSES[refused.code]
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        error = {
            "code": code,
            "message": f"{refused.message} Request id: 0217{call.number:012}",
            "param": refused.param or "",
            "type": "BadRequest" if status == 400 else "Error",
        }
        status = 200 if "error-200" in call.tokens else status
        return web.json_response({"error": error}, status=status, headers=headers)

    async def generations(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/generations`."""
        asked = _read(await read_json(request, call))
        tokens = await self.begin(call, model=asked.body["model"], prompt=asked.body["prompt"])
        if (code := tokens.text("code")) is not None:
            raise Refused(Fault.INVALID, "The fake was asked for this code.", code=code)
        if tokens.text("refuse") == "output":
            raise Refused(Fault.REFUSED_OUTPUT, "The output image may be sensitive.")
        made = sum(tokens.makes(index) for index in range(asked.count))
        made = 0 if "empty" in tokens else made
        self.charge(call, made, asked.cost(made))
        if asked.body.get("stream") and not _UNSTREAMED & tokens.arguments.keys():
            return await self._stream(request, call, asked, made)
        if "bytes" in tokens:
            item = await self._item(request, tokens, asked, 0)
            key = (asked.body["model"], tokens.text("bytes"), asked.count, asked.width)
            return await self.answer(
                request, call, self.premade(key, lambda: _reply(asked, [item] * asked.count, made))
            )
        items = [await self._item(request, tokens, asked, i) for i in range(asked.count)]
        items = [] if "empty" in tokens else items
        return await self.answer(request, call, _reply(asked, items, made))

    async def _item(
        self, request: web.Request, tokens: Tokens, asked: _Asked, index: int
    ) -> dict[str, Any]:
        if not tokens.makes(index):
            code, _ = _CODES[Fault.REFUSED_OUTPUT]
            return {"error": {"code": code, "message": "The output image may be sensitive."}}
        size = {"size": f"{asked.width}x{asked.height}"}
        sitting = asked.sitting(index)
        if asked.body.get("response_format") == "b64_json":
            return {"b64_json": await self.base64(tokens, sitting), **size}
        return {"url": await self.url(request, tokens, sitting), **size}

    async def _stream(
        self, request: web.Request, call: Call, asked: _Asked, made: int
    ) -> web.StreamResponse:
        """Send each picture of the group when it is there; headers come with the first."""
        shared = {"model": asked.body["model"], "created": 1_793_000_000}
        async with Events(request, call.tokens) as events:
            for index in range(asked.count):
                if "early-end" in call.tokens and index >= call.tokens.number("early-end", 0):
                    return events.response
                item = await self._item(request, call.tokens, asked, index)
                kind = f"image_generation.partial_{'failed' if 'error' in item else 'succeeded'}"
                event = {"type": kind, **shared, "image_index": index, **item}
                await events.send(event, event=kind)
            kind = "image_generation.completed"
            await events.send({"type": kind, **shared, "usage": asked.usage(made)}, event=kind)
            await events.send("[DONE]")
            return events.response


def _read(body: dict[str, Any]) -> _Asked:
    name = str(body.get("model", ""))
    # BytePlus has names of its own for the same models.
    model = MODELS.get(name) or MODELS.get(f"doubao-{name.removeprefix('dola-')}")
    if model is None:
        raise Refused(Fault.UNKNOWN_MODEL, f"The model {body.get('model')} does not exist.")
    if stray := next((name for name in _OWN if name in body and name not in model.own), None):
        raise _invalid(stray, "is not supported by the current model")
    known = {name: value for name, value in body.items() if name in _SHARED | _OWN}
    fields.check(known, _SHARED | _OWN, "model", "prompt")
    width, height = _size(body.get("size"), model)
    inputs = _count_inputs(body.get("image"), model)
    if not inputs and not model.most:
        raise _invalid("image", "is required")
    count = 1
    if body.get("sequential_image_generation") == "auto":
        options = body.get("sequential_image_generation_options", {})
        count = options.get("max_images", 15)
        if not isinstance(count, int) or not 1 <= count <= 15 - inputs:
            raise _invalid("sequential_image_generation_options.max_images", "is out of range")
    return _Asked(body=body, model=model, width=width, height=height, count=count, inputs=inputs)


def _size(size: str | None, model: Model) -> tuple[int, int]:
    if size is None:
        return (2048, 2048) if model.tiers else (1024, 1024)
    if size in model.tiers:
        return _TIERS[size], _TIERS[size]
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        raise _invalid("size", "is not valid")
    width, height = int(match[1]), int(match[2])
    if not model.least <= width * height <= model.most:
        raise _invalid("size", f"must have {model.least} to {model.most} pixels")
    if not 1 / 16 <= width / height <= 16:
        raise _invalid("size", "must have a ratio from 1/16 to 16")
    return width, height


def _count_inputs(image: object, model: Model) -> int:
    if image is None:
        return 0
    images = image if isinstance(image, list) else [image]
    if len(images) > model.inputs:
        raise _invalid("image", f"must not be more than {model.inputs}")
    for one in images:
        if (wrong := fields.picture(10_000_000)(one)) is not None:
            raise _invalid("image", wrong)
        if isinstance(one, str) and not one.startswith("http"):
            picture = fields.opened(one)
            if min(picture.size) <= 14:
                raise _invalid("image", "must have edges of more than 14 pixels")
    return len(images)


def _reply(asked: _Asked, items: list[dict[str, Any]], made: int) -> dict[str, Any]:
    return {
        "model": asked.body["model"],
        "created": 1_793_000_000,
        "data": items,
        "usage": asked.usage(made),
    }


def _invalid(param: str, wrong: str) -> Refused:
    message = f"The parameter `{param}` specified in the request {wrong}."
    return Refused(Fault.INVALID, message, param=param)
