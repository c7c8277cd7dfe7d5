"""xAI (Grok Imagine): JSON for edits too, no size, its charge in ticks, moderation with status 200.

More tokens of this dialect:

    [[error:string]] [[error:object]]   faults as `{"error": "text"}`, or in OpenAI's envelope
    [[refuse:input]] [[quiet]]          the prompt is refused with status 200 and a reason alone
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Dialect, Route, read_json
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import check, choice, mapping, picture, pixels, text, whole
from tests.upstream.pictures import Sitting
from tests.upstream.tokens import Tokens


TICKS = 10_000_000_000
NEWEST = "grok-imagine-image-2.0"
PRICES = {"grok-imagine-image": 0.02, "grok-imagine-image-quality": 0.05}
MATRIX = {
    "low": {"1k": 0.04, "1.5k": 0.05, "2k": 0.06},
    "medium": {"1k": 0.06, "1.5k": 0.07, "2k": 0.08},
}
_PER_INPUT = 0.01
_MAX_SOURCES = 3
_MAX_SOURCE = 10 * 1024 * 1024
_EDGES = {"1k": 1024, "1.5k": 1536, "2k": 2048}
_RATIOS = [
    "1:1",
    "3:4",
    "4:3",
    "9:16",
    "16:9",
    "2:3",
    "3:2",
    "9:19.5",
    "19.5:9",
    "9:20",
    "20:9",
    "1:2",
    "2:1",
    "auto",
]
_FIELDS = {
    "model": text(64),
    "prompt": text(8000),
    "n": whole(1, 10),
    "response_format": choice("url", "b64_json"),
    "aspect_ratio": choice(*_RATIOS),
    "resolution": choice("1k", "1.5k", "2k"),
    "quality": choice("low", "medium", "high"),
    "user": text(256),
}
_UNKNOWN_ARGUMENTS = {"size", "style", "seed", "mask", "stream", "background", "output_format"}
_STATUSES = {Fault.QUOTA: 403, Fault.REFUSED_INPUT: 400, Fault.REFUSED_OUTPUT: 400}
_POLICY = "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_IMAGE"
_BROKE = "Your team has used all available credits or reached its monthly spending limit."


class XAI(Dialect):
    """`/xai/v1/images/…`."""

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/v1/images/generations", self.generations),
            ("POST", "/v1/images/edits", self.edits),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        if refused.code is not None and refused.code.isdigit():
            status = int(refused.code)
        special = {Fault.REFUSED_INPUT: _POLICY, Fault.QUOTA: _BROKE}
        message = special.get(refused.fault, refused.message)
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        match call.tokens.text("error"):
            case "string":
                body: dict[str, Any] = {"error": message}
            case "object":
                error = {"message": message, "type": "api_error", "param": None, "code": None}
                body = {"error": error}
            case _:
                body = {"code": "The request failed", "error": message}
        return web.json_response(body, status=status, headers=headers)

    async def generations(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/generations`."""
        body = await _read(request, call)
        check(body, _FIELDS, "model", "prompt")
        return await self._make(request, call, body, sources=0)

    async def edits(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/edits`."""
        body = await _read(request, call)
        check(body, {**_FIELDS, "image": mapping, "images": _a_list}, "model", "prompt")
        return await self._make(request, call, body, sources=_count_sources(body))

    async def _make(
        self, request: web.Request, call: Call, body: Mapping[str, Any], *, sources: int
    ) -> web.StreamResponse:
        price = _price(body) + _PER_INPUT * sources
        if "[[quiet]]" in body["prompt"]:
            call.model, call.prompt = body["model"], body["prompt"]
            return web.json_response({"data": [], "block_reason": "The prompt was blocked."})
        tokens = await self.begin(call, model=body["model"], prompt=body["prompt"])
        count = 0 if "empty" in tokens else body.get("n", 1)
        made = [index for index in range(count) if tokens.makes(index)]
        moderated = tokens.text("refuse") == "output"
        bill = 0.0 if moderated else self.charge(call, len(made), price * len(made))
        payload = {
            "data": [
                _withheld() if moderated else await self._item(request, tokens, body, index)
                for index in made
            ],
            "usage": {"cost_in_usd_ticks": round(bill * TICKS)},
        }
        return await self.answer(request, call, payload)

    async def _item(
        self, request: web.Request, tokens: Tokens, body: Mapping[str, Any], index: int
    ) -> dict[str, Any]:
        width, height = _pixels(body)
        sitting = Sitting(
            model=body["model"],
            prompt=body["prompt"],
            width=width,
            height=height,
            index=index,
            format="jpeg",
        )
        told = {"mime_type": "image/jpeg", "revised_prompt": "", "respect_moderation": True}
        if body.get("response_format") == "b64_json":
            return {"b64_json": await self.base64(tokens, sitting), **told}
        return {"url": await self.url(request, tokens, sitting, lifetime=3600.0), **told}


async def _read(request: web.Request, call: Call) -> dict[str, Any]:
    if request.content_type != "application/json":
        message = "Expected request with `Content-Type: application/json`"
        raise Refused(Fault.INVALID, message, code="415")
    body = await read_json(request, call)
    if strays := _UNKNOWN_ARGUMENTS & body.keys():
        raise Refused(Fault.INVALID, f"Argument not supported: {min(strays)}")
    known = {"n", "response_format", "aspect_ratio", "resolution", "quality"}
    for name in known & body.keys():
        if (wrong := _FIELDS[name](body[name])) is not None:
            message = f"Failed to deserialize the JSON body: {name}: {wrong}"
            raise Refused(Fault.INVALID, message, code="422")
    return body


def _price(body: Mapping[str, Any]) -> float:
    """Check what depends on the model, and return the USD of one picture."""
    model, resolution = body["model"], body.get("resolution", "1k")
    if model == NEWEST:
        prices = MATRIX.get(body.get("quality", "medium"))
        if prices is None:
            raise Refused(Fault.INVALID, "Argument not supported: quality=high")
        return prices[resolution]
    if model not in PRICES:
        raise Refused(Fault.UNKNOWN_MODEL, f"The model {model} does not exist.")
    if resolution == "1.5k":
        raise Refused(Fault.INVALID, "Argument not supported: resolution=1.5k")
    return PRICES[model]


def _count_sources(body: Mapping[str, Any]) -> int:
    if ("image" in body) == ("images" in body):
        raise Refused(Fault.INVALID, "Exactly one of `image` and `images` must be set.")
    sources = body["images"] if "images" in body else [body["image"]]
    if not 1 <= len(sources) <= _MAX_SOURCES:
        raise Refused(Fault.INVALID, f"At most {_MAX_SOURCES} images are supported.")
    for source in sources:
        check(source, {"url": picture(_MAX_SOURCE), "type": choice("image_url")}, "url")
    return len(sources)


def _pixels(body: Mapping[str, Any]) -> tuple[int, int]:
    edge = _EDGES[body.get("resolution", "1k")]
    ratio = body.get("aspect_ratio", "auto")
    return pixels("1:1" if ratio == "auto" else ratio, edge)


def _withheld() -> dict[str, Any]:
    return {"url": "", "mime_type": "image/jpeg", "respect_moderation": False}


def _a_list(value: object) -> str | None:
    return None if isinstance(value, list) else "Input should be a list"
