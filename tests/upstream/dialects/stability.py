"""Stability: forms only, the picture as bytes or in JSON, moderation that blurs with status 200."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.upstream import delivery, pictures
from tests.upstream.calls import Call, Part
from tests.upstream.dialects.dialect import Dialect, Route, read_form
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import Check, check, choice, opened_part, pixels, text
from tests.upstream.pictures import Sitting


_RATIOS = ["16:9", "1:1", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"]
_MAX_SEED = 4_294_967_294
_MAX_BODY = 10 * 1024 * 1024


def _decimal(low: float, high: float) -> Check:
    """Accept a number written in a form."""

    def judge(value: object) -> str | None:
        try:
            return None if low <= float(str(value)) <= high else f"must be from {low} to {high}"
        except ValueError:
            return "must be a number"

    return judge


_COMMON: dict[str, Check] = {
    "prompt": text(10_000),
    "negative_prompt": text(10_000),
    "seed": _decimal(0, _MAX_SEED),
    "output_format": choice("png", "jpeg", "webp"),
}
_PRESETS = choice("photographic", "anime", "digital-art", "cinematic", "comic-book", "line-art")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one service accepts, and its USD per picture."""

    fields: Mapping[str, Check]
    files: tuple[str, ...] = ()
    required: tuple[str, ...] = ("prompt",)
    price: float


SERVICES = {
    "generate/core": Service(
        fields={**_COMMON, "aspect_ratio": choice(*_RATIOS), "style_preset": _PRESETS}, price=0.03
    ),
    "generate/ultra": Service(
        fields={
            **_COMMON,
            "aspect_ratio": choice(*_RATIOS),
            "style_preset": _PRESETS,
            "strength": _decimal(0, 1),
        },
        files=("image",),
        price=0.08,
    ),
    "generate/sd3": Service(
        fields={
            **_COMMON,
            "output_format": choice("png", "jpeg"),
            "aspect_ratio": choice(*_RATIOS),
            "model": choice("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash"),
            "mode": choice("text-to-image", "image-to-image"),
            "strength": _decimal(0, 1),
            "cfg_scale": _decimal(1, 10),
        },
        files=("image",),
        price=0.065,
    ),
    "edit/inpaint": Service(
        fields={**_COMMON, "grow_mask": _decimal(0, 100), "style_preset": _PRESETS},
        files=("image", "mask"),
        required=("prompt", "image"),
        price=0.05,
    ),
}
_SD3_PRICES = {"sd3.5-large-turbo": 0.04, "sd3.5-medium": 0.035, "sd3.5-flash": 0.025}
_NAMES = {400: "bad_request", 401: "unauthorized", 402: "payment_required", 404: "not_found"}
_STATUSES = {Fault.REFUSED_INPUT: 403, Fault.REFUSED_OUTPUT: 403}
_MODERATED = "Your request was flagged by our content moderation system."


class Stability(Dialect):
    """`/stability/v2beta/stable-image/…`."""

    def routes(self) -> Sequence[Route]:
        return (("POST", "/v2beta/stable-image/{group}/{service}", self.make),)

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        moderated = refused.fault in _STATUSES
        message = f"{refused.param}: {refused.message}" if refused.param else refused.message
        body = {
            "id": f"{call.number:032x}",
            "name": "content_moderation" if moderated else _NAMES.get(status, "error"),
            "errors": [_MODERATED if moderated else message],
        }
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        return web.json_response(body, status=status, headers=headers)

    async def make(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /{group}/{service}`."""
        name = f"{request.match_info['group']}/{request.match_info['service']}"
        service = SERVICES.get(name)
        if service is None:
            raise Refused(Fault.UNKNOWN_MODEL, "The requested service does not exist.")
        fields, parts = await _read(request, call, service)
        model = fields.get("model", name.removeprefix("generate/"))
        tokens = await self.begin(call, model=model, prompt=fields["prompt"])
        withheld = tokens.text("refuse") == "output"
        blank = "empty" in tokens
        if not withheld and not blank:
            self.charge(call, 1, _SD3_PRICES.get(model, service.price))
        sitting = _sitting(name, fields, parts)
        finish = "CONTENT_FILTERED" if withheld else "SUCCESS"
        if request.headers.get("Accept") == "image/*":
            body = b"" if blank else pictures.draw(sitting)
            headers = {"finish-reason": finish, "seed": "42"}
            return await delivery.send(
                request, tokens, body, content_type=sitting.content_type, headers=headers
            )
        image = None if blank else await self.base64(tokens, sitting)
        payload = {"image": image, "finish_reason": finish, "seed": 42}
        return await self.answer(request, call, payload)


async def _read(
    request: web.Request, call: Call, service: Service
) -> tuple[dict[str, Any], dict[str, Part]]:
    if request.content_type != "multipart/form-data":
        raise Refused(Fault.INVALID, "content-type: must be multipart/form-data")
    if (request.content_length or 0) > _MAX_BODY:
        raise Refused(Fault.INVALID, "The request is over 10 MiB.")
    if request.headers.get("Accept") not in ("image/*", "application/json"):
        raise Refused(Fault.INVALID, "accept: must be image/* or application/json")
    fields, files = await read_form(request, call)
    parts = {part.name: part for part in files if part.size}
    for part in parts.values():
        if part.name not in service.files:
            raise Refused(Fault.INVALID, "is not a field of this service", param=part.name)
        opened_part(part)
    known = {name: value for name, value in fields.items() if name != "none"}
    check(known, service.fields, *(name for name in service.required if name not in service.files))
    for name in service.required:
        if name in service.files and name not in parts:
            raise Refused(Fault.INVALID, "is required", param=name)
    _check_together(known, parts)
    return known, parts


def _check_together(fields: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    image, mask = parts.get("image"), parts.get("mask")
    if fields.get("mode") == "image-to-image" and (image is None or "strength" not in fields):
        raise Refused(Fault.INVALID, "image and strength are required", param="mode")
    if image is not None and "aspect_ratio" in fields:
        raise Refused(Fault.INVALID, "is for text-to-image only", param="aspect_ratio")
    if image is not None and mask is not None:
        sizes = {opened_part(image).size, opened_part(mask).size}
        if len(sizes) > 1:
            raise Refused(Fault.INVALID, "must have the size of the image", param="mask")


def _sitting(name: str, fields: Mapping[str, Any], parts: Mapping[str, Part]) -> Sitting:
    width, height = pixels(fields.get("aspect_ratio", "1:1"), 1024)
    if "image" in parts:
        width, height = opened_part(parts["image"]).size
    return Sitting(
        model=name,
        prompt=fields["prompt"],
        width=width,
        height=height,
        seed=int(fields["seed"]) if "seed" in fields else None,
        format=fields.get("output_format", "png"),
    )
